"""Fixtures shared by the tests of the exporter."""

from exports import export  # noqa: F401  (a fixture)
