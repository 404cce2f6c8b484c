"""Draws ``edgekit plan --plot`` with matplotlib: a curve per model or device in panels for speed and memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullLocator

from ..devices import DeviceProfile
from ..output_file import write_output
from ..planning.draft import draft
from ..planning.efficiency import Interval
from ..planning.plan import Plan, PlanOptions
from ..recipes import Recipe
from ..units import format_bytes, format_seconds

# The palette of Okabe and Ito, which colour-blind readers can tell apart, without its yellow; two darker colours added.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d00", "#5b3a8c", "#4d4d4d")
_GREY = "#596573"
_DASHES = (0, (4, 2))
_POINTS = 16  # of a curve along a linear axis
_SHORTEST_PROMPT = 16
_LOG_ABOVE = 10.0  # the ratio of the largest to the smallest value that makes an axis logarithmic
_STYLE: dict[Any, object] = {  # the type of the keys differs between versions of matplotlib
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "grid.color": "#e4e7eb",
    "axes.edgecolor": _GREY, "xtick.color": _GREY, "ytick.color": _GREY,
    "svg.fonttype": "none", "svg.hashsalt": "edgekit",  # text stays text, and the same plan gives the same bytes
}  # fmt: skip
_METADATA: dict[str, dict[str, None]] = {  # no dates and versions in the file
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}


@dataclass(frozen=True)
class _Curve:
    """A model on a device, planned at several contexts. The prompt of each plan fills its context.

    Attributes:
        label: For the legend.
        colour: Of the lines and bands.
        plans: One per context, the shortest first.
        planned: The requested plan.
    """

    label: str
    colour: str
    plans: Sequence[Plan]
    planned: Plan

    @property
    def fitting(self) -> int:
        """How many of the plans fit; memory grows with the context, so these come first."""
        return sum(p.fits for p in self.plans)


def write_picture(
    path: Path, pairs: Sequence[tuple[Recipe, DeviceProfile]], context: int | None, options: PlanOptions
) -> None:
    """Draw models on devices into a ``.svg``, ``.png`` or ``.pdf`` file.

    Args:
        path: The file; its suffix chooses the format.
        pairs: What to draw, at least one. Of more than eight, eight are drawn that span the range of speeds.
        context: Tokens, as requested; None for each device's default.
        options: As for the plan.

    Raises:
        click.ClickException: The file cannot be written.
    """
    chosen = _spread(pairs, context, options)
    recipe, device = chosen[0]
    one_device = all(other.name == device.name for _, other in chosen)
    curves = [
        _curve(*pair, pair[0].name if one_device else pair[1].name, colour, context, options)
        for pair, colour in zip(chosen, _COLOURS, strict=False)
    ]
    title = device.title if one_device else recipe.title
    if one_device and len(chosen) == 1:
        title = f"{recipe.title} on {device.title}"
    elif len(chosen) < len(pairs):
        title += (
            f": {len(chosen)} of {len(pairs)} models" if one_device else f" on {len(chosen)} of {len(pairs)} devices"
        )
    with matplotlib.rc_context(_STYLE):
        picture = io.BytesIO()
        _figure(title, curves).savefig(picture, dpi=160, format=path.suffix[1:], metadata=_METADATA[path.suffix])
    try:
        write_output(path, picture.getvalue())
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None


def _spread(
    pairs: Sequence[tuple[Recipe, DeviceProfile]], context: int | None, options: PlanOptions
) -> Sequence[tuple[Recipe, DeviceProfile]]:
    """At most as many pairs as there are colours, evenly spaced from the fastest to the slowest that fits."""
    if len(pairs) <= len(_COLOURS):
        return pairs
    plans = [(draft(*pair, context, options=options), pair) for pair in pairs]
    speeds = [(found.mid if (found := p.latency.decode_tok_s) else 0.0, p.fits, pair) for p, pair in plans]
    known = [each for each in speeds if each[0]]
    candidates = [each for each in known if each[1]] or known or speeds
    ordered = [pair for _, _, pair in sorted(candidates, key=lambda each: -each[0])]
    count = min(len(_COLOURS), len(ordered))
    return [ordered[round(i * (len(ordered) - 1) / max(count - 1, 1))] for i in range(count)]


def _curve(
    recipe: Recipe, device: DeviceProfile, label: str, colour: str, context: int | None, options: PlanOptions
) -> _Curve:
    longest = recipe.max_context
    shortest = min(_SHORTEST_PROMPT, longest)
    contexts = {round(shortest + (longest - shortest) * i / _POINTS) for i in range(_POINTS + 1)}
    contexts |= {min(round(shortest * 2 ** (i / 2)), longest) for i in range(2 * (longest // shortest).bit_length())}
    planned = draft(recipe, device, context, options=options)
    options = replace(options, engine=planned.engine)  # at all contexts, so that a curve has no steps
    plans = [
        draft(recipe, device, tokens, options=replace(options, prompt_tokens=tokens)) for tokens in sorted(contexts)
    ]
    return _Curve(label, colour, plans, planned)


def _figure(title: str, curves: Sequence[_Curve]) -> Figure:
    """The panels side by side, the legend below them. The speed panels are left out where no speed is known."""
    timed = [curve for curve in curves if curve.planned.latency.decode_tok_s is not None]
    panels = 3 if timed else 1
    figure = Figure(figsize=(4.4 * panels, 4.6) if timed else (6.4, 4.8))
    figure.set_layout_engine("constrained", w_pad=0.1)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if timed:
        speeds = _limits(timed, "decode_tok_s", lambda value: f"budget {value:g} tok/s")
        _panel(
            axes[0],
            "Decode speed",
            "tokens per second",
            timed,
            lambda p: p.latency.decode_full_tok_s,
            speeds,
            at_least=True,
        )
        times = _limits(timed, "ttft_s", lambda value: f"budget {format_seconds(value)}")
        _panel(axes[1], "Time to the first token", "seconds", timed, lambda p: p.latency.ttft_s, times, prompts=True)
    sizes = {curve.planned.usable_bytes for curve in curves}
    usable = {size / 1e9: f"usable {format_bytes(size)}" for size in sizes} if len(sizes) == 1 else {}
    _panel(axes[-1], "Memory", "GB", curves, lambda p: Interval(*[p.memory.peak / 1e9] * 3), usable)
    handles: list[Artist] = [Line2D([], [], color=curve.colour, lw=2, label=curve.label) for curve in curves]
    if timed:
        handles.append(Patch(color=_GREY, alpha=0.2, lw=0, label="80 % prediction interval"))
    if any(curve.fitting < len(curve.plans) for curve in curves):
        handles.append(Line2D([], [], color=_GREY, lw=1.8, ls=_DASHES, label="does not fit"))
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 4 if timed else 2), frameon=False)
    return figure


def _limits(curves: Sequence[_Curve], name: str, describe: Callable[[float], str]) -> dict[float, str]:
    """The budget of a name with its label; empty where the devices have different budgets or none."""
    found = {limit.value for curve in curves for limit in curve.planned.limits if limit.name == name}
    return {value: describe(value) for value in found} if len(found) == 1 else {}


def _panel(
    axes: Axes,
    title: str,
    unit: str,
    curves: Sequence[_Curve],
    value: Callable[[Plan], Interval | None],
    limits: dict[float, str],
    *,
    prompts: bool = False,
    at_least: bool = False,
) -> None:
    """A curve with its band per model, and labelled lines at what was planned and at the limits.

    Args:
        axes: Where to draw.
        title: Of the panel.
        unit: Of the y axis.
        curves: What to draw.
        value: The y value of a plan.
        limits: Values with their labels.
        prompts: The x axis counts the prompt's tokens, on a logarithmic scale, instead of the context's.
        at_least: The limits are lower bounds. Their labels stand on the side that meets them.
    """
    seen = [*limits, *(y for curve in curves for y in _draw(axes, curve, value, 0.14 if len(curves) <= 4 else 0.08))]
    ratio = max(seen) / min(seen)
    log = prompts or ratio > _LOG_ABOVE
    axes.grid(visible=True, axis="y", lw=0.8)
    axes.margins(x=0)
    if log:
        _log_axis(axes, "y", (1.0, 2.0, 5.0) if ratio < 1000 else (1.0,), 10)
        axes.set_ylim(min(seen) / ratio**0.04, max(seen) * ratio**0.12)  # room for a label at the top
    else:
        axes.set_ylim(0, max(seen) * 1.12)
    if prompts:
        _log_axis(axes, "x", (1.0,), 4)
        planned, what = max(curve.planned.latency.prompt_tokens for curve in curves), "prompt"
    else:
        longest = max(curve.plans[-1].context for curve in curves)
        axes.set_xlim(0, longest)
        axes.xaxis.set_major_locator(MultipleLocator(max(longest // 4, 1)))
        planned, what = max(curve.planned.context for curve in curves), "context"
    axes.set(
        title=title, ylabel=f"{unit} (log scale)" * log or unit, xlabel=f"{what}, tokens{' (log scale)' * prompts}"
    )
    axes.axvline(planned, color=_GREY, lw=1, ls=":")
    at_left = axes.transLimits.transform(axes.transScale.transform((planned, max(seen))))[0] < 0.5
    _label(axes, f"planned {what} {planned}", (planned, 1), axes.get_xaxis_transform(), at_left, above=False)
    for limit, text in limits.items():
        axes.axhline(limit, color=_GREY, lw=1, ls="-.")
        _label(axes, text, (int(not prompts), limit), axes.get_yaxis_transform(), prompts, above=at_least)


def _draw(axes: Axes, curve: _Curve, value: Callable[[Plan], Interval | None], alpha: float) -> list[float]:
    """Draw a curve with its band, dashed where the model does not fit; return the values it spans."""
    known = [(p.context, interval) for p in curve.plans if (interval := value(p)) is not None]
    x, mid = [context for context, _ in known], [interval.mid for _, interval in known]
    low, high = [interval.low for _, interval in known], [interval.high for _, interval in known]
    if low != high:
        axes.fill_between(x, low, high, color=curve.colour, alpha=alpha, lw=0)
    fitting = curve.fitting
    axes.plot(x[:fitting], mid[:fitting], color=curve.colour, lw=1.8)
    if fitting < len(x):
        start = max(fitting - 1, 0)  # joins the solid part
        axes.plot(x[start:], mid[start:], color=curve.colour, lw=1.8, ls=_DASHES)
    return [*low, *high]


def _log_axis(axes: Axes, name: str, subs: Sequence[float], base: int) -> None:
    """Make an axis logarithmic, with plain numbers at multiples of the base's powers."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    axes.set(**{f"{name}scale": "log"})
    axis.set_major_locator(LogLocator(base=base, subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label(axes: Axes, text: str, at: tuple[float, float], transform: Any, left: bool, above: bool) -> None:
    """Write a small label next to a line; ``left``: it starts there, otherwise it ends there."""
    axes.annotate(
        text, at, xycoords=transform, xytext=(4 if left else -4, 3 if above else -2), textcoords="offset points",
        ha="left" if left else "right", va="bottom" if above else "top", fontsize=8, color=_GREY,
    )  # fmt: skip
