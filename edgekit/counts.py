"""Checks the numbers that a program gives to the API, where Python would go on with a fraction, a truth or a text."""

from __future__ import annotations


def check_count(name: str, value: object, least: int = 1, error: type[Exception] = ValueError) -> None:
    """Check a count of something.

    Raises:
        ValueError: It is not a whole number of at least ``least``. ``error`` replaces the class.
    """
    if not _is_whole(value) or value < least:  # type: ignore[operator]
        raise error(f"{name} is {value!r}; it must be a whole number of at least {least}")


def check_whole(name: str, value: object) -> None:
    """Check a number whose range is checked elsewhere.

    Raises:
        ValueError: It is not a whole number.
    """
    if not _is_whole(value):
        raise ValueError(f"{name} is {value!r}; it must be a whole number")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
