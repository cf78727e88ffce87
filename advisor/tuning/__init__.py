"""Fine-tuning a candidate: forecast, money, training, and what it did to the model."""
