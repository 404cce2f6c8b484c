"""Weights whose activations are smaller by powers of two: the same function, within the range of float16.

Some models write values into the residual stream that float16 cannot hold (65504 at most), such as the massive
activations of Qwen2 (Sun et al., https://arxiv.org/abs/2402.17762). Only norms read the stream, and an RMS norm of
s * x with eps * s^2 is that of x with eps. So the stream is smaller by s if everything that writes into it is. The same
holds inside a layer for what is linear: the values of the attention, and the up half of the MLP.

    embedding          s                               v_proj     v          v and u: each layer's own
    norms' epsilon     s^2 (ModelSpec.residual_eps)    o_proj     s / v
    final norm         1 / s, if the embedding         up_proj    u
                       is also the lm_head             down_proj  s / u

Multiplying by a power of two is exact, so quantized weights keep their codes, and only their scales change.
``calibration/float16_range.py`` measures what a model needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..models.spec import ModelSpec, TensorRef
from ..quantize.packing import PackedLinear
from ..scheme import QuantizationScheme
from .source import WeightSource


@dataclass(frozen=True)
class Shrinking:
    """How much smaller each activation becomes, as factors: powers of two, at most 1.

    Attributes:
        residual: Of the residual stream.
        values: Of each layer's attention values.
        up: Of each layer's output of up_proj.
    """

    residual: float
    values: Sequence[float]
    up: Sequence[float]

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return any(factor != 1 for factor in (self.residual, *self.values, *self.up))


class ShrunkWeights(WeightSource):
    """A :class:`~edgekit.weights.source.WeightSource` that makes the activations of another one's model smaller.

    Args:
        source: The weights.
        spec: Their model.
        by: The factors.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, by: Shrinking) -> None:
        self._source = source
        self._factors: dict[TensorRef, float] = {spec.embedding: by.residual}
        if spec.tied_embeddings:
            self._factors[spec.final_norm] = 1 / by.residual
        for layer, value, up in zip(spec.layers, by.values, by.up, strict=True):
            for linear, weight, bias in (
                (layer.v_proj, value, value),
                (layer.o_proj, by.residual / value, by.residual),
                (layer.up_proj, up, up),
                (layer.down_proj, by.residual / up, by.residual),
            ):
                self._factors[linear.weight] = weight
                if linear.bias is not None:
                    self._factors[linear.bias] = bias

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """See :meth:`WeightSource.rows`; float32 where something is scaled."""
        w, factor = self._source.rows(ref, start, stop), self._factors.get(ref, 1)
        return w if factor == 1 else w.astype(np.float32) * np.float32(factor)

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        """See :meth:`WeightSource.packed`; scales in float32 where something is scaled."""
        found, factor = self._source.packed(ref, start, stop, scheme), self._factors.get(ref, 1)
        if found is None or factor == 1:
            return found
        return replace(found, scales=found.scales.astype(np.float32) * np.float32(factor))

    def release(self) -> None:
        """See :meth:`WeightSource.release`."""
        self._source.release()
