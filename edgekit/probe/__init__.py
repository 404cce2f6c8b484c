"""Measures this machine: its limits, and what the engines make of them."""
