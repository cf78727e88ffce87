"""Finds the passages of documents that bear on a query."""
