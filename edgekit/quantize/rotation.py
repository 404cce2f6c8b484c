r"""Orthogonal matrices that spread an outlier over all features. They are applied as factors, never as whole matrices.

    Q = diag(s) (F_1 (x) F_2 (x) ...)    s: random signs    F_i: Hadamard of order 64, one with the size's odd part

A size of 2**k * m has Hadamard factors for the powers of two (Sylvester's, scaled to be orthogonal). Hadamard matrices
of order 3, 5, 7 or 9 do not exist, so m uses the discrete Hartley transform: cas(2 pi i j / m) / sqrt(m), whose entries
are at most sqrt(2 / m). No entry of Q is then larger than sqrt(2 / size). A row of n numbers needs
n * (sum of the factors' orders) multiply-adds instead of n * n: 128 n instead of 4096 n for n = 4096.

Source: QuaRot (https://arxiv.org/abs/2404.00456, section 3); Bracewell, "Discrete Hartley transform", JOSA 73 (1983).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ORDER = 64  # of a Hadamard factor: two of them make 4096, and each (16 kB) fits a first-level cache
PIECE_ELEMENTS = 4 << 20  # numbers transformed at a time, which limits the scratch memory

Array = NDArray[np.float32]


class Rotation:
    """The matrix Q of one size.

    Args:
        size: Order of Q, at least 1.
        seed: Chooses the signs. The same seed gives the same signs on every machine.

    Raises:
        ValueError: The size is below 1.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError(f"the size of a rotation is {size}; it must be at least 1")
        self.size = size
        raw = np.random.PCG64(seed).random_raw(size)  # numpy guarantees a bit generator's stream, but not its draws
        self._signs = np.where(raw >> np.uint64(63), -1, 1).astype(np.float32)
        self._factors = _factors(size)

    def rows(self, x: Array) -> Array:
        """Compute X Q for X of shape (..., size). Returns a new array."""
        y = (x.reshape(-1, self.size) * self._signs).astype(np.float32, copy=False)
        right = 1  # product of the orders of the factors to the right
        for factor in reversed(self._factors):
            order = len(factor)
            # The factor applies to the middle axis. All factors are symmetric, so that F x equals x F.
            y = y.reshape(-1, order) @ factor if right == 1 else np.matmul(factor, y.reshape(-1, order, right))
            right *= order
        return y.reshape(x.shape)

    def columns(self, w: Array) -> None:
        """Replace W of shape (size, n) by Q^T W."""
        step = max(1, PIECE_ELEMENTS // self.size)
        for start in range(0, w.shape[1], step):
            part = w[:, start : start + step]
            y = part * self._signs[:, None]
            right = part.shape[1]
            for factor in reversed(self._factors):
                y = np.matmul(factor, y.reshape(-1, len(factor), right))
                right *= len(factor)
            part[...] = y.reshape(part.shape)

    def matrix(self) -> Array:
        """Q as a whole matrix (size, size), for tests and small sizes."""
        return self.rows(np.eye(self.size, dtype=np.float32))


def _factors(size: int) -> list[Array]:
    """The Kronecker factors from left to right, all symmetric; the first one covers what is not a power of _ORDER."""
    twos = (size & -size).bit_length() - 1
    per_factor = _ORDER.bit_length() - 1
    whole, left = divmod(twos, per_factor)
    first = np.kron(_hartley(size >> twos), _hadamard(1 << left))
    factors = [first] * (len(first) > 1) + [_hadamard(_ORDER)] * whole
    return [np.ascontiguousarray(f, np.float32) for f in factors]


def _hadamard(order: int) -> NDArray[np.float64]:
    """Sylvester's Hadamard matrix (order, order), orthogonal and symmetric; ``order`` must be a power of two."""
    if order == 1:
        return np.ones((1, 1))
    return np.asarray(np.kron(_hadamard(order // 2), np.array([[1, 1], [1, -1]]) / math.sqrt(2)))


def _hartley(order: int) -> NDArray[np.float64]:
    """The Hartley matrix (order, order), cas(2 pi i j / order) / sqrt(order), orthogonal and symmetric."""
    angles = 2 * math.pi * (np.outer(np.arange(order), np.arange(order)) % order) / order
    return (np.cos(angles) + np.sin(angles)) / math.sqrt(order)
