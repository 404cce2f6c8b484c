"""How long a token takes: time to first token, then decode tokens per second, each as an interval.

    decode   (bytes read(context) / bandwidth + layers * fixed cost) / efficiency
    prefill  (multiply-adds(prompt) / arithmetic + tokens * layers * row cost + bytes of the weights / bandwidth)
             / efficiency, at least the time of one token and at most that of all, one by one
    load     bytes of the file / speed of the storage

On a device that ``edgekit probe`` measured, the engine's own rates are used (``engine_speed.py``). On any other device
the bandwidth is the specification's, and the efficiency comes from published figures of the device's class
(``fitted.py``). None means unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .efficiency import Interval, Levels
from .fitted import DECODE, PREFILL
from .hardware import Hardware
from .planned_engine import PlannedEngine
from .work import Work

# Fixed cost of a layer, microseconds, by kind of processor: launches on accelerators, barriers between threads, and
# work that reading does not hide. Chosen with the fit, by the errors on left-out sources and devices. The values are
# known to a factor of about two, which matters only for models small enough that fixed costs dominate.
FIXED_US_PER_LAYER: Mapping[str, float] = {
    "cpu": 100.0, "gpu": 20.0, "shared-gpu": 45.0, "mobile-gpu": 150.0, "npu": 150.0,
}  # fmt: skip
# Where it differs: for an engine, or for a class of devices. onnxruntime on CUDA launches more kernels for a layer:
# float16 and int4 of two models on an RTX 4090 agree at 60 to 90. On a GPU that shares the memory nobody has published
# it: twice as much is assumed. Nor has anybody for WebGPU, whose library checks each dispatch: twice CUDA's is assumed.
ENGINE_US_PER_LAYER: Mapping[tuple[str, str], float] = {
    ("gpu", "onnxruntime"): 70.0,
    ("shared-gpu", "onnxruntime"): 140.0,
    ("gpu", "onnxruntime-webgpu"): 140.0,
    ("shared-gpu", "onnxruntime-webgpu"): 280.0,
}
CLASS_US_PER_LAYER: Mapping[tuple[str, str], float] = {("shared-gpu", "apple-metal"): 120.0}
FIXED_LOG_DEVIATION = 0.5
# Fixed cost of a layer for a token of the prompt, microseconds: norms, rotation, rounding to 8 bits. It makes narrow
# models slower than their multiply-adds suggest: with it, 0.5 B to 6 B on one NPU agree within 20 % instead of 45 %.
ROW_US_PER_LAYER: Mapping[str, float] = {"cpu": 4.0, "gpu": 0.0, "shared-gpu": 0.0, "mobile-gpu": 0.0, "npu": 3.0}
# Cost of a multiply-add of attention in 8-bit ones. Attention uses float32 on processors, float16 elsewhere. With it,
# prompts of 2048 tokens of four sizes on an Orin agree within 15 %, not 35 %.
ATTENTION_COST: Mapping[str, float] = {"cpu": 2.0, "gpu": 2.0, "shared-gpu": 2.0, "mobile-gpu": 2.0, "npu": 2.0}
# Engines that unpack the weights of a prompt to float16 and multiply in that: their peak is half of the 8-bit one.
FLOAT16_PROMPTS = frozenset({("gpu", "onnxruntime"), ("shared-gpu", "onnxruntime")})
# Kinds of processor in words.
KINDS: Mapping[str, str] = {
    "cpu": "processors",
    "gpu": "graphics cards",
    "shared-gpu": "GPUs that share the memory",
    "mobile-gpu": "phones' GPUs",
    "npu": "NPUs",
}


def fixed_us(levels: Levels) -> float:
    """The fixed cost of a layer, microseconds."""
    processor = levels.processor
    found = ENGINE_US_PER_LAYER.get((processor, levels.engine)) or CLASS_US_PER_LAYER.get((processor, levels.fitted_as))
    return FIXED_US_PER_LAYER[processor] if found is None else found


def prompt_peak(levels: Levels, arithmetic_gmac_s: float) -> float:
    """The multiply-adds per second, 10^9, that a prompt can use of a processor with this 8-bit peak."""
    return arithmetic_gmac_s / 2 if (levels.processor, levels.engine) in FLOAT16_PROMPTS else arithmetic_gmac_s


def prompt_least_s(
    processor: str,
    arithmetic_gmac_s: float,
    tokens: int,
    layers: int,
    products: float,
    attention: float,
    reading_s: float = 0.0,
) -> float:
    """Seconds for a prompt if the processor reached all of its arithmetic. The fit compares published times to this.

    Args:
        processor: The kind of processor.
        arithmetic_gmac_s: 8-bit multiply-adds, 10^9 per second.
        tokens: Tokens of the prompt.
        layers: Number of layers.
        products: Multiply-adds with weights, of all tokens.
        attention: Multiply-adds of attention, of all tokens.
        reading_s: Seconds to read the weights once. It is added, because engines multiply while they do not read.
    """
    operations = products + ATTENTION_COST[processor] * attention
    return operations / (arithmetic_gmac_s * 1e9) + tokens * layers * ROW_US_PER_LAYER[processor] / 1e6 + reading_s


@dataclass(frozen=True)
class Latency:
    """A prediction. An interval is None where the device's profile does not say enough.

    Attributes:
        ttft_s: Seconds from a prompt of ``prompt_tokens`` to its first token, with the model loaded.
        decode_tok_s: Tokens per second with an empty context.
        decode_full_tok_s: Tokens per second at the end of the context.
        sustained_tok_s: ``decode_tok_s`` after minutes of work, where the effect of heat is known.
        load_s: Storage name and the seconds to read the file from there.
        calibrated: Whether the device was measured, or there are published figures of its class and of the engine on
            that kind of processor.
        uncalibrated_because: Why it is not; empty where it is.
    """

    prompt_tokens: int
    ttft_s: Interval | None
    decode_tok_s: Interval | None
    decode_full_tok_s: Interval | None
    sustained_tok_s: Interval | None
    load_s: tuple[tuple[str, float], ...]
    calibrated: bool
    uncalibrated_because: str = ""

    def intervals(self) -> dict[str, dict[str, float] | None]:
        """The predictions as JSON shows them."""
        named = {
            "ttft_s": self.ttft_s,
            "decode_tok_s": self.decode_tok_s,
            "decode_full_tok_s": self.decode_full_tok_s,
            "sustained_tok_s": self.sustained_tok_s,
        }
        return {name: interval.to_json() if interval else None for name, interval in named.items()}


@dataclass(frozen=True)
class Predictor:
    """Predicts the latency of one model with one engine on one piece of hardware.

    Attributes:
        work: The model's work per token.
        hardware: What the engine runs on.
        engine: The engine.
        position_bytes: Bytes of the KV cache for one position.
    """

    work: Work
    hardware: Hardware
    engine: PlannedEngine
    position_bytes: float

    @property
    def calibrated(self) -> bool:
        return not self.uncalibrated_because

    @property
    def uncalibrated_because(self) -> str:
        """Why the speed is not based on figures of this kind of device and engine; empty where it is."""
        if self.hardware.bandwidth_gb_s is None:
            return "the profile has no memory bandwidth"
        unknown = "" if self.hardware.speed is not None else DECODE.estimate(self.levels).unknown
        if unknown == "engine":
            kind = KINDS[self.hardware.processor]
            title = self.engine.title or self.engine.fitted_as or self.engine.name
            return f"no speed of {title} has been published for {kind}"
        return "no speeds of similar devices have been published" if unknown else ""

    @property
    def levels(self) -> Levels:
        """The levels on which the efficiency depends."""
        hardware = self.hardware
        return Levels(hardware.processor, hardware.fitted_as, self.engine.fitted_as, self.work.format)

    def decode_s(self, positions: int) -> Interval | None:
        """Seconds to generate a token after ``positions`` others."""
        hardware = self.hardware
        if hardware.bandwidth_gb_s is None:
            return None
        per_second = hardware.bandwidth_gb_s * 1e9
        cache = positions * self.position_bytes
        speed = hardware.speed
        if speed is not None:
            attention = positions * self.work.attention_multiply_adds
            seconds = speed.decode.seconds(self.work.token_bytes, attention, self.work.layers) + cache / per_second
            return Interval.of_log(seconds, speed.deviation)
        fixed = self.work.layers * fixed_us(self.levels) / 1e6
        estimate = DECODE.estimate(self.levels)
        seconds = (self.work.token_bytes + cache) / per_second + fixed
        deviation = math.hypot(estimate.log_deviation, FIXED_LOG_DEVIATION * fixed / seconds)
        return Interval.of_log(seconds / estimate.value, deviation)

    def decode_tok_s(self, positions: int) -> Interval | None:
        """Tokens per second after ``positions`` tokens."""
        seconds = self.decode_s(positions)
        return None if seconds is None else Interval(1 / seconds.high, 1 / seconds.mid, 1 / seconds.low)

    def prefill_s(self, tokens: int) -> Interval | None:
        """Seconds from a prompt of this many tokens to the first token."""
        arithmetic, least, token = self.hardware.arithmetic_gmac_s, self.decode_s(0), self.decode_s(tokens // 2)
        if arithmetic is None or least is None or token is None:
            return None
        products, attention = self.work.multiply_adds(tokens), self.work.attention(tokens)
        speed = self.hardware.speed
        if speed is not None:
            seconds = speed.prefill.seconds(products, attention, tokens * self.work.layers)
            found = Interval.of_log(seconds, speed.deviation)
        else:
            estimate = PREFILL.estimate(self.levels)
            reading_s = self.work.token_bytes / ((self.hardware.bandwidth_gb_s or math.inf) * 1e9)
            work = (tokens, self.work.layers, products, attention, reading_s)
            least_s = prompt_least_s(self.hardware.processor, prompt_peak(self.levels, arithmetic), *work)
            found = Interval.of_log(least_s / estimate.value, estimate.log_deviation)
        most = token.scaled(tokens)  # together the tokens are no slower than one by one
        bounds = zip(*((each.low, each.mid, each.high) for each in (found, least, most)), strict=True)
        return Interval(*(max(low, min(expected, high)) for expected, low, high in bounds))

    def load_s(self, file_bytes: int) -> tuple[tuple[str, float], ...]:
        """Seconds to read the file from each storage whose speed is known."""
        return tuple((name, file_bytes / (mb_s * 1e6)) for name, mb_s in self.hardware.storage)

    def predict(self, context: int, prompt_tokens: int, file_bytes: int) -> Latency:
        """Everything a plan shows.

        Args:
            context: Tokens to hold.
            prompt_tokens: Tokens of the prompt before the first token.
            file_bytes: Size of the data file.
        """
        decode = self.decode_tok_s(0)
        share = self.hardware.sustained_share
        return Latency(
            prompt_tokens=prompt_tokens,
            ttft_s=self.prefill_s(prompt_tokens),
            decode_tok_s=decode,
            decode_full_tok_s=self.decode_tok_s(context - 1),
            sustained_tok_s=decode.scaled(share) if decode and share else None,
            load_s=self.load_s(file_bytes),
            calibrated=self.calibrated,
            uncalibrated_because=self.uncalibrated_because,
        )
