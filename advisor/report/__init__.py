"""Writes what a run found: report.json for programs, report.md for people."""
