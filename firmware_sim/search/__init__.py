"""The search: from the outputs of the models to texts."""
