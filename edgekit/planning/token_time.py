"""Splits the predicted time of a token: reading weights, keys and values, and what each layer costs in any case."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .latency import Predictor


@dataclass(frozen=True)
class TokenTime:
    """Seconds of one token by part; the parts add up to the expected time.

    Attributes:
        weights_s: Reading the weights.
        cache_s: Reading keys and values, and attention over them.
        fixed_s: The fixed cost of the layers.
    """

    weights_s: float
    cache_s: float
    fixed_s: float

    @property
    def total_s(self) -> float:
        return self.weights_s + self.cache_s + self.fixed_s


def split_token(predictor: Predictor, positions: int) -> TokenTime | None:
    """The parts of a token's expected time after ``positions`` others; None where the time is unknown."""
    at_end, alone = predictor.decode_s(positions), predictor.decode_s(0)
    unweighted = replace(predictor, work=replace(predictor.work, token_bytes=0)).decode_s(0)
    if at_end is None or alone is None or unweighted is None:
        return None
    return TokenTime(alone.mid - unweighted.mid, at_end.mid - alone.mid, unweighted.mid)
