"""What happens to an artifact on its device: the smoke test."""
