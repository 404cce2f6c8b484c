"""The share of a processor's bandwidth or arithmetic that an engine reaches: effects fitted to published figures.

    log efficiency = intercept + processor + class + engine on that processor + format on that processor
                     + engine in that class

``processor`` is the kind (cpu, gpu, shared-gpu, which shares the system's memory, mobile-gpu, npu). ``class`` is a
group of similar devices (raspberry-pi-5, phone-cpu, jetson). Each effect has a zero-mean normal prior (partial
pooling): a class with two rows relies on its processor, and one with forty rows stands for itself. A level without any
row counts with the variance of its prior, so its interval is wider. The figures are in ``fitted.py``.
``tools/latency_fit`` fits them and measures their error by leaving out whole sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# The 90th percentile of the standard normal distribution: the half-width of an 80 % interval, in deviations.
Z_90 = 1.2816


@dataclass(frozen=True)
class Interval:
    """An expected value with its 80 % prediction interval: 10th and 90th percentile."""

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.mid <= self.high < math.inf:
            raise ValueError(f"invalid interval: expected low <= mid <= high, got {self.low}, {self.mid}, {self.high}")

    @classmethod
    def of_log(cls, mid: float, deviation: float) -> Interval:
        """The interval around ``mid`` whose logarithm has a normal error with this standard deviation."""
        factor = math.exp(Z_90 * deviation)
        return cls(mid / factor, mid, mid * factor)

    def scaled(self, factor: float) -> Interval:
        """The interval with every bound times a positive factor."""
        return Interval(self.low * factor, self.mid * factor, self.high * factor)

    def to_json(self) -> dict[str, float]:
        """The bounds, rounded to four significant digits."""
        return {key: float(f"{getattr(self, key):.4g}") for key in ("low", "mid", "high")}


@dataclass(frozen=True)
class Effect:
    """One level's term of the log efficiency, its variance after the fit, and the number of rows it was fitted on."""

    mean: float
    variance: float
    rows: int


@dataclass(frozen=True)
class Levels:
    """The levels an efficiency depends on. ``fitted_as`` is the class, empty where a device belongs to none."""

    processor: str
    fitted_as: str
    engine: str
    format: str

    def keys(self) -> dict[str, str]:
        """Effect name and the level of that effect."""
        return {
            "processor": self.processor,
            "class": self.fitted_as,
            "engine": f"{self.engine} on {self.processor}",
            "format": f"{self.format} on {self.processor}",
            "engine in class": f"{self.engine} on {self.fitted_as}",
        }


@dataclass(frozen=True)
class Estimate:
    """An efficiency: mean and standard deviation of its logarithm, and whether its class had rows in the fit."""

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
        intercept: The term common to all.
        effects: Effect name -> level -> effect.
        prior_variances: Variance of each effect's prior, used for a level without rows.
        source_variance: Variance between publishers.
        noise_variance: Remaining variance.
        deviation_scale: Factor that gives the intervals of left-out figures their nominal coverage. It is below 1,
            because the variances are added as if the effects were independent, and after a fit they are negatively
            correlated.
    """

    intercept: Effect
    effects: Mapping[str, Mapping[str, Effect]]
    prior_variances: Mapping[str, float]
    source_variance: float
    noise_variance: float
    deviation_scale: float

    def estimate(self, levels: Levels) -> Estimate:
        """The efficiency expected of a new figure."""
        mean, variance = self.intercept.mean, self.intercept.variance + self.source_variance + self.noise_variance
        for name, level in levels.keys().items():
            effect = self.effects[name].get(level)
            mean += effect.mean if effect else 0.0
            variance += effect.variance if effect else self.prior_variances[name]
        return Estimate(mean, self.deviation_scale * math.sqrt(variance), levels.fitted_as in self.effects["class"])
