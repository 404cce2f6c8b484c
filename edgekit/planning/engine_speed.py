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
class Rates:
    """How fast an engine generates tokens, or how fast it evaluates a prompt.

    Attributes:
        weights: Bytes of weights read (decode) or multiply-adds with weights (prefill), 10^9 per second.
        attention: Multiply-adds of attention, 10^9 per second.
        layer_us: Fixed cost of a layer for one token, microseconds: norms, rotation, rounding, barriers.
    """

    weights: float
    attention: float
    layer_us: float

    def seconds(self, weights: float, attention: float, layers: float) -> float:
        """The time of an amount of work.

        Args:
            weights: Bytes of weights read, or multiply-adds with weights.
            attention: Multiply-adds of attention.
            layers: Number of layers times number of tokens.
        """
        return weights / (self.weights * 1e9) + attention / (self.attention * 1e9) + layers * self.layer_us / 1e6


@dataclass(frozen=True)
class EngineSpeed:
    """The rates of an engine. During decode the KV cache is read in addition, at the full bandwidth.

    ``deviation`` is the standard deviation of the logarithm of a predicted time.
    """

    decode: Rates
    prefill: Rates
    deviation: float


def measured_speed(rates: EngineRates) -> EngineSpeed:
    """The speed of an engine that was measured on the machine."""
    return EngineSpeed(
        Rates(rates.weights_gb_s.value, rates.decode_attention_gmac_s.value, rates.layer_us.value),
        Rates(rates.prefill_gmac_s.value, rates.prefill_attention_gmac_s.value, rates.row_us.value),
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
        decode: ``weights`` is a share of the memory bandwidth, ``attention`` one of the kernel's peak. Attention is
            float arithmetic, which reaches a quarter of the 8-bit peak at most.
        prefill: Both are shares of the kernel's peak.
        deviation: Standard deviation of the logarithm of a time, over shapes, contexts and machines.
    """

    decode: Rates
    prefill: Rates
    deviation: float

    def speed(self, bandwidth_gb_s: float, arithmetic_gmac_s: float) -> EngineSpeed:
        """The engine's speed on a machine with these limits."""

        def rates(shares: Rates, weights_limit: float) -> Rates:
            return Rates(shares.weights * weights_limit, shares.attention * arithmetic_gmac_s, shares.layer_us)

        return EngineSpeed(rates(self.decode, bandwidth_gb_s), rates(self.prefill, arithmetic_gmac_s), self.deviation)
