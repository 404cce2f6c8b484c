"""Fits the planner's efficiencies to published speeds and measures how accurate they are.

    python tools/latency_fit/fit.py              print the tables: errors and coverage with sources and devices left
                                                 out, and of the rows kept aside while the model was chosen
    python tools/latency_fit/fit.py --write      write edgekit/planning/fitted.py
    python tools/latency_fit/fit.py --check X    compare the planner's figures with the rows of a file X

The model of log efficiencies is linear (``edgekit/planning/efficiency.py``). Every effect has a zero-mean normal prior.
So have every device and every source, so that a table of twelve rows from one publisher counts like a few rows.
Student's t with four degrees of freedom bounds the influence of outliers (Lange, Little, Taylor 1989,
https://doi.org/10.2307/2290063). The priors and the fixed costs were chosen by the errors and the width and coverage of
the intervals with sources and with devices left out, on the rows with the use ``fit``. NPUs and phones' graphics differ
most from class to class and from device to device, so an unknown one has the widest interval.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgekit.planning.efficiency import Effect, EfficiencyModel, Estimate, Levels
from edgekit.planning.fitted import DECODE, PREFILL
from edgekit.planning.latency import fixed_us, prompt_least_s, prompt_peak
from latency_fit.report import print_report
from latency_fit.rows import Row, read_rows
from latency_fit.write import write_fitted

DEGREES_OF_FREEDOM = 4
ROUNDS = 8  # of reweighting; then the means change by less than 1e-3
EFFECTS = ("processor", "class", "engine", "format", "engine in class")
# The effects that an effect refines; their variances are stored as that of the sum, with the intercept.
REFINED: dict[str, tuple[str, ...]] = {
    "processor": (),
    "class": ("processor",),
    "engine in class": ("processor", "class", "engine"),
}
USES = ("fit", "test")  # what planning is fitted to


@dataclass(frozen=True)
class Priors:
    """Standard deviations: of the effects, of a source, of the noise, and of the intercept, which is free.

    ``classes`` is between classes, by kind of processor. ``devices`` is between the devices of a class: by kind of
    processor, or by class where one lumps unlike devices.
    """

    effects: dict[str, float]
    classes: dict[str, float]
    devices: dict[str, float]
    source: float
    noise: float
    intercept: float = 3.0

    def of(self, effect: str, processor: str) -> float:
        """The deviation of an effect on a kind of processor."""
        return self.classes[processor] if effect == "class" else self.effects[effect]

    def of_device(self, levels: Levels) -> float:
        """The deviation between the devices of a class."""
        return self.devices.get(levels.fitted_as, self.devices[levels.processor])


# Laptops' graphics and NPUs are of three vendors; servers, and Apple's processors, differ in their number of cores.
LUMPED = {"laptop-gpu": 0.45, "laptop-npu": 0.5, "server": 0.25, "apple-cpu": 0.25}
DECODE_PRIORS = Priors(
    {"processor": 0.1, "engine": 0.1, "format": 0.12, "engine in class": 0.15},
    classes={"cpu": 0.25, "gpu": 0.15, "shared-gpu": 0.3, "mobile-gpu": 0.4, "npu": 0.6},
    devices={"cpu": 0.08, "gpu": 0.12, "shared-gpu": 0.12, "mobile-gpu": 0.2, "npu": 0.3, **LUMPED},
    source=0.05,
    noise=0.11,
)
PREFILL_PRIORS = Priors(
    {"processor": 0.3, "engine": 0.25, "format": 0.2, "engine in class": 0.1},
    classes={"cpu": 0.3, "gpu": 0.2, "shared-gpu": 0.5, "mobile-gpu": 0.5, "npu": 0.4},
    devices={"cpu": 0.25, "gpu": 0.25, "shared-gpu": 0.3, "mobile-gpu": 0.7, "npu": 0.3, **LUMPED},
    source=0.28,
    noise=0.23,
)


def decode_target(row: Row) -> float | None:
    """The logarithm of the share of the bandwidth that a row reached, with its fixed cost counted as reading."""
    least = row.read_bytes / (row.bandwidth_gb_s * 1e9) + row.layers * fixed_us(row.levels) / 1e6
    return math.log(least / row.decode_s)


def prefill_target(row: Row) -> float | None:
    """The logarithm of the share of the arithmetic; None where the time or the arithmetic is unknown."""
    if row.prefill_s is None or row.arithmetic_gmac_s is None:
        return None
    reading_s = row.weight_bytes / (row.bandwidth_gb_s * 1e9) / row.prompt_tokens
    work = (1, row.layers, row.multiply_adds, row.attention_multiply_adds, reading_s)
    peak = prompt_peak(row.levels, row.arithmetic_gmac_s)
    return math.log(prompt_least_s(row.levels.processor, peak, *work) / row.prefill_s)


def fit(rows: list[Row], targets: list[float], priors: Priors) -> EfficiencyModel:
    """The posterior means and variances of the effects."""
    columns: dict[tuple[str, str], int] = {("intercept", ""): 0}
    deviations = [priors.intercept]
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for key, deviation in _keys(row, priors):
            if key not in columns:
                columns[key] = len(columns)
                deviations.append(deviation)
            counts[key] += 1
    design = np.zeros((len(rows), len(columns)))  # (rows, effects)
    for at, row in enumerate(rows):
        design[at, [0, *(columns[key] for key, _ in _keys(row, priors))]] = 1
    mean, covariance = _posterior(design, np.array(targets), np.array(deviations), priors.noise)
    found: dict[str, dict[str, Effect]] = {name: {} for name in EFFECTS}
    for row in rows:
        keys = row.levels.keys()
        for name, level in keys.items():
            summed = [0] if name in REFINED else []
            summed += [columns[other, keys[other]] for other in (*REFINED.get(name, ()), name)]
            variance = covariance[np.ix_(summed, summed)].sum()
            found[name][level] = Effect(float(mean[columns[name, level]]), float(variance), counts[name, level])
    return EfficiencyModel(
        Effect(float(mean[0]), float(covariance[0, 0]), len(rows)),
        found,
        {name: {kind: priors.of(name, kind) ** 2 for kind in priors.classes} for name in EFFECTS},
        {kind: deviation**2 for kind, deviation in priors.devices.items()},
        priors.source**2,
        priors.noise**2,
    )


def _keys(row: Row, priors: Priors) -> list[tuple[tuple[str, str], float]]:
    """Name and level of the row's effects, and the deviations of their priors."""
    processor = row.levels.processor
    effects = [((name, level), priors.of(name, processor)) for name, level in row.levels.keys().items()]
    return [
        *effects,
        (("source", row.source), priors.source),
        (("device", f"{row.device} as {row.class_key}"), priors.of_device(row.levels)),
    ]


