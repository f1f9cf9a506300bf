"""What the training of a model is made of."""
