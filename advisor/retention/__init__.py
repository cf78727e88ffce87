"""What a fine-tune cost the model of what it knew: a probe before and after."""
