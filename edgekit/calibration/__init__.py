"""Calibration: runs texts through the model to prepare GPTQ and scaling."""
