"""From the outputs of the models to texts."""
