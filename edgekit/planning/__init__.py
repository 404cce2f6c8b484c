"""Predicts memory and speed by arithmetic alone: no files, no network, no numpy."""
