"""Fits the planner's efficiencies to published speeds and measures how accurate they are.

    python tools/latency_fit/fit.py              print the table: errors and coverage with sources left out
    python tools/latency_fit/fit.py --write      write edgekit/planning/fitted.py
    python tools/latency_fit/fit.py --check X    compare the planner's figures with the rows of a file X

The model of log efficiencies is linear (``edgekit/planning/efficiency.py``). Every effect has a zero-mean normal prior.
So has every source, so that a table of twelve rows from one publisher counts like a few rows. Student's t with four
degrees of freedom bounds the influence of outliers (Lange, Little, Taylor 1989, https://doi.org/10.2307/2290063). The
standard deviations of the priors approximately maximize the evidence of the rows. The fixed costs per layer and the set
of effects were chosen by the errors with sources left out, median and 90th percentile:

    effects (with processor and source)         median, 90th percentile of the error
    class                                       10.7 %, 30.2 %
    class, format                               11.2 %, 28.4 %
    class, engine                               11.5 %, 27.5 %
    class, engine, format                       11.6 %, 26.2 %
    class, engine, format, engine in class      11.2 %, 26.2 %   <- this one

The last effect represents engines that perform well on one kind of device: llama.cpp reaches 60 to 90 % of the
bandwidth of an Apple device and 30 to 60 % of a Jetson's.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgekit.planning.efficiency import Effect, EfficiencyModel, Estimate
from edgekit.planning.fitted import DECODE, PREFILL
from edgekit.planning.latency import FIXED_US_PER_LAYER, prompt_least_s
from latency_fit.report import print_report
from latency_fit.rows import Row, read_rows
from latency_fit.write import write_fitted

DEGREES_OF_FREEDOM = 4
ROUNDS = 12  # of reweighting; after eight the means change by less than 1e-4
EFFECTS = ("processor", "class", "engine", "format", "engine in class")


@dataclass(frozen=True)
class Priors:
    """Standard deviations: of the effects, of a source, of the noise, and of the intercept, which is free.

    ``scale`` is the model's ``deviation_scale``.
    """

    effects: dict[str, float]
    source: float
    noise: float
    scale: float
    intercept: float = 3.0


# Coverage of the 80 % intervals with sources left out, by scale: decode 0.5 80 %, 0.55 87 %, 0.6 90 %; prefill 0.75
# 81 %, 0.8 86 %, 0.9 90 %. With devices left out it is the same within 3 %.
DECODE_PRIORS = Priors(
    {"processor": 0.08, "class": 0.25, "engine": 0.13, "format": 0.13, "engine in class": 0.2},
    source=0.08,
    noise=0.12,
    scale=0.55,
)
PREFILL_PRIORS = Priors(
    {"processor": 0.3, "class": 0.4, "engine": 0.3, "format": 0.3, "engine in class": 0.1},
    source=0.4,
    noise=0.25,
    scale=0.8,
)


def decode_target(row: Row) -> float | None:
    """The logarithm of the share of the bandwidth that a row reached, with its fixed cost counted as reading."""
    least = row.read_bytes / (row.bandwidth_gb_s * 1e9) + row.layers * FIXED_US_PER_LAYER[row.levels.processor] / 1e6
    return math.log(least / row.decode_s)


def prefill_target(row: Row) -> float | None:
    """The logarithm of the share of the arithmetic; None where the time or the arithmetic is unknown."""
    if row.prefill_s is None or row.arithmetic_gmac_s is None:
        return None
    work = (1, row.layers, row.multiply_adds, row.attention_multiply_adds)
    return math.log(prompt_least_s(row.levels.processor, row.arithmetic_gmac_s, *work) / row.prefill_s)


def fit(rows: list[Row], targets: list[float], priors: Priors) -> EfficiencyModel:
    """The posterior means and variances of the effects."""
    columns: dict[tuple[str, str], int] = {("intercept", ""): 0}
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for key in _keys(row):
            columns.setdefault(key, len(columns))
            counts[key] += 1
    design = np.zeros((len(rows), len(columns)))  # (rows, effects)
    for at, row in enumerate(rows):
        design[at, [0, *(columns[key] for key in _keys(row))]] = 1
    deviations = {"intercept": priors.intercept, "source": priors.source, **priors.effects}
    mean, covariance = _posterior(
        design, np.array(targets), np.array([deviations[name] for name, _ in columns]), priors.noise
    )
    found: dict[str, dict[str, Effect]] = {name: {} for name in EFFECTS}
    for (name, level), column in columns.items():
        if name in found:
            found[name][level] = Effect(float(mean[column]), float(covariance[column, column]), counts[name, level])
    intercept = Effect(float(mean[0]), float(covariance[0, 0]), len(rows))
    variances = {name: deviation**2 for name, deviation in priors.effects.items()}
    return EfficiencyModel(intercept, found, variances, priors.source**2, priors.noise**2, priors.scale)


def _keys(row: Row) -> list[tuple[str, str]]:
    return [*row.levels.keys().items(), ("source", row.source)]


def _posterior(
    design: NDArray[np.float64], targets: NDArray[np.float64], deviations: NDArray[np.float64], noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (effects,) and covariance (effects, effects), by iteratively reweighted least squares."""
    weights = np.ones(len(targets))  # (rows,)
    for _ in range(ROUNDS):
        precision = design.T @ (design * (weights / noise**2)[:, None]) + np.diag(1 / deviations**2)
        covariance = np.linalg.inv(precision)
        mean = covariance @ (design.T @ (weights / noise**2 * targets))
        residuals = (targets - design @ mean) / noise
        weights = (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + residuals**2)
    return mean, covariance


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
        rows = [row for row in every if row.use == "fit" and target(row) is not None]
        targets = [value for value in map(target, rows) if value is not None]
        for by in ("source", "publisher", "device", "fitted_as"):
            what = "class" if by == "fitted_as" else by
            print_report(f"{name}, each {what} left out", rows, targets, left_out(rows, targets, priors, by))
        models[name] = fit(rows, targets, priors)
        others = [row for row in every if row.use != "fit" and target(row) is not None]
        values = [value for value in map(target, others) if value is not None]
        print_report(f"{name}, doubtful rows", others, values, [models[name].estimate(row.levels) for row in others])
    if options.write:
        write_fitted(models["decode"], models["prefill"])


if __name__ == "__main__":
    main()
