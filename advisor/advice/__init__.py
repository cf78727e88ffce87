"""The recommendation in words: what to do, why, what could change it. Plain code over facts; no model writes it."""
