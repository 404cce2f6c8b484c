"""Prints a receipt: the checks, the figures, and what contradicts the device's profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..units import format_bytes, format_rate, format_seconds
from ._output import Column, open_screen

if TYPE_CHECKING:
    from ..deploy.receipt import Receipt

_SHOWN = {"pass": ("pass", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


def print_receipt(receipt: Receipt) -> None:
    """Print a receipt on stdout."""
    screen = open_screen()
    rows = [(_SHOWN[check.verdict], check.name, check.detail) for check in receipt.checks]
    screen.table((Column(), Column(), Column(wraps=True)), rows)
    if receipt.load_s is None or receipt.ttft_s is None or receipt.decode_tok_s is None:
        return
    if receipt.predicted is not None:
        found, word = receipt.predicted, "as predicted" if receipt.as_predicted else "not as predicted"
        screen.say(
            f"\ndecode {word} for {found.device}: {found.mid:.3g} tok/s expected, 80 % prediction interval "
            f"{found.low:.3g} to {found.high:.3g}"
        )
    peak = f", peak memory {format_bytes(receipt.peak_rss_bytes)}" if receipt.peak_rss_bytes else ""
    screen.say(
        f"\nload {format_seconds(receipt.load_s)}, first token {format_seconds(receipt.ttft_s)}, "
        f"decode {format_rate(receipt.decode_tok_s, 'tok')}{peak}"
    )
    if receipt.contradictions:
        screen.say(f"\nThis machine contradicts the profile of {receipt.device}:")
        for each in receipt.contradictions:
            screen.say(f"  {each.figure}: {each.profile} in the profile, {each.measured} measured. {each.detail}")
        screen.say(("edgekit devices --from-receipt FILE writes a profile with the measured figures", "dim"))
