"""Scenarios: what a `scenario.yaml` may say, and how it is loaded and checked."""