def _posterior(
    design: NDArray[np.float64], targets: NDArray[np.float64], deviations: NDArray[np.float64], noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (effects,) and covariance (effects, effects), by iteratively reweighted least squares."""
    prior = design * deviations**2  # (rows, effects): covariance of targets and effects
    kernel = prior @ design.T  # (rows, rows)
    weights = np.ones(len(targets))  # (rows,)
    for _ in range(ROUNDS):
        fitted = kernel @ np.linalg.solve(kernel + np.diag(noise**2 / weights), targets)
        weights = (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + ((targets - fitted) / noise) ** 2)
    solved = np.linalg.solve(kernel + np.diag(noise**2 / weights), np.column_stack((targets, prior)))
    return prior.T @ solved[:, 0], np.diag(deviations**2) - prior.T @ solved[:, 1:]


def left_out(rows: list[Row], targets: list[float], priors: Priors, by: str) -> list[Estimate]:
    """The estimate of each row from a fit without the rows that share its value of ``by``, such as ``source``."""
    found: dict[int, Estimate] = {}
    for group in {getattr(row, by) for row in rows}:
        kept = [at for at, row in enumerate(rows) if getattr(row, by) != group]
        model = fit([rows[at] for at in kept], [targets[at] for at in kept], priors)
        for at, row in enumerate(rows):
            if getattr(row, by) == group:
                found[at] = model.estimate(row.levels)
    return [found[at] for at in range(len(rows))]


def predicted(
    every: list[Row], others: list[Row], target: Callable[[Row], float | None], priors: Priors
) -> tuple[list[Row], list[float | None], list[Estimate]]:
    """Other rows with their targets and their estimates by a fit of the rows with the use ``fit``."""
    kept = [(row, value) for row in every if row.use == "fit" and (value := target(row)) is not None]
    model = fit([row for row, _ in kept], [value for _, value in kept], priors)
    return others, [target(row) for row in others], [model.estimate(row.levels) for row in others]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write edgekit/planning/fitted.py")
    parser.add_argument("--check", type=Path, help="a file like measured.csv to compare the planner's figures with")
    options = parser.parse_args()
    if options.check:
        for name, planned, target in (("decode", DECODE, decode_target), ("prefill", PREFILL, prefill_target)):
            rows = [row for row in read_rows(options.check) if target(row) is not None]
            estimates = [planned.estimate(row.levels) for row in rows]
            print_report(f"{name}, as planned", rows, [target(row) for row in rows], estimates)
        return
    every = read_rows()
    models = {}
    for name, target, priors in (("decode", decode_target, DECODE_PRIORS), ("prefill", prefill_target, PREFILL_PRIORS)):
        rows = [row for row in every if row.use in USES and target(row) is not None]
        targets = [value for value in map(target, rows) if value is not None]
        for by, what in (
            ("source", "source"),
            ("publisher", "publisher"),
            ("device", "device"),
            ("class_key", "class"),
        ):
            print_report(f"{name}, each {what} left out", rows, targets, left_out(rows, targets, priors, by))
        models[name] = fit(rows, targets, priors)
        for use in ("test", "weak", "memory"):
            others = [row for row in every if row.use == use and target(row) is not None]
            print_report(
                f"{name}, {use} rows by a fit of the fit rows alone", *predicted(every, others, target, priors)
            )
    if options.write:
        write_fitted(models["decode"], models["prefill"])


if __name__ == "__main__":
    main()
