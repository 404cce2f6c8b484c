"""Line charts as SVG (https://www.w3.org/TR/SVG2/): axes with round ticks, lines, bands around them, direct labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
INK, FAINT, GRID = "#1f2933", "#697586", "#e4e7eb"
# Okabe and Ito's colours, told apart by most eyes (https://jfly.uni-koeln.de/color/), the lightest left out.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d00", "#5b3a8c", "#4d4d4d")
_LABEL_GAP = 15.0  # pixels between the baselines of two labels


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        label: Stands at its right end.
        points: (x, y), x rising.
        colour: Of the line, its band and its label.
        band: (x, low, high) around it, or empty.
        dashed: For what cannot be had.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    band: Sequence[tuple[float, float, float]] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: What it shows.
        unit: Of y.
        lines: Its curves.
        limit: A horizontal line and its name, or None.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    limit: tuple[float, str] | None = None


@dataclass(frozen=True)
class _Frame:
    """A panel's rectangle in pixels; x is linear, y logarithmic."""

    left: float
    top: float
    width: float
    height: float
    x_most: float
    y_least: float
    y_most: float

    def x(self, value: float) -> float:
        return self.left + self.width * value / self.x_most

    def y(self, value: float) -> float:
        span = math.log(self.y_most / self.y_least)
        return self.top + self.height * (1 - math.log(max(value, self.y_least) / self.y_least) / span)


def draw(title: str, subtitle: str, x_title: str, panels: Sequence[Panel]) -> str:
    """The text of an SVG file: the panels side by side under a title.

    Args:
        title, subtitle: Above.
        x_title: Of every x axis, which begins at 0.
        panels: From left to right.
    """
    width, height, margin = 620 * len(panels), 470, 64
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{FONT}" font-size="13" fill="{INK}">'
    )
    parts = [
        opening,
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(margin, 30, title, size=19, weight=600),
        _text(margin, 51, subtitle, colour=FAINT),
    ]
    for at, panel in enumerate(panels):
        parts += _panel(panel, 620 * at + margin, 108.0, 370.0, 296.0, x_title)
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, left: float, top: float, width: float, height: float, x_title: str) -> Iterator[str]:
    values = [y for line in panel.lines for _, y in line.points]
    values += [bound for line in panel.lines for _, low, high in line.band for bound in (low, high)]
    values += [panel.limit[0]] if panel.limit else []
    frame = _Frame(
        left,
        top,
        width,
        height,
        x_most=max(x for line in panel.lines for x, _ in line.points),
        y_least=_round_down(min(values) / 1.08),
        y_most=_round_up(max(values) * 1.08),
    )
    yield _text(left, top - 18, f"{panel.title}, {panel.unit}", size=14, weight=600)
    yield from _axes(frame, x_title)
    if panel.limit:
        y = frame.y(panel.limit[0])
        yield (
            f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="{FAINT}" stroke-width="1.2" '
            'stroke-dasharray="2 3"/>'
        )
        yield _text(left + 6, y - 6, panel.limit[1], colour=FAINT, size=12)
    for line in panel.lines:
        yield from _line(line, frame)
    yield from _labels(panel.lines, frame)


def _axes(frame: _Frame, x_title: str) -> Iterator[str]:
    bottom, right = frame.top + frame.height, frame.left + frame.width
    for value in _log_ticks(frame.y_least, frame.y_most):
        y = frame.y(value)
        yield f'<line x1="{frame.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>'
        yield _text(frame.left - 8, y + 4.5, f"{value:g}", colour=FAINT, anchor="end")
    step = _tick_step(frame.x_most)
    for count in range(int(frame.x_most / step) + 1):
        x = frame.x(count * step)
        yield f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}" stroke="{FAINT}"/>'
        yield _text(x, bottom + 20, f"{count * step:g}", colour=FAINT, anchor="middle")
    yield f'<line x1="{frame.left}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="{FAINT}"/>'
    yield _text(frame.left + frame.width / 2, bottom + 42, x_title, colour=FAINT, anchor="middle")


def _line(line: Line, frame: _Frame) -> Iterator[str]:
    if line.band:
        upper = [(frame.x(x), frame.y(high)) for x, _, high in line.band]
        lower = [(frame.x(x), frame.y(low)) for x, low, _ in reversed(line.band)]
        yield f'<path d="{_path([*upper, *lower])} Z" fill="{line.colour}" fill-opacity="0.13"/>'
    path = _path([(frame.x(x), frame.y(y)) for x, y in line.points])
    dashes = ' stroke-dasharray="6 4"' if line.dashed else ""
    yield (f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="2.2" stroke-linejoin="round"{dashes}/>')


def _labels(lines: Sequence[Line], frame: _Frame) -> Iterator[str]:
    """At the right ends, moved apart where they would touch."""
    placed = []
    lowest = math.inf
    for line in sorted(lines, key=lambda line: -frame.y(line.points[-1][1])):
        y = min(frame.y(line.points[-1][1]) + 4.5, lowest - _LABEL_GAP)
        lowest = y
        placed.append((y, line))
    for y, line in placed:
        yield _text(frame.left + frame.width + 8, y, line.label, colour=line.colour, weight=600, size=12)


def _text(
    x: float, y: float, text: str, *, colour: str = INK, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _tick_step(most: float) -> float:
    """The power of two that gives four to eight ticks: contexts are powers of two."""
    return float(2 ** round(math.log2(most / 4))) if most >= 4 else 1.0


_STEPS = (1.0, 2.0, 5.0)


def _log_ticks(least: float, most: float) -> list[float]:
    """1, 2 and 5 times powers of ten within the range, limits included."""
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ticks = [float(f"{step * 10.0**decade:.3g}") for decade in decades for step in _STEPS]
    return [tick for tick in ticks if least * 0.999 <= tick <= most * 1.001]


def _round_down(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return max(step for step in _STEPS if step * decade <= value) * decade


def _round_up(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return min(step for step in (*_STEPS, 10.0) if step * decade >= value) * decade
