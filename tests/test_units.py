"""Parsing and formatting sizes, durations and rates."""

from __future__ import annotations

import pytest

from edgekit.units import (
    GIB,
    MIB,
    format_bytes,
    format_count,
    format_plain,
    format_rate,
    format_seconds,
    parse_bytes,
    parse_seconds,
    parse_token_rate,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.2 GB", 5_200_000_000),
        ("8 GiB", 8 * GIB),
        ("8gib", 8 * GIB),
        (" 512MiB ", 512 * MIB),
        ("1 kB", 1000),
        ("1 TiB", 1024 * GIB),
        ("100", 100),
        ("0 B", 0),
        ("0.5 KiB", 512),
        (4096, 4096),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["9" * 400, "8388608 TiB", "9999999999999 GB"])
def test_sizes_that_nothing_holds(text: str) -> None:
    with pytest.raises(ValueError, match="must be below 8 EiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "GB", "1 XB", "-1 GB", "1e9", "1,5 GB", "5 GB more", True, "1 g"])
def test_invalid_sizes(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write a number and one of B, KB, MB, GB, TB, KiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (97_900_000, "97.9 MB"), (1_020_000_000, "1.02 GB"),
        (512_000_000_000, "512 GB"), (2e12, "2.00 TB"), (-1_500_000, "-1.50 MB"),
    ],
)  # fmt: skip
def test_sizes_have_three_digits(count: float, expected: str) -> None:
    assert format_bytes(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(4096, "4096"), (134_515_008, "135 M"), (1_777_088_000, "1.78 B"), (70_553_706_496, "70.6 B"), (1e6, "1.00 M")],
)
def test_counts(count: float, expected: str) -> None:
    assert format_count(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0119, "12 ms"), (1, "1.0 s"), (3.44, "3.4 s"), (60, "1 min 00 s"), (125.4, "2 min 05 s"),
        (3599.4, "59 min 59 s"), (3600, "1 h 00 min"), (3720, "1 h 02 min"), (90_000, "25 h 00 min"),
    ],
)  # fmt: skip
def test_durations_are_formatted(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


def test_rates_are_formatted() -> None:
    assert format_rate(26.4e9, "B") == "26.4 GB/s"
    assert format_rate(17.64, "tok") == "17.6 tok/s"
    assert format_rate(3.456, "tok") == "3.46 tok/s"


@pytest.mark.parametrize(
    ("value", "expected"), [(0.005 / 60, "0.00008333333333"), (1e9, "1000000000"), (2.5, "2.5"), (3, "3")]
)
def test_plain_numbers_have_no_exponent(value: float, expected: str) -> None:
    assert format_plain(value) == expected
    assert parse_token_rate(expected) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "expected"), [("300 ms", 0.3), ("2 min", 120), ("5", 5), ("1.5s", 1.5), ("1 H", 3600)]
)
def test_durations_are_parsed(text: str, expected: float) -> None:
    assert parse_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "expected"), [("10 tok/s", 10), ("10", 10), ("90 tok/min", 1.5), ("2 tokens/s", 2)])
def test_speeds_are_parsed(text: str, expected: float) -> None:
    assert parse_token_rate(text) == pytest.approx(expected)


def test_invalid_durations_and_speeds() -> None:
    with pytest.raises(ValueError, match=r"'5 d' is not a duration; write a number and one of s, ms, min, h"):
        parse_seconds("5 d")
    with pytest.raises(ValueError, match=r"'fast' is not a speed; write a number and one of tok/s, tokens/s, tok/min"):
        parse_token_rate("fast")
    for parse, text in (
        (parse_seconds, "0 s"),
        (parse_token_rate, "0"),
        (parse_seconds, "9" * 400),
        (parse_token_rate, "9" * 10),
    ):
        with pytest.raises(ValueError, match="must be above 0"):
            parse(text)
