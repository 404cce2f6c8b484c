"""How long a token takes: seconds to the first, tokens per second after it, each as an interval.

    decode   (bytes read(context) / bandwidth + layers * fixed cost) / efficiency
    prefill  multiply-adds(prompt) / (efficiency * arithmetic), at least the time to read the weights once
    load     bytes of the file / speed of the storage

On a device that ``edgekit probe`` measured, bandwidth and arithmetic are what it found, and the engines' shares of them
were measured too (:data:`MEASURED`). On any other the specification's bandwidth counts, and the efficiency is what was
published of devices of its class (``fitted.py``). What is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .efficiency import Interval, Levels
from .fitted import DECODE, PREFILL
from .hardware import Hardware
from .work import Work

# Microseconds a layer costs beside its bytes: launches on accelerators, barriers between threads. Chosen with the fit,
# by the errors with sources left out; twice or half as much moves their median by less than half a percent.
FIXED_US_PER_LAYER: Mapping[str, float] = {
    "cpu": 15.0, "gpu": 12.0, "shared-gpu": 50.0, "mobile-gpu": 80.0, "npu": 80.0,
}  # fmt: skip
# The engine's name among the levels of the fit.
FITTED_ENGINES = {"native": "native", "ort": "onnxruntime"}


@dataclass(frozen=True)
class EngineShares:
    """What an engine reaches of a probed machine's limits.

    Attributes:
        weights: Of the bandwidth, while reading weights.
        kv_cache: Of the bandwidth, while attending to the cache when decoding.
        fixed_us_per_layer: Microseconds a layer costs beside that.
        prefill: Of the kernel's peak, in products with weights.
        attention: Of the kernel's peak, in a prompt's attention.
        deviation: Of the logarithm of the time, over shapes and contexts.
    """

    weights: float
    kv_cache: float
    fixed_us_per_layer: float
    prefill: float
    attention: float
    deviation: float


MEASURED = {
    "native": EngineShares(0.98, 0.40, 60.0, 0.57, 0.20, 0.06),
    "ort": EngineShares(0.86, 0.40, 90.0, 0.28, 0.10, 0.08),
}


@dataclass(frozen=True)
class Latency:
    """A prediction; an interval is None where the device's profile does not say enough.

    Attributes:
        ttft_s: Seconds from a prompt of ``prompt_tokens`` to its first token, the model loaded.
        decode_tok_s: Tokens per second with an empty context.
        decode_full_tok_s: Tokens per second at the end of the context.
        sustained_tok_s: ``decode_tok_s`` after minutes of work, where it is known what heat leaves.
        load_s: Storage name -> seconds to read the file from there.
        calibrated: Whether the device was measured, or its class has published figures.
    """

    prompt_tokens: int
    ttft_s: Interval | None
    decode_tok_s: Interval | None
    decode_full_tok_s: Interval | None
    sustained_tok_s: Interval | None
    load_s: tuple[tuple[str, float], ...]
    calibrated: bool


@dataclass(frozen=True)
class Predictor:
    """Predicts one model on one piece of hardware by one engine.

    Attributes:
        work: The model's.
        hardware: Where it runs.
        engine: ``native`` or ``ort``.
        position_bytes: The KV cache of one position.
    """

    work: Work
    hardware: Hardware
    engine: str
    position_bytes: float

    @property
    def calibrated(self) -> bool:
        return self.hardware.measured or self._levels().fitted_as in DECODE.effects["class"]

    def _levels(self) -> Levels:
        hardware = self.hardware
        return Levels(hardware.processor, hardware.fitted_as, FITTED_ENGINES[self.engine], self.work.format)

    def decode_s(self, positions: int) -> Interval | None:
        """Seconds for a token after ``positions``."""
        hardware = self.hardware
        if hardware.bandwidth_gb_s is None:
            return None
        per_second = hardware.bandwidth_gb_s * 1e9
        cache = positions * self.position_bytes
        if hardware.measured:
            shares = MEASURED[self.engine]
            fixed = self.work.layers * shares.fixed_us_per_layer / 1e6
            seconds = self.work.token_bytes / (shares.weights * per_second) + fixed
            return Interval.of_log(seconds + cache / (shares.kv_cache * per_second), shares.deviation)
        fixed = self.work.layers * FIXED_US_PER_LAYER[hardware.processor] / 1e6
        estimate = DECODE.estimate(self._levels())
        seconds = ((self.work.token_bytes + cache) / per_second + fixed) / estimate.value
        return Interval.of_log(seconds, estimate.log_deviation)

    def decode_tok_s(self, positions: int) -> Interval | None:
        """Tokens per second after ``positions``."""
        seconds = self.decode_s(positions)
        return None if seconds is None else Interval(1 / seconds.high, 1 / seconds.mid, 1 / seconds.low)

    def prefill_s(self, tokens: int) -> Interval | None:
        """Seconds from a prompt of so many tokens to its first."""
        arithmetic, least = self.hardware.arithmetic_gmac_s, self.decode_s(0)
        if arithmetic is None or least is None:
            return None
        products, attention = self.work.multiply_adds(tokens), self.work.attention(tokens)
        if self.hardware.measured:
            shares = MEASURED[self.engine]
            seconds = (products / shares.prefill + attention / shares.attention) / (arithmetic * 1e9)
            found = Interval.of_log(seconds, shares.deviation)
        else:
            estimate = PREFILL.estimate(self._levels())
            # Attention is float arithmetic: a quarter of the 8-bit multiply-adds (a register's lanes).
            seconds = (products + 4 * attention) / (estimate.value * arithmetic * 1e9)
            found = Interval.of_log(seconds, estimate.log_deviation)
        bounds = zip((found.low, found.mid, found.high), (least.low, least.mid, least.high), strict=True)
        return Interval(*(max(pair) for pair in bounds))

    def load_s(self, file_bytes: int) -> tuple[tuple[str, float], ...]:
        """Seconds to read the file, from each storage whose speed is known."""
        return tuple((name, file_bytes / (mb_s * 1e6)) for name, mb_s in self.hardware.storage)

    def predict(self, context: int, prompt_tokens: int, file_bytes: int) -> Latency:
        """Everything a plan shows."""
        decode = self.decode_tok_s(0)
        share = self.hardware.sustained_share
        return Latency(
            prompt_tokens=prompt_tokens,
            ttft_s=self.prefill_s(prompt_tokens),
            decode_tok_s=decode,
            decode_full_tok_s=self.decode_tok_s(context - 1),
            sustained_tok_s=decode.scaled(share) if decode and share else None,
            load_s=self.load_s(file_bytes),
            calibrated=decode is not None and self.calibrated,
        )
