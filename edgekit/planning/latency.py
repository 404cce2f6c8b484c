"""How long a token takes: seconds to the first, tokens per second after it, each as an interval.

    decode   (bytes read(context) / bandwidth + layers * fixed cost) / efficiency
    prefill  (multiply-adds(prompt) / arithmetic + tokens * layers * row cost) / efficiency, at least the time to read
             the weights once
    load     bytes of the file / speed of the storage

On a device that ``edgekit probe`` measured, the engine's own rates count (``engine_speed.py``). On any other the
specification's bandwidth does, and the efficiency is what was published of devices of its class (``fitted.py``). What
is not known is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .efficiency import Interval, Levels
from .engine_speed import MEASURED, EngineSpeed, measured_speed
from .fitted import DECODE, PREFILL
from .hardware import Hardware
from .work import Work

# Microseconds a layer costs beside its bytes: launches on accelerators, barriers between threads. Chosen with the fit,
# by the errors with sources left out; twice or half as much moves their median by less than half a percent. So they are
# known to a factor of two or so, which matters to models so small that little else is left.
FIXED_US_PER_LAYER: Mapping[str, float] = {
    "cpu": 30.0, "gpu": 20.0, "shared-gpu": 50.0, "mobile-gpu": 80.0, "npu": 80.0,
}  # fmt: skip
FIXED_LOG_DEVIATION = 0.5
# Microseconds a layer costs for a token of the prompt beside its multiply-adds: norms, rotation, rounding to 8 bits.
# They make narrow models slower than their multiply-adds say: 0.5 B to 6 B on one NPU agree within 20 %, not 45.
ROW_US_PER_LAYER: Mapping[str, float] = {"cpu": 2.0, "gpu": 0.0, "shared-gpu": 0.0, "mobile-gpu": 0.0, "npu": 3.0}
# What a multiply-add of attention costs in 8-bit ones: it is done in float32 on processors (a quarter of a register's
# lanes), in float16 on others. With it the prompts of 2048 tokens of four sizes on an Orin agree within 15 %, not 35.
ATTENTION_COST: Mapping[str, float] = {"cpu": 4.0, "gpu": 2.0, "shared-gpu": 2.0, "mobile-gpu": 2.0, "npu": 2.0}
# The engine's name among the levels of the fit.
FITTED_ENGINES = {"native": "native", "ort": "onnxruntime"}


def prompt_least_s(
    processor: str, arithmetic_gmac_s: float, tokens: int, layers: int, products: float, attention: float
) -> float:
    """Seconds for a prompt if the processor reached all of its arithmetic; the fit compares what was published to it.

    Args:
        processor: Its kind.
        arithmetic_gmac_s: 8-bit multiply-adds, 10^9 per second.
        tokens: Of the prompt.
        layers: Of the model.
        products: Multiply-adds with weights, of all tokens.
        attention: Multiply-adds of attention, of all tokens.
    """
    operations = products + ATTENTION_COST[processor] * attention
    return operations / (arithmetic_gmac_s * 1e9) + tokens * layers * ROW_US_PER_LAYER[processor] / 1e6


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

    def _measured(self) -> EngineSpeed | None:
        """The engine's speed on a machine that was probed."""
        hardware = self.hardware
        if not hardware.measured or hardware.bandwidth_gb_s is None or hardware.arithmetic_gmac_s is None:
            return None
        if hardware.rates is not None:
            return measured_speed(hardware.rates)
        return MEASURED[self.engine].speed(hardware.bandwidth_gb_s, hardware.arithmetic_gmac_s)

    def decode_s(self, positions: int) -> Interval | None:
        """Seconds for a token after ``positions``."""
        hardware = self.hardware
        if hardware.bandwidth_gb_s is None:
            return None
        per_second = hardware.bandwidth_gb_s * 1e9
        cache = positions * self.position_bytes
        speed = self._measured()
        if speed is not None:
            attention = positions * self.work.attention_multiply_adds
            seconds = speed.decode_s(self.work.token_bytes, cache / per_second, attention, self.work.layers)
            return Interval.of_log(seconds, speed.deviation)
        fixed = self.work.layers * FIXED_US_PER_LAYER[hardware.processor] / 1e6
        estimate = DECODE.estimate(self._levels())
        seconds = (self.work.token_bytes + cache) / per_second + fixed
        deviation = math.hypot(estimate.log_deviation, FIXED_LOG_DEVIATION * fixed / seconds)
        return Interval.of_log(seconds / estimate.value, deviation)

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
        speed = self._measured()
        if speed is not None:
            seconds = speed.prefill_s(products, attention, tokens * self.work.layers)
            found = Interval.of_log(seconds, speed.deviation)
        else:
            estimate = PREFILL.estimate(self._levels())
            work = (tokens, self.work.layers, products, attention)
            least_s = prompt_least_s(self.hardware.processor, arithmetic, *work)
            found = Interval.of_log(least_s / estimate.value, estimate.log_deviation)
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
