"""Serving the winner of a run, or a model as it is, to clients of the OpenAI chat protocol."""
