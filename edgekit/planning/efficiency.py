"""The share of a processor's bandwidth or arithmetic that an engine reaches: effects fitted to published figures.

    log efficiency = intercept + processor + class + engine on that processor + format on that processor
                     + engine in that class

``processor`` is the kind (cpu, gpu, shared-gpu, which shares the system's memory, mobile-gpu, npu). ``class`` is a
group of similar devices on such a processor (raspberry-pi-5, phone-cpu, jetson). Each effect has a zero-mean normal
prior (partial pooling): a class with two rows relies on its processor, and one with forty rows stands for itself. The
interval is the posterior predictive one: a level without any row counts with the whole variance of its prior, and
every new figure adds the differences between devices of a class, between publishers, and noise. The figures are in
``fitted.py``. ``tools/latency_fit`` fits them and measures their error on sources and devices left out.
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
    """One level's term of the log efficiency.

    Attributes:
        mean: The term.
        variance: After the fit: of the term, and for a processor, a class and an engine in a class of the sum with the
            terms that it refines, which are fitted to the same rows.
        rows: The number of rows it was fitted on.
    """

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
        """Effect name and the level of that effect.

        A class is one on a kind of processor: a Jetson's cores are not its GPU.
        """
        found = {"class": self.fitted_as, "engine": self.engine, "format": self.format}
        nested = {name: f"{level} on {self.processor}" for name, level in found.items()}
        return {
            "processor": self.processor,
            **nested,
            "engine in class": f"{self.engine} in {self.fitted_as} on {self.processor}",
        }


@dataclass(frozen=True)
class Estimate:
    """An efficiency.

    Attributes:
        log_mean, log_deviation: Mean and standard deviation of its logarithm.
        unknown: What nobody has published figures of, ``class`` or ``engine``; empty if there are figures of both.
    """

    log_mean: float
    log_deviation: float
    unknown: str

    @property
    def value(self) -> float:
        return math.exp(self.log_mean)

    @property
    def calibrated(self) -> bool:
        """Whether the class and the engine on that kind of processor had rows in the fit."""
        return not self.unknown


@dataclass(frozen=True)
class EfficiencyModel:
    """Fitted effects.

    Attributes:
        intercept: The term that every efficiency has.
        effects: Effect name, level, effect.
        prior_variances: Effect name and kind of processor to the variance of an effect's prior: what a level without
            rows adds.
        device_variances: Kind of processor, or a class that lumps unlike devices, to the variance between its devices.
        source_variance: Variance between publishers, who measure in different ways.
        noise_variance: Variance of one figure.
    """

    intercept: Effect
    effects: Mapping[str, Mapping[str, Effect]]
    prior_variances: Mapping[str, Mapping[str, float]]
    device_variances: Mapping[str, float]
    source_variance: float
    noise_variance: float

    def estimate(self, levels: Levels) -> Estimate:
        """The efficiency expected of a new figure from a device and a source that the fit has not seen."""
        keys, kind = levels.keys(), levels.processor
        found = {name: self.effects[name].get(level) for name, level in keys.items()}
        variances = {
            name: effect.variance if effect else self.prior_variances[name][kind] for name, effect in found.items()
        }
        # The finest level with rows stands for those that it refines; each finer one is unknown.
        parts: tuple[str, ...] = ("processor", "class", "engine", "engine in class", "format")
        if found["engine in class"]:
            parts = ("engine in class", "format")
        elif found["class"]:
            parts = ("class", "engine", "engine in class", "format")
        variance = sum(variances[name] for name in parts)
        devices = self.device_variances.get(levels.fitted_as, self.device_variances[kind])
        variance += devices + self.source_variance + self.noise_variance
        mean = self.intercept.mean + sum(effect.mean for effect in found.values() if effect)
        unknown = next((name for name in ("class", "engine") if found[name] is None), "")
        return Estimate(mean, math.sqrt(variance), unknown)
