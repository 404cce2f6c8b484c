"""Fixtures shared by the tests of streaming."""

from exports import export  # noqa: F401  (a fixture)
