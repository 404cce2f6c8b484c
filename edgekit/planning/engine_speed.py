"""How fast an engine is on a processor that ``edgekit probe`` measured, as rates that hold for every model.

Where the engine itself was measured there the rates are the profile's. Where only the limits of memory and kernel were,
they are shares of these, measured elsewhere (:data:`MEASURED`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..devices.profile import EngineRates

# Of the logarithm of a time, where the engine was measured on this machine: over shapes, contexts and minutes. On 2
# cores of a shared AMD EPYC, 73 times of SmolLM2, R1-1.5B's and 7B's shapes with both engines, contexts to 4096, were
# off by 0.09 in the root mean square (tools/latency_fit/check_probe.py).
MEASURED_HERE_DEVIATION = 0.09


@dataclass(frozen=True)
class EngineSpeed:
    """Rates of an engine.

    Attributes:
        weights_gb_s: Weights read while generating, 10^9 bytes per second. The KV cache is read at the full bandwidth.
        layer_us: Microseconds a layer costs beside, when generating.
        decode_attention_gmac_s: A generated token's attention, 10^9 multiply-adds per second.
        prefill_gmac_s: A prompt's products with weights, likewise.
        row_us: Microseconds a layer costs beside for a token of the prompt: norms, rotation, rounding.
        prefill_attention_gmac_s: A prompt's attention.
        deviation: Of the logarithm of a time that is predicted.
    """

    weights_gb_s: float
    layer_us: float
    decode_attention_gmac_s: float
    prefill_gmac_s: float
    row_us: float
    prefill_attention_gmac_s: float
    deviation: float

    def decode_s(self, token_bytes: int, cache_s: float, attention: float, layers: int) -> float:
        """Seconds for a token.

        Args:
            token_bytes: Weights it takes.
            cache_s: Seconds to read the KV cache.
            attention: Multiply-adds of its attention.
            layers: Of the model.
        """
        seconds = token_bytes / (self.weights_gb_s * 1e9) + cache_s
        return seconds + attention / (self.decode_attention_gmac_s * 1e9) + layers * self.layer_us / 1e6

    def prefill_s(self, products: float, attention: float, rows: int) -> float:
        """Seconds for a prompt.

        Args:
            products: Multiply-adds with weights.
            attention: Multiply-adds of attention.
            rows: Its tokens times the layers.
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
    """What an engine reaches of a probed machine's limits, and what it costs beside; fields as :class:`EngineSpeed`'s.

    Attributes:
        weights: Of the bandwidth.
        layer_us: Microseconds.
        decode_attention, prefill, prefill_attention: Of the kernel's peak.
        row_us: Microseconds.
        deviation: Over shapes and contexts.
    """

    weights: float
    layer_us: float
    decode_attention: float
    prefill: float
    row_us: float
    prefill_attention: float
    deviation: float

    def speed(self, bandwidth_gb_s: float, arithmetic_gmac_s: float) -> EngineSpeed:
        """On a machine with these limits."""
        return EngineSpeed(
            self.weights * bandwidth_gb_s,
            self.layer_us,
            self.decode_attention * arithmetic_gmac_s,
            self.prefill * arithmetic_gmac_s,
            self.row_us,
            self.prefill_attention * arithmetic_gmac_s,
            self.deviation,
        )


# From ``edgekit bench`` on 2 cores of an AMD EPYC (Zen 3, AVX2: 22 to 27 GB/s, 296 to 311 x 10^9 multiply-adds/s), 2
# threads, contexts 0 to 4096, SmolLM2-135M and R1-1.5B's and 7B's shapes; tools/latency_fit/engine_shares.py
# measures and fits; prefill's shares are that fit's less 3 %, since what only the last token needs counts once.
# Several shapes tell share from cost: reading takes SmolLM2 3.5 of its 5.5 ms, R1-1.5B 47 of its 49.
# Attention is float arithmetic, a quarter of the 8-bit peak at most. The deviation is the fit's and the machine's.
MEASURED = {
    "native": EngineShares(0.91, 38.0, 0.24, 0.49, 4.1, 0.20, 0.07),
    "ort": EngineShares(0.70, 80.0, 0.0315, 0.227, 8.0, 0.15, 0.08),
}
