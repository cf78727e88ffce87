"""Talks: where models live. Imports nothing of `evals` or `advisor`."""
