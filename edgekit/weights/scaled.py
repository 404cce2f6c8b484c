"""Weights with scaled input features: the same function, rounded more finely where it matters.

A linear's rounding error counts by the square of its inputs. Dividing feature j of the inputs by s_j and multiplying
the weight's column j by s_j does not change the function, but it moves the error of a block, which is proportional to
the block's largest weights, to inputs that are closer to each other in size. For weights of one size the error is least
when s_j is the square root of the feature's root mean square (AWQ, Lin et al., https://arxiv.org/abs/2306.00978,
section 3.2, which searches for the exponent). The division is folded into whatever produces the inputs, so it costs
nothing at run time:

    q, k, v       the norm before them             o_proj       the rows of v (shared by the heads of its group)
    gate, up      the norm before them             down_proj    the rows of up
    lm_head       the final norm, unless the table is also the embedding

``calibration/input_scales.py`` measures s on a text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..layout import DataLayout
from ..models.spec import ModelSpec, TensorRef
from .source import WeightSource

LM_HEAD = "lm_head"

Scale = NDArray[np.float32]


class ScaledWeights(WeightSource):
    """A :class:`~edgekit.weights.source.WeightSource` that scales another one's weights as they are read.

    Args:
        source: The weights to scale.
        spec: Their model.
        layout: The artifact's layout, whose matrix names are the keys of ``scales``.
        scales: s of each matrix, (in,); for o_proj one factor per feature of the value heads,
            (kv_heads * head_dim,); without an entry for lm_head, it is not scaled.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, layout: DataLayout, scales: Mapping[str, Scale]) -> None:
        self._source = source
        self._columns: dict[TensorRef, Scale] = {}  # factors by which columns are multiplied
        self._rows: dict[TensorRef, Scale] = {}  # divisors of rows
        for layer, at in zip(spec.layers, layout.layers, strict=True):
            read = {
                layer.input_norm: (at.qkv_proj.name, (layer.q_proj, layer.k_proj, layer.v_proj)),
                layer.post_attention_norm: (at.gate_up_proj.name, (layer.gate_proj, layer.up_proj)),
            }
            for norm, (name, readers) in read.items():
                self._rows[norm] = scales[name]
                self._columns |= {linear.weight: scales[name] for linear in readers}
            values = scales[at.o_proj.name]
            each = values.reshape(spec.num_kv_heads, 1, spec.head_dim)
            self._columns[layer.o_proj.weight] = np.repeat(each, spec.num_heads // spec.num_kv_heads, 1).reshape(-1)
            self._columns[layer.down_proj.weight] = scales[at.down_proj.name]
            for linear, scale in ((layer.v_proj, values), (layer.up_proj, scales[at.down_proj.name])):
                self._rows |= {ref: scale for ref in (linear.weight, linear.bias) if ref is not None}
        if LM_HEAD in scales:
            self._rows[spec.final_norm] = self._columns[spec.lm_head.weight] = scales[LM_HEAD]

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """See :meth:`WeightSource.rows`; float32 where something is scaled."""
        w = self._source.rows(ref, start, stop)
        if ref in self._columns:
            w = w.astype(np.float32) * self._columns[ref]
        if ref in self._rows:
            scale = self._rows[ref][start:stop]
            w = w.astype(np.float32) / (scale if w.ndim == 1 else scale[:, None])
        return w

    def release(self) -> None:
        """See :meth:`WeightSource.release`."""
        self._source.release()
