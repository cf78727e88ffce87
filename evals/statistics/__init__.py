"""Statistics of the decision: pure functions over scores, no model, no file, no clock."""
