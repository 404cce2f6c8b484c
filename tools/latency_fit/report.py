"""Prints the fit's table: errors and coverage by class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.planning.efficiency import Z_90, Estimate
from latency_fit.rows import Row


def percentile(values: Sequence[float], share: float) -> float:
    """A percentile, interpolated linearly between the two nearest values."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def errors(targets: Sequence[float | None], estimates: Sequence[Estimate]) -> list[float]:
    """Relative errors: predicted speed / published speed - 1."""
    return [math.exp(e.log_mean - (t or 0.0)) - 1 for t, e in zip(targets, estimates, strict=True)]


def covered(targets: Sequence[float | None], estimates: Sequence[Estimate]) -> list[bool]:
    """Whether each published figure is within the 80 % prediction interval."""
    return [abs(e.log_mean - (t or 0.0)) <= Z_90 * e.log_deviation for t, e in zip(targets, estimates, strict=True)]


def print_report(
    title: str, rows: Sequence[Row], targets: Sequence[float | None], estimates: Sequence[Estimate]
) -> None:
    """Print a line for each class and one for all: rows, sources, median and 90th percentile of the error, coverage."""
    print(f"\n{title}\n{'class':28} rows sources  median     90 %  covered")
    found, inside = errors(targets, estimates), covered(targets, estimates)
    groups = {name: [at for at, row in enumerate(rows) if row.class_key == name] for name in
              sorted({row.class_key for row in rows})}  # fmt: skip
    groups["all"] = list(range(len(rows)))
    groups["class and engine were seen"] = [at for at, estimate in enumerate(estimates) if estimate.calibrated]
    for name, members in groups.items():
        if not members:
            continue
        sizes = [abs(found[at]) for at in members]
        sources = len({rows[at].source for at in members})
        share = sum(inside[at] for at in members) / len(members)
        median, most = percentile(sizes, 0.5), percentile(sizes, 0.9)
        print(f"{name:28} {len(members):4} {sources:7} {median:7.1%} {most:8.1%} {share:8.0%}")
