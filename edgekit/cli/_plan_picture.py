"""Draws ``edgekit plan --plot`` with matplotlib: a curve per model or device in panels for speed and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullLocator

from ..devices import DeviceProfile
from ..planning.budget import Limit
from ..planning.efficiency import Interval
from ..planning.plan import Plan, PlanOptions
from ..planning.planner import plan_without_offers
from ..recipes import Recipe
from ..units import format_bytes, format_seconds

# The palette of Okabe and Ito, which colour-blind readers can tell apart, without its yellow; two darker colours added.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d00", "#5b3a8c", "#4d4d4d")
_GREY, _GRID = "#596573", "#e4e7eb"
_DASHES = (0, (4, 2))
_POINTS = 16  # of a curve along a linear axis
_SHORTEST_PROMPT = 16
_LOG_ABOVE = 10.0  # the ratio of the largest to the smallest value that makes an axis logarithmic
_STYLE: dict[Any, object] = {  # the type of the keys differs between versions of matplotlib
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "edgekit",  # the same plan gives the same bytes
}
# No dates and versions in the file.
_METADATA: dict[str, dict[str, None]] = {
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
    one_device = len({device.name for _, device in chosen}) == 1
    curves = [
        _curve(recipe, device, recipe.name if one_device else device.name, colour, context, options)
        for (recipe, device), colour in zip(chosen, _COLOURS, strict=False)
    ]
    recipe, device = chosen[0]
    title = device.title if one_device else recipe.title
    if one_device and len(chosen) == 1:
        title = f"{recipe.title} on {device.title}"
    elif len(chosen) < len(pairs):
        title += f" on {len(chosen)} of {len(pairs)} devices"
    with matplotlib.rc_context(_STYLE):
        figure = _figure(title, curves)
        try:
            figure.savefig(path, dpi=160, metadata=_METADATA[path.suffix])
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {error.strerror}") from None


def _spread(
    pairs: Sequence[tuple[Recipe, DeviceProfile]], context: int | None, options: PlanOptions
) -> Sequence[tuple[Recipe, DeviceProfile]]:
    """At most as many pairs as there are colours, evenly spaced from the fastest to the slowest that fits."""
    if len(pairs) <= len(_COLOURS):
        return pairs
    plans = [(plan_without_offers(*pair, context, options=options), pair) for pair in pairs]
    known = [(p, pair) for p, pair in plans if p.latency.decode_tok_s is not None]
    candidates = [(p, pair) for p, pair in known if p.fits] or known or plans
    ordered = [pair for _, pair in sorted(candidates, key=lambda found: -_mid(found[0].latency.decode_tok_s))]
    count = min(len(_COLOURS), len(ordered))
    return [ordered[round(i * (len(ordered) - 1) / max(count - 1, 1))] for i in range(count)]


def _mid(interval: Interval | None) -> float:
    return interval.mid if interval is not None else 0.0


def _curve(
    recipe: Recipe, device: DeviceProfile, label: str, colour: str, context: int | None, options: PlanOptions
) -> _Curve:
    longest = recipe.max_context
    shortest = min(_SHORTEST_PROMPT, longest)
    contexts = {round(shortest + (longest - shortest) * i / _POINTS) for i in range(_POINTS + 1)}
    contexts |= {min(round(shortest * 2 ** (i / 2)), longest) for i in range(2 * (longest // shortest).bit_length())}
    plans = [
        plan_without_offers(recipe, device, tokens, options=replace(options, prompt_tokens=tokens))
        for tokens in sorted(contexts)
    ]
    planned = plan_without_offers(recipe, device, context, options=options)
    return _Curve(label, colour, plans, planned)


def _figure(title: str, curves: Sequence[_Curve]) -> Figure:
    """The panels side by side, the legend below them. The speed panels are left out where no speed is known."""
    timed = [curve for curve in curves if curve.planned.latency.decode_tok_s is not None]
    panels = 3 if timed else 1
    figure = Figure(figsize=(4.4 * panels, 4.6) if timed else (6.4, 4.8), layout=ConstrainedLayoutEngine(w_pad=0.1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _memory(axes[-1], curves)
    if timed:
        _decode(axes[0], timed)
        _first_token(axes[1], timed)
    handles = _legend(curves, bool(timed))
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 4 if timed else 2), frameon=False)
    return figure


def _legend(curves: Sequence[_Curve], timed: bool) -> list[Artist]:
    handles: list[Artist] = [Line2D([], [], color=curve.colour, lw=2, label=curve.label) for curve in curves]
    if timed:
        handles.append(Patch(color=_GREY, alpha=0.2, lw=0, label="80 % prediction interval"))
    if any(curve.fitting < len(curve.plans) for curve in curves):
        handles.append(Line2D([], [], color=_GREY, lw=1.8, ls=_DASHES, label="does not fit"))
    return handles


def _decode(axes: Axes, curves: Sequence[_Curve]) -> None:
    budget = {limit.value: f"budget {limit.value:g} tok/s" for limit in _limits(curves, "decode_tok_s")}
    log = _plot(axes, curves, lambda p: p.latency.decode_full_tok_s, budget)
    _context_axis(axes, curves)
    axes.set(title="Decode speed", ylabel=_named("tokens per second", log))
    _mark_x(axes, {curve.planned.context for curve in curves}, "context")
    _mark_y(axes, budget)


def _first_token(axes: Axes, curves: Sequence[_Curve]) -> None:
    budget = {limit.value: f"budget {format_seconds(limit.value)}" for limit in _limits(curves, "ttft_s")}
    axes.set_xscale("log", base=2)
    log = _plot(axes, curves, lambda p: p.latency.ttft_s, budget, always_log=True)
    axes.xaxis.set_major_locator(LogLocator(base=4))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set(title="Time to the first token", xlabel="prompt, tokens (log scale)", ylabel=_named("seconds", log))
    _mark_x(axes, {curve.planned.latency.prompt_tokens for curve in curves}, "prompt")
    _mark_y(axes, budget)


def _memory(axes: Axes, curves: Sequence[_Curve]) -> None:
    def gigabytes(p: Plan) -> Interval:
        return Interval(*[p.memory.peak / 1e9] * 3)

    sizes = {curve.planned.usable_bytes for curve in curves}
    usable = {size / 1e9: f"usable {format_bytes(size)}" for size in sizes} if len(sizes) == 1 else {}
    log = _plot(axes, curves, gigabytes, usable)
    _context_axis(axes, curves)
    axes.set(title="Memory", ylabel=_named("GB", log))
    _mark_x(axes, {curve.planned.context for curve in curves}, "context")
    _mark_y(axes, usable)


def _plot(
    axes: Axes,
    curves: Sequence[_Curve],
    value: Callable[[Plan], Interval | None],
    limits: Iterable[float],
    *,
    always_log: bool = False,
) -> bool:
    """Draw each curve with its band, dashed where the model does not fit; return whether the y axis is logarithmic."""
    seen = list(limits)
    alpha = 0.14 if len(curves) <= 4 else 0.08  # of bands that overlap
    for curve in curves:
        known = [(p.context, interval) for p in curve.plans if (interval := value(p)) is not None]
        x = [context for context, _ in known]
        mid = [interval.mid for _, interval in known]
        low, high = [interval.low for _, interval in known], [interval.high for _, interval in known]
        if low != high:
            axes.fill_between(x, low, high, color=curve.colour, alpha=alpha, lw=0)
        fitting = curve.fitting
        axes.plot(x[:fitting], mid[:fitting], color=curve.colour, lw=1.8)
        if fitting < len(x):
            at = max(fitting - 1, 0)  # joins the solid part
            axes.plot(x[at:], mid[at:], color=curve.colour, lw=1.8, ls=_DASHES)
        seen += [*low, *high]
    axes.grid(visible=True, axis="y", color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0)
    log = always_log or max(seen) > _LOG_ABOVE * min(seen)
    if not log:
        axes.set_ylim(bottom=0, top=max(seen) * 1.12)
        return False
    axes.set_yscale("log")
    ratio = max(seen) / min(seen)
    axes.set_ylim(min(seen) / ratio**0.04, max(seen) * ratio**0.12)  # room for a label at the top
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 1000 else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return True


def _named(unit: str, log: bool) -> str:
    return f"{unit} (log scale)" if log else unit


def _context_axis(axes: Axes, curves: Sequence[_Curve]) -> None:
    longest = max(curve.plans[-1].context for curve in curves)
    axes.set(xlim=(0, longest), xlabel="context, tokens")
    axes.xaxis.set_major_locator(MultipleLocator(max(longest // 4, 1)))


def _limits(curves: Sequence[_Curve], name: str) -> list[Limit]:
    """The budget of a name; empty where the devices have different budgets or none."""
    found = {limit.value: limit for curve in curves for limit in curve.planned.limits if limit.name == name}
    return list(found.values()) if len(found) == 1 else []


def _mark_x(axes: Axes, values: set[int], name: str) -> None:
    """A dotted vertical line at what was planned."""
    at = max(values)
    axes.axvline(at, color=_GREY, lw=1, ls=":")
    share = axes.transAxes.inverted().transform(axes.transData.transform((at, 1)))[0]
    right = share > 0.5
    axes.annotate(
        f"planned {name} {at}",
        (at, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4 if right else 4, -2),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontsize=8,
        color=_GREY,
    )


def _mark_y(axes: Axes, limits: Mapping[float, str]) -> None:
    """A dash-dotted horizontal line at each limit. Its label stands where it is farthest from the curves."""
    to_axes = axes.transData + axes.transAxes.inverted()
    points = [point for line in axes.get_lines() for point in to_axes.transform(line.get_xydata())]
    for at, label in limits.items():
        height = to_axes.transform((axes.get_xlim()[1], at))[1]
        places = [(right, above) for right in (True, False) for above in (True, False)]

        def distance(place: tuple[bool, bool], height: float = height) -> float:
            right, above = place
            middle = height + (0.03 if above else -0.03)
            near = [abs(y - middle) for x, y in points if (x > 0.65 if right else x < 0.35)]
            return float(min([*near, 0.08, middle, 1 - middle]))

        right, above = max(places, key=distance)
        axes.axhline(at, color=_GREY, lw=1, ls="-.")
        axes.annotate(
            label,
            (1 if right else 0, at),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-2 if right else 4, 3 if above else -3),
            textcoords="offset points",
            ha="right" if right else "left",
            va="bottom" if above else "top",
            fontsize=8,
            color=_GREY,
        )
