"""A model in another basis: the same function, with weights and activations that have no outliers.

The hidden states between the layers may be rotated by any orthogonal Q, h' = h Q, if what reads them is rotated with
them and what writes them writes rotated: SliceGPT (https://arxiv.org/abs/2401.15024, theorem 1), QuaRot
(https://arxiv.org/abs/2404.00456, section 3). RMSNorm does not see a rotation but for its weights, which are first
moved into the linears behind it. Values may be rotated within each head likewise, as o_proj reads them head by head.

    embedding, q/k/v, gate/up, lm_head   W' = W diag(norm) Q        (rows are read and multiplied as they are needed)
    o_proj                               W' = Q^T W diag(R^T, ..)   v_proj   W' = diag(R, ..) W diag(norm) Q
    down_proj                            W' = Q^T W                 norms    1

Nothing is left to do at run time. The final norm moves into lm_head, so that a tied embedding can be its table no more.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UsageError
from edgekit.export.weights import WeightSource
from edgekit.models.spec import ModelSpec, TensorRef

Matrix = NDArray[np.float32]


class RotatedSource(WeightSource):
    """A source's weights in another basis, made as they are read.

    Args:
        source: The weights as they are.
        spec: Their model, whose lm_head must be a tensor of its own (:func:`untied`).
        hidden: Q, orthogonal (hidden_size, hidden_size).
        head: R, orthogonal (head_dim, head_dim).

    Raises:
        UsageError: Embedding and lm_head are one table.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, hidden: Matrix, head: Matrix) -> None:
        if spec.tied_embeddings:
            raise UsageError(
                "hidden states cannot be rotated when embedding and lm_head are one table: the final norm's weights "
                "belong to one of the two only"
            )
        self._source, self._hidden, self._head = source, hidden, head
        self._norms = {spec.lm_head.weight: spec.final_norm}
        self._ones, self._writers, self._values = {spec.final_norm}, set[TensorRef](), set[TensorRef]()
        self._outputs = set[TensorRef]()
        for layer in spec.layers:
            self._ones |= {layer.input_norm, layer.post_attention_norm}
            for linear in (layer.q_proj, layer.k_proj, layer.v_proj):
                self._norms[linear.weight] = layer.input_norm
            for linear in (layer.gate_proj, layer.up_proj):
                self._norms[linear.weight] = layer.post_attention_norm
            self._writers |= {layer.o_proj.weight, layer.down_proj.weight}
            self._outputs.add(layer.o_proj.weight)
            self._values |= {ref for ref in (layer.v_proj.weight, layer.v_proj.bias) if ref is not None}
            self._writers |= {ref for ref in (layer.o_proj.bias, layer.down_proj.bias) if ref is not None}
        self._embedding = spec.embedding

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """As :meth:`WeightSource.rows`; float32."""
        if ref in self._ones:
            return np.ones(stop - start, np.float32)
        if ref in self._writers:
            return self._written(ref, start, stop)
        head_dim = len(self._head)
        first, last = (
            (start, stop)
            if ref not in self._values
            else (start // head_dim * head_dim, -(-stop // head_dim) * head_dim)
        )
        w = self._source.rows(ref, first, last).astype(np.float32)
        if ref in self._values:
            heads = w.reshape(-1, head_dim, *w.shape[1:])
            w = np.einsum("ij,hj...->hi...", self._head, heads).reshape(w.shape)[start - first : stop - first]
        if ref in self._norms:
            norm = self._norms[ref]
            w = w * self._source.rows(norm, 0, norm.shape[0]).astype(np.float32)
        return w @ self._hidden if ref in self._norms or ref == self._embedding else w

    def _written(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.float32]:
        """Rows of Q^T W; W is read whole, a layer's matrix at most."""
        w = self._source.rows(ref, 0, ref.shape[0]).astype(np.float32)
        rows = self._hidden[:, start:stop].T @ w
        if ref in self._outputs:
            rows = (rows.reshape(-1, len(self._head)) @ self._head.T).reshape(rows.shape)
        return np.asarray(rows, np.float32)


def untied(spec: ModelSpec) -> ModelSpec:
    """The model with an lm_head of its own, whose values are the embedding's."""
    if not spec.tied_embeddings:
        return spec
    head = TensorRef("lm_head.weight", "output.weight", spec.embedding.shape)
    return dataclasses.replace(spec, tied_embeddings=False, lm_head=dataclasses.replace(spec.lm_head, weight=head))
