"""What a model is worth: predictions, metrics, size and speed."""
