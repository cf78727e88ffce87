"""A working scenario from what a team already has: a table, a chat file, an OpenAI Evals export, a promptfoo file."""
