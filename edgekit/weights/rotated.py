"""Weights in another basis: the same function, with weights and activations that have no outliers.

The hidden states between the layers may be rotated by any orthogonal Q, h' = h Q, if the matrices that read them and
the matrices that write them are rotated to match: SliceGPT (https://arxiv.org/abs/2401.15024, theorem 1), QuaRot
(https://arxiv.org/abs/2404.00456, section 3). RMSNorm commutes with a rotation once its weights have been moved into
the linears that follow it. Values may also be rotated within each head, since o_proj reads them head by head.

    embedding, q/k/v, gate/up, lm_head   W' = W diag(norm) Q        (rows are read and multiplied as they are needed)
    o_proj                               W' = Q^T W diag(R, ..)     v_proj   W' = diag(R^T, ..) W diag(norm) Q
    down_proj                            W' = Q^T W                 norms    1

This costs nothing at run time. The final norm moves into lm_head, which therefore no longer equals a tied embedding:
such a model gets a separate lm_head (:func:`~edgekit.models.spec.untied`).
"""

from __future__ import annotations

from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..models.spec import ModelSpec, TensorRef, untied
from ..quantize.rotation import Rotation
from .source import WeightSource

Array = NDArray[np.float32]
_READ_WEIGHTS = 4 << 20  # weights read at a time of a matrix that is rotated as a whole


class Basis(Protocol):
    """An orthogonal matrix Q that can be applied, such as :class:`~edgekit.quantize.rotation.Rotation`."""

    size: int

    def rows(self, x: Array) -> Array:
        """Return X Q for X of shape (..., size)."""

    def columns(self, w: Array) -> None:
        """Replace W, of shape (size, n), by Q^T W."""


def hidden_basis(hidden_size: int) -> Rotation:
    """The rotation of an artifact's hidden states; the same on every machine."""
    return Rotation(hidden_size, seed=1)


def head_basis(head_dim: int) -> Rotation:
    """The rotation of an artifact's values within each head."""
    return Rotation(head_dim, seed=2)


class RotatedWeights(WeightSource):
    """A :class:`~edgekit.weights.source.WeightSource` that rotates another one's weights as they are read.

    A matrix that writes into the hidden states is rotated as a whole. The last one is cached, since its rows are read a
    piece at a time: 235 MB for the down_proj of an 8B model.

    Args:
        source: The weights to rotate.
        spec: Their model.
        hidden: Q, (hidden_size, hidden_size).
        head: R, (head_dim, head_dim).

    Attributes:
        spec: The rotated model, with a separate lm_head.
    """

    def __init__(
        self, source: WeightSource, spec: ModelSpec, hidden: Basis | None = None, head: Basis | None = None
    ) -> None:
        self.spec = untied(spec)
        self._source = source
        self._hidden = hidden or hidden_basis(spec.hidden_size)
        self._head = head or head_basis(spec.head_dim)
        self._stored = {self.spec.lm_head.weight: spec.lm_head.weight, self.spec.embedding: spec.embedding}
        # Each matrix that reads the hidden states, and the norm before it.
        self._norms = {self.spec.lm_head.weight: spec.final_norm}
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
        self._cached: tuple[TensorRef, Array] | None = None

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """See :meth:`WeightSource.rows`; float32."""
        if ref in self._ones:
            return np.ones(stop - start, np.float32)
        if ref in self._writers:
            with self._lock:  # a second thread finds the matrix rotated already
                w = self._written(ref)
                if (start, stop) == (0, ref.shape[0]):
                    self._cached = None  # the caller owns the array now
                    return w
                part: Array = w[start:stop].copy()
                return part
        w = self._value_rows(ref, start, stop) if ref in self._values else self._read(ref, start, stop)
        if ref in self._norms:
            norm = self._norms[ref]
            w *= self._read(norm, 0, norm.shape[0])
        return self._hidden.rows(w) if ref in self._norms or ref == self.spec.embedding else w

    def release(self) -> None:
        """Free the cached matrix."""
        with self._lock:
            self._cached = None

    def _read(self, ref: TensorRef, start: int, stop: int) -> Array:
        """Rows of the source as a new float32 array."""
        return self._source.rows(self._stored.get(ref, ref), start, stop).astype(np.float32)

    def _value_rows(self, ref: TensorRef, start: int, stop: int) -> Array:
        """Rows of diag(R^T, ..) W, or elements of a bias. Reads whole heads."""
        size = self._head.size
        first, last = start // size * size, -(-stop // size) * size
        heads = self._read(ref, first, last).reshape(-1, size, *ref.shape[1:])
        for head in heads:
            self._head.columns(head.reshape(size, -1))
        return heads.reshape(-1, *ref.shape[1:])[start - first : stop - first]

    def _written(self, ref: TensorRef) -> Array:
        """All of Q^T W diag(R, ..), or b Q of a bias."""
        if self._cached is not None and self._cached[0] == ref:
            return self._cached[1]
        self._cached = None  # free it before the next matrix is made
        w = np.empty(ref.shape, np.float32)
        step = max(1, _READ_WEIGHTS * ref.shape[0] // w.size)
        for start in range(0, ref.shape[0], step):
            part = self._read(ref, start, min(start + step, ref.shape[0]))
            if ref in self._outputs:
                part = self._head.rows(part.reshape(-1, self._head.size)).reshape(part.shape)
            w[start : start + step] = part
        self._hidden.columns(w.reshape(ref.shape[0], -1))
        if len(ref.shape) > 1:
            self._cached = ref, w
        return w
