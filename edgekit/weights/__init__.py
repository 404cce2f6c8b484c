"""Sources of a model's tensors as they are to be written."""
