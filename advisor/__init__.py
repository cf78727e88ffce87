"""Decides: techniques, the ladder, the verdict and the report. Imports `evals` and `backends`."""
