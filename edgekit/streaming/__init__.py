"""Runs a model one layer at a time, in the memory of one layer."""
