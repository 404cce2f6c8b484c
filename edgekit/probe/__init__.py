"""Measures this machine: its limits, and the speed of the engines on it."""
