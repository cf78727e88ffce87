"""Measures: tasks, scorers, trials, the store and the statistics. Imports `backends`, never `advisor`."""
