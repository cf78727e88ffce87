"""Models on this machine: inference with transformers, embeddings, LoRA training."""
