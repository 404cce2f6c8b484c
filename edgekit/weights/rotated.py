"""A model in another basis: the same function, with weights and activations that have no outliers.

The hidden states between the layers may be rotated by any orthogonal Q, h' = h Q, if what reads them is rotated with
them and what writes them writes rotated: SliceGPT (https://arxiv.org/abs/2401.15024, theorem 1), QuaRot
(https://arxiv.org/abs/2404.00456, section 3). RMSNorm does not see a rotation but for its weights, which are first
moved into the linears behind it. Values may be rotated within each head likewise, as o_proj reads them head by head.

    embedding, q/k/v, gate/up, lm_head   W' = W diag(norm) Q        (rows are read and multiplied as they are needed)
    o_proj                               W' = Q^T W diag(R, ..)     v_proj   W' = diag(R^T, ..) W diag(norm) Q
    down_proj                            W' = Q^T W                 norms    1

Nothing is left to do at run time. The final norm moves into lm_head, so that a tied embedding is its table no more:
such a model gets an lm_head of its own (:func:`~edgekit.models.spec.untied`).
"""

from __future__ import annotations

from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..models.spec import ModelSpec, TensorRef, untied
from ..quantize.packing import PackedLinear
from ..quantize.rotation import Rotation
from ..scheme import QuantizationScheme
from .checkpoint import WeightSource

Array = NDArray[np.float32]
_READ_WEIGHTS = 4 << 20  # of a matrix that is rotated whole, read at a time


class Basis(Protocol):
    """An orthogonal matrix Q that can be applied (:class:`~edgekit.quantize.rotation.Rotation`)."""

    size: int

    def rows(self, x: Array) -> Array:
        """X Q for X of (..., size)."""

    def columns(self, w: Array) -> None:
        """W becomes Q^T W for W of (size, n), in place."""


def hidden_basis(hidden_size: int) -> Rotation:
    """What a rotated artifact's hidden states are multiplied by; the same on every machine."""
    return Rotation(hidden_size, seed=1)


def head_basis(head_dim: int) -> Rotation:
    """What a rotated artifact's values are multiplied by within each head."""
    return Rotation(head_dim, seed=2)


class RotatedSource(WeightSource):
    """A source's weights in another basis, made as they are read; safe from several threads.

    A matrix that writes into the hidden states is rotated whole, and the last one is kept, as its rows are read a piece
    at a time: 235 MB for an 8B model's down_proj.

    Args:
        source: The weights as they are.
        spec: Their model.
        hidden: Q, (hidden_size, hidden_size).
        head: R, (head_dim, head_dim).

    Attributes:
        spec: The model whose tensors it gives: with an lm_head of its own.
    """

    def __init__(
        self, source: WeightSource, spec: ModelSpec, hidden: Basis | None = None, head: Basis | None = None
    ) -> None:
        self.spec = untied(spec)
        self._source = source
        self._hidden = hidden or hidden_basis(spec.hidden_size)
        self._head = head or head_basis(spec.head_dim)
        self._stored = {self.spec.lm_head.weight: spec.lm_head.weight, self.spec.embedding: spec.embedding}
        self._norms = {self.spec.lm_head.weight: spec.final_norm}  # of those that read the hidden states
        self._ones, self._writers, self._values = {spec.final_norm}, set[TensorRef](), set[TensorRef]()
        self._outputs = set[TensorRef]()
        for layer in spec.layers:
            self._ones |= {layer.input_norm, layer.post_attention_norm}
            for linear in (layer.q_proj, layer.k_proj, layer.v_proj):
                self._norms[linear.weight] = layer.input_norm
            for linear in (layer.gate_proj, layer.up_proj):
                self._norms[linear.weight] = layer.post_attention_norm
            for linear in (layer.o_proj, layer.down_proj):
                self._writers |= {ref for ref in (linear.weight, linear.bias) if ref is not None}
            self._outputs.add(layer.o_proj.weight)
            self._values |= {ref for ref in (layer.v_proj.weight, layer.v_proj.bias) if ref is not None}
        self._lock = Lock()
        self._kept: tuple[TensorRef, Array] | None = None

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """As :meth:`WeightSource.rows`; float32."""
        if ref in self._ones:
            return np.ones(stop - start, np.float32)
        if ref in self._writers:
            with self._lock:  # whoever comes second finds the matrix made
                w = self._written(ref)
                if (start, stop) == (0, ref.shape[0]):
                    self._kept = None  # it is the reader's
                    return w
                part: Array = w[start:stop].copy()
                return part
        w = self._value_rows(ref, start, stop) if ref in self._values else self._read(ref, start, stop)
        if ref in self._norms:
            norm = self._norms[ref]
            w *= self._read(norm, 0, norm.shape[0])
        return self._hidden.rows(w) if ref in self._norms or ref == self.spec.embedding else w

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        """None: codes that a checkpoint holds are no codes in another basis."""
        return None

    def release(self) -> None:
        """As :meth:`WeightSource.release`."""
        with self._lock:
            self._kept = None

    def stored_bytes(self, ref: TensorRef) -> int:
        """As :meth:`WeightSource.stored_bytes`; an lm_head that was the embedding has the embedding's."""
        return self._source.stored_bytes(self._stored.get(ref, ref))

    def _read(self, ref: TensorRef, start: int, stop: int) -> Array:
        """A fresh array of the source's."""
        return self._source.rows(self._stored.get(ref, ref), start, stop).astype(np.float32)

    def _value_rows(self, ref: TensorRef, start: int, stop: int) -> Array:
        """Rows of diag(R^T, ..) W, or elements of a bias: whole heads are read."""
        size = self._head.size
        first, last = start // size * size, -(-stop // size) * size
        heads = self._read(ref, first, last).reshape(-1, size, *ref.shape[1:])
        for head in heads:
            self._head.columns(head.reshape(size, -1))
        return heads.reshape(-1, *ref.shape[1:])[start - first : stop - first]

    def _written(self, ref: TensorRef) -> Array:
        """Q^T W diag(R, ..), or b Q of a bias, whole."""
        if self._kept is not None and self._kept[0] == ref:
            return self._kept[1]
        self._kept = None  # before the next one is made
        w = np.empty(ref.shape, np.float32)
        step = max(1, _READ_WEIGHTS * ref.shape[0] // w.size)
        for start in range(0, ref.shape[0], step):
            part = self._read(ref, start, min(start + step, ref.shape[0]))
            if ref in self._outputs:
                part = self._head.rows(part.reshape(-1, self._head.size)).reshape(part.shape)
            w[start : start + step] = part
        self._hidden.columns(w.reshape(ref.shape[0], -1))
        if len(ref.shape) > 1:
            self._kept = ref, w
        return w
