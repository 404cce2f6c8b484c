"""Checks what a program gives to the API, where Python would go on with a fraction, a truth, a text or its letters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any


def check_count(
    name: str, value: object, least: int = 1, error: type[Exception] = ValueError, most: int | None = None
) -> None:
    """Check a count of something.

    Raises:
        ValueError: It is not a whole number of at least ``least``, or above ``most``. ``error`` replaces the class.
    """
    if not _is_whole(value) or value < least or (most is not None and value > most):  # type: ignore[operator]
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise error(f"{name} is {value!r}; it must be a whole number {allowed}")


def check_whole(name: str, value: object) -> None:
    """Check a number whose range is checked elsewhere.

    Raises:
        ValueError: It is not a whole number.
    """
    if not _is_whole(value):
        raise ValueError(f"{name} is {value!r}; it must be a whole number")


def check_truth(name: str, value: object, *, optional: bool = False, error: type[Exception] = ValueError) -> None:
    """Check a truth value: ``"false"`` and ``0`` are none.

    Args:
        name: What it is called.
        value: The value.
        optional: Whether it may be None.
        error: Replaces the class of the exception.

    Raises:
        ValueError: It is neither True nor False.
    """
    if not isinstance(value, bool) and not (optional and value is None):
        raise error(f"{name} is {value!r}; it must be True or False{' or None' if optional else ''}")


def check_kind(name: str, value: object, *kinds: type, error: type[Exception] = ValueError) -> None:
    """Check that a value is None or an object of one of these classes.

    Raises:
        ValueError: It is neither. ``error`` replaces the class.
    """
    if value is not None and not isinstance(value, kinds):
        allowed = " or ".join(kind.__name__ for kind in kinds)
        raise error(f"{name} is {value!r}; it must be {allowed}, or None")


def one_or_several(name: str, value: object, error: type[Exception] = ValueError) -> tuple[Any, ...]:
    """A text or path as a tuple of one, and several as a tuple, so that a single text is not taken for its letters.

    Raises:
        ValueError: It is neither a text, a path nor a list. ``error`` replaces the class.
    """
    if isinstance(value, (str, PathLike)):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, (bytes, bytearray, Mapping)):
        raise error(f"{name} is {value!r}; it must be a text or a list of texts")
    return tuple(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
