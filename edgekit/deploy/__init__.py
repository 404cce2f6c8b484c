"""Tests an artifact on its device."""
