"""Prints the contents of an artifact and the placement of its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..units import format_bytes, format_count, format_seconds
from ._output import Cell, Column, open_screen

if TYPE_CHECKING:
    from ..artifact.manifest import Manifest
    from ..inspection.contents import Contents
    from ..inspection.placement import Place, Placement

_STYLES = {"fast": "green", "slow": "bold red", "copy": "yellow", "host": ""}


def print_contents(contents: Contents, manifest: Manifest) -> None:
    """Print what is in an artifact, with sums by width and block size."""
    screen = open_screen()
    total = contents.size_bytes + contents.other_bytes
    screen.say(
        f"{manifest.name}: {format_bytes(total)}, {format_bytes(contents.size_bytes)} of it weights with "
        f"{manifest.bits_per_weight:.2f} bits each, {manifest.activation_type} activations\n"
    )
    columns = (
        Column("part"),
        Column("format"),
        Column("tensors", right=True),
        Column("size", right=True),
        Column("per token", right=True),
        Column("time", right=True),
        Column("weights", right=True, optional=True),
    )
    rows: list[list[Cell]] = []
    for part in contents.parts:
        size = format_bytes(part.size_bytes) if part.size_bytes else "shared"
        read = format_bytes(part.token_bytes) if part.token_bytes else ""
        weights = format_count(part.weights) if part.weights else ""
        rows.append([part.name, part.format, str(part.tensors or ""), size, read, _percent(part.time_share), weights])
    if contents.time is not None:
        rows.append(["fixed per layer", "", "", "", "", _percent(contents.fixed_share), ""])
    bold = [
        "sum", "", str(sum(p.tensors for p in contents.parts if p.size_bytes)), format_bytes(contents.size_bytes),
        format_bytes(contents.token_bytes), "100%",
        format_count(sum(p.weights for p in contents.parts if p.size_bytes)),
    ]  # fmt: skip
    screen.table(columns, [*rows, [(text, "bold") for text in bold]])
    screen.say()
    for each in contents.by_format():
        width = f"{each.bits} bits" + (f", blocks of {each.block_size}" if each.block_size else " (float)")
        noun = "matrix" if each.tensors == 1 else "matrices"
        screen.say(
            f"{width}: {each.tensors} {noun}, {format_count(each.weights)} weights, {format_bytes(each.size_bytes)}, "
            f"{_percent(each.time_share)} of {'the planned time' if contents.time else 'what a token reads'}"
        )
    screen.say(_planned(contents))


def _planned(contents: Contents) -> str:
    device = "this machine" if contents.device == "cpu" else contents.device
    where = f"the engine {contents.engine} on {device}" if device else f"the engine {contents.engine}"
    cache = (
        f"A token at the end of a context of {contents.context} also reads {format_bytes(contents.cache_bytes)} "
        "of keys and values"
    )
    if contents.time is None:
        return f"The speed of {where} is unknown, so the time is the share of the bytes. {cache}."
    alone = contents.time.weights_s + contents.time.fixed_s
    return (
        f"The time is planned for {where}: {format_seconds(alone)} with an empty context. {cache}, which takes "
        f"{contents.time.cache_s / alone:.0%} more time."
    )


def print_placement(placement: Placement) -> None:
    """Print where the nodes run, with sums by state, and the warnings."""
    screen = open_screen()
    screen.say(f"\nengine {placement.engine}: {placement.kernel}\n")
    timed = any(place.time_share is not None for place in placement.places)
    columns = (
        Column("nodes"),
        Column("count", right=True),
        Column("runs on", wraps=True, min_width=13),
        Column("kernel"),
        *([Column("time", right=True)] if timed else []),
        Column("bytes", right=True),
        Column("operator", optional=True),
        Column("format", optional=True),
    )
    screen.table(columns, [_row(place, timed) for place in placement.places])
    screen.say()
    for each in placement.sums():
        if not each.nodes and each.state not in ("fast", "slow", "copy"):
            continue
        more = [f"{format_bytes(each.weight_bytes)} of weights"] if each.weight_bytes else []
        more += [f"{format_bytes(each.copied_bytes)} for each token"] if each.copied_bytes else []
        more += [f"{_percent(each.time_share)} of the measured time"] if each.time_share is not None else []
        screen.say(", ".join([f"{each.title}: {each.nodes} node{'s' * (each.nodes != 1)}", *more]))
    for warning in placement.warnings():
        screen.say(("warning", "bold yellow"), f": {warning}")


def _row(place: Place, timed: bool) -> list[Cell]:
    size = place.weight_bytes or place.copied_bytes
    return [
        place.part or place.operator,
        str(place.nodes),
        place.runs_on,
        (place.state, _STYLES[place.state]),
        *([_percent(place.time_share or 0)] if timed else []),
        format_bytes(size) if size else "",
        place.operator if place.part else "",
        place.format,
    ]


def _percent(share: float) -> str:
    """``12%``, ``0.3%``, or nothing for nothing."""
    if share == 0:
        return ""
    percent = 100 * share
    if percent < 0.05:
        return "<0.1%"
    return f"{percent:.1f}%" if percent < 9.95 else f"{percent:.0f}%"
