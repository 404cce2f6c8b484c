"""``edgekit plan --plot``: decode speed and memory over the context, a curve for each model and device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..devices import DeviceProfile
from ..errors import EdgekitError
from ..planning.plan import Plan, PlanOptions
from ..planning.planner import plan_without_offers
from ..recipes import Recipe
from ..units import format_bytes
from ._svg import COLOURS, Line, Panel, draw

_POINTS = 24  # of a curve: they bend little
_MOST_CURVES = len(COLOURS)


def picture(pairs: Sequence[tuple[Recipe, DeviceProfile]], options: PlanOptions) -> str:
    """The SVG of models on devices, to the longest context all of them hold, at most 32768 tokens.

    Args:
        pairs: What to draw, at least one; the first eight are drawn.
        options: As for the plan.
    """
    pairs = pairs[:_MOST_CURVES]
    longest = min(recipe.max_context for recipe, _ in pairs)
    contexts = sorted({max(1, round(longest * at / _POINTS)) for at in range(_POINTS + 1)})
    one_device = len({device.name for _, device in pairs}) == 1
    speeds, sizes = [], []
    for (recipe, device), colour in zip(pairs, COLOURS, strict=False):
        label = _short(recipe.name) if one_device else device.name
        plans = [plan_without_offers(recipe, device, context, options=options) for context in contexts]
        speed = _speed(plans)
        if speed:
            points = [(x, mid) for x, _, mid, _ in speed]
            band = [(x, low, high) for x, low, _, high in speed]
            speeds.append(Line(label, points, colour, band, dashed=not plans[0].fits))
        memory = [(float(p.context), p.memory.peak / 1e9) for p in plans]
        sizes.append(Line(label, memory, colour, dashed=not plans[0].fits))
    return draw(*_titles(pairs, one_device), "context, tokens", _panels(pairs, one_device, speeds, sizes))


def _panels(
    pairs: Sequence[tuple[Recipe, DeviceProfile]], one_device: bool, speeds: list[Line], sizes: list[Line]
) -> list[Panel]:
    device = pairs[0][1]
    usable = (device.usable_bytes / 1e9, f"{format_bytes(device.usable_bytes)} usable") if one_device else None
    wanted = device.budget.decode_tok_s if one_device else None
    limit = (wanted.value, f"budget {wanted.value:g} tok/s") if wanted else None
    memory = Panel("Memory", "GB", sizes, usable)
    return [Panel("Decode speed", "tokens per second", speeds, limit), memory] if speeds else [memory]


def _titles(pairs: Sequence[tuple[Recipe, DeviceProfile]], one_device: bool) -> tuple[str, str]:
    recipe, device = pairs[0]
    title = device.title if one_device else recipe.title
    return title, "expected, with the band that holds 80 % of cases; dashed: does not fit"


def _speed(plans: Sequence[Plan]) -> list[tuple[float, float, float, float]]:
    """(context, low, mid, high) of decoding at the end of each context."""
    found = []
    for p in plans:
        interval = p.latency.decode_full_tok_s
        if interval is not None:
            found.append((float(p.context), interval.low, interval.mid, interval.high))
    return found


def _short(name: str) -> str:
    """Without what all of them begin with."""
    return name.removeprefix("deepseek-").replace("-distill", "")


def write_picture(path: Path, pairs: Sequence[tuple[Recipe, DeviceProfile]], options: PlanOptions) -> None:
    """Draw into a ``.svg`` or ``.png`` file.

    Raises:
        EdgekitError: A .png is asked for and the extra that draws it is not installed, or nothing is there to draw.
        click.ClickException: The file cannot be written.
    """
    if not pairs:
        raise EdgekitError("there is nothing to draw: the model fits no device")
    text = picture(pairs, options)
    content = text.encode() if path.suffix == ".svg" else _png(text)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None


def _png(svg: str) -> bytes:
    try:
        import resvg_py
    except ImportError:
        raise EdgekitError(
            "a .png is drawn by resvg-py, which is not installed",
            hint='pip install "edgekit-llm[png]", or ask for a .svg',
        ) from None
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=2))
