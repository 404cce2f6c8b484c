"""How much of a processor's bandwidth or arithmetic an engine reaches: a sum of effects fitted to published figures.

    log efficiency = intercept + processor + class + engine on that processor + format on that processor
                     + engine in that class

``processor`` is the kind (cpu, gpu, shared-gpu: one that shares the system's memory, mobile-gpu, npu), ``class`` a
group of like devices (raspberry-pi-5, phone-cpu, jetson). Each effect is drawn towards zero by what it varies in
general, so a class with two rows leans on its processor and one with forty stands for itself. What was never seen
counts with the variance of its kind: the interval grows by itself. The figures are in ``fitted.py``;
``tools/latency_fit`` fits them and measures, by leaving whole sources out, how far they are to be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# The 90th percentile of a normal distribution: the interval from the 10th goes so many deviations either way.
Z_90 = 1.2816


@dataclass(frozen=True)
class Interval:
    """What is expected, and from where to where in eight cases of ten (10th to 90th percentile)."""

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.mid <= self.high < math.inf:
            raise ValueError(f"an interval from {self.low} over {self.mid} to {self.high} is none")

    @classmethod
    def of_log(cls, mid: float, deviation: float) -> Interval:
        """Around ``mid`` with a normal error of its logarithm."""
        factor = math.exp(Z_90 * deviation)
        return cls(mid / factor, mid, mid * factor)

    def scaled(self, factor: float) -> Interval:
        """Every bound times a positive factor."""
        return Interval(self.low * factor, self.mid * factor, self.high * factor)

    def to_json(self) -> dict[str, float]:
        """Rounded to four digits: more would be made up."""
        return {key: float(f"{getattr(self, key):.4g}") for key in ("low", "mid", "high")}


@dataclass(frozen=True)
class Effect:
    """One level's addition to the log efficiency, its variance after the fit, and the rows it was fitted on."""

    mean: float
    variance: float
    rows: int


@dataclass(frozen=True)
class Levels:
    """What an efficiency depends on. ``fitted_as`` is the class, empty where a device belongs to none."""

    processor: str
    fitted_as: str
    engine: str
    format: str

    def keys(self) -> dict[str, str]:
        """The level of each effect."""
        return {
            "processor": self.processor,
            "class": self.fitted_as,
            "engine": f"{self.engine} on {self.processor}",
            "format": f"{self.format} on {self.processor}",
            "engine in class": f"{self.engine} on {self.fitted_as}",
        }


@dataclass(frozen=True)
class Estimate:
    """An efficiency: the logarithm's mean and deviation, and whether its class had rows to be fitted on."""

    log_mean: float
    log_deviation: float
    calibrated: bool

    @property
    def value(self) -> float:
        return math.exp(self.log_mean)


@dataclass(frozen=True)
class EfficiencyModel:
    """The effects of one kind of work, as ``fitted.py`` holds them.

    Attributes:
        intercept: Common to all.
        effects: Effect name -> level -> effect.
        prior_variances: What a level that was not seen varies by, for each effect.
        source_variance: What one publisher's figures differ from another's by.
        noise_variance: What is left.
        deviation_scale: What makes intervals of figures left out of the fit hold as many of them as they say. Below 1,
            since the variances are added as if the effects were independent, and after a fit they make up for one
            another.
    """

    intercept: Effect
    effects: Mapping[str, Mapping[str, Effect]]
    prior_variances: Mapping[str, float]
    source_variance: float
    noise_variance: float
    deviation_scale: float

    def estimate(self, levels: Levels) -> Estimate:
        """The efficiency that a figure nobody has seen yet would show."""
        mean, variance = self.intercept.mean, self.intercept.variance + self.source_variance + self.noise_variance
        for name, level in levels.keys().items():
            effect = self.effects[name].get(level)
            mean += effect.mean if effect else 0.0
            variance += effect.variance if effect else self.prior_variances[name]
        return Estimate(mean, self.deviation_scale * math.sqrt(variance), levels.fitted_as in self.effects["class"])
