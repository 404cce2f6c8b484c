"""What GPTQ and scaling learn from texts before weights are rounded."""
