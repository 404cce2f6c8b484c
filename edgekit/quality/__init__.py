"""Measures artifacts against their float models; records and replays golden tests."""
