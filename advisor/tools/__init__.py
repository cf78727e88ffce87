"""Tools of a task: described, asked for by models, and run in a process of their own."""
