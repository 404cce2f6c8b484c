"""How fast an engine is on a processor that ``edgekit probe`` measured, as rates that hold for every model.

Where the engine itself was measured there, its rates are in the device profile. Where only the limits of memory and
kernel were measured, the rates are shares of these limits, measured on another machine (:class:`EngineShares`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..devices.profile import EngineRates

# Standard deviation of the logarithm of a predicted time where the engine was measured on this machine: over shapes,
# contexts and minutes. On 2 cores of a shared AMD EPYC, 73 times of SmolLM2, R1-1.5B's and 7B's shapes with both
# engines and contexts to 4096 had a root mean square error of 0.09 (tools/latency_fit/check_probe.py).
MEASURED_HERE_DEVIATION = 0.09


@dataclass(frozen=True)
class EngineSpeed:
    """Rates of an engine.

    Attributes:
        weights_gb_s: Weights read during decode, 10^9 bytes per second. The KV cache is read at the full bandwidth.
        layer_us: Fixed cost of a layer during decode, microseconds.
        decode_attention_gmac_s: Attention of a generated token, 10^9 multiply-adds per second.
        prefill_gmac_s: Products with weights during prefill, 10^9 multiply-adds per second.
        row_us: Fixed cost of a layer for one token of the prompt, microseconds: norms, rotation, rounding.
        prefill_attention_gmac_s: Attention during prefill, 10^9 multiply-adds per second.
        deviation: Standard deviation of the logarithm of a predicted time.
    """

    weights_gb_s: float
    layer_us: float
    decode_attention_gmac_s: float
    prefill_gmac_s: float
    row_us: float
    prefill_attention_gmac_s: float
    deviation: float

    def decode_s(self, token_bytes: int, cache_s: float, attention: float, layers: int) -> float:
        """Seconds to generate a token.

        Args:
            token_bytes: Bytes of weights read.
            cache_s: Seconds to read the KV cache.
            attention: Multiply-adds of attention.
            layers: Number of layers.
        """
        seconds = token_bytes / (self.weights_gb_s * 1e9) + cache_s
        return seconds + attention / (self.decode_attention_gmac_s * 1e9) + layers * self.layer_us / 1e6

    def prefill_s(self, products: float, attention: float, rows: int) -> float:
        """Seconds to evaluate a prompt.

        Args:
            products: Multiply-adds with weights.
            attention: Multiply-adds of attention.
            rows: Number of tokens times number of layers.
        """
        seconds = products / (self.prefill_gmac_s * 1e9) + attention / (self.prefill_attention_gmac_s * 1e9)
        return seconds + rows * self.row_us / 1e6


def measured_speed(rates: EngineRates) -> EngineSpeed:
    """The speed of an engine that was measured on the machine."""
    return EngineSpeed(
        rates.weights_gb_s.value,
        rates.layer_us.value,
        rates.decode_attention_gmac_s.value,
        rates.prefill_gmac_s.value,
        rates.row_us.value,
        rates.prefill_attention_gmac_s.value,
        MEASURED_HERE_DEVIATION,
    )


@dataclass(frozen=True)
class EngineShares:
    """The shares of a probed machine's limits that an engine reaches, and its fixed costs.

    ``tools/latency_fit/engine_shares.py`` measures and fits them. Today's are from ``edgekit bench`` on 2 cores of an
    AMD EPYC (Zen 3, AVX2: 22 to 27 GB/s, 296 to 311 x 10^9 multiply-adds/s), 2 threads, contexts 0 to 4096, with
    SmolLM2-135M and the shapes of R1-1.5B and 7B. Several shapes are needed to separate shares from fixed costs:
    reading weights takes 3.5 of SmolLM2's 5.5 ms and 47 of R1-1.5B's 49. The shares of prefill are the fit's less 3 %,
    because what only the last token needs counts once.

    Attributes:
        weights: Of the memory bandwidth.
        layer_us: Microseconds.
        decode_attention, prefill, prefill_attention: Of the kernel's peak. Attention is float arithmetic, which reaches
            a quarter of the 8-bit peak at most.
        row_us: Microseconds.
        deviation: Standard deviation of the logarithm of a time, over shapes, contexts and machines.
    """

    weights: float
    layer_us: float
    decode_attention: float
    prefill: float
    row_us: float
    prefill_attention: float
    deviation: float

    def speed(self, bandwidth_gb_s: float, arithmetic_gmac_s: float) -> EngineSpeed:
        """The engine's speed on a machine with these limits."""
        return EngineSpeed(
            self.weights * bandwidth_gb_s,
            self.layer_us,
            self.decode_attention * arithmetic_gmac_s,
            self.prefill * arithmetic_gmac_s,
            self.row_us,
            self.prefill_attention * arithmetic_gmac_s,
            self.deviation,
        )
