"""The sums over a matrix's inputs that GPTQ needs (``gptq.py``): H = X^T X and drift = X^T (Y - X w^T).

X (tokens, in) are the inputs of the quantized matrix, and Y (tokens, out) are its target outputs. The target is the
output of w on the float model's inputs X_f, plus R, the error of the residual stream that the output is added to. So
drift = X^T ((X_f - X) w^T + R), which is computed in the cheaper order. Operations per token, for w (out, in):

    X^T ((X_f - X) w^T + R)            2 in out
    (X^T (X_f - X)) w^T + X^T R        in^2, plus in out if there is an R; the product with w^T is done once, at the end
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Each product reads and writes the whole sum, so rows are collected into batches first: 64 MB of inputs, and at most
# 4096 rows (more gains nothing). For 14336 inputs, a batch has 1170 rows.
_BATCH_FLOATS, BATCH_ROWS = 16 << 20, 4096
_STRIP = 256  # rows of a sum per product; for 14336 inputs, the product is 15 MB


class InputSums:
    """Sums H and, optionally, drift over a matrix's inputs.

    Args:
        weight: (out, in) float32.
        drift: Whether to sum drift.
        residual: Whether :meth:`add` will be given R.
    """

    def __init__(self, weight: NDArray[np.float32], drift: bool, residual: bool = False) -> None:
        out, width = weight.shape
        self._weight, self._count = weight, 0
        self._hessian = np.zeros((width, width), np.float32)  # on and above the diagonal
        rows = min(BATCH_ROWS, _BATCH_FLOATS // width + 1)
        self._inputs = np.empty((rows, width), np.float32)
        self._difference = np.empty((rows, width), np.float32) if drift else None  # X_f - X
        self._residual = np.empty((rows, out), np.float32) if drift and residual else None  # R
        crossed = width + (out if residual else 0) < 2 * out
        self._crossed = np.zeros((width, width), np.float32) if drift and crossed else None  # (X_f - X)^T X
        # drift^T
        self._drift = np.zeros((out, width), np.float32) if drift and (residual or not crossed) else None

    def add(
        self,
        inputs: NDArray[np.float32],
        float_inputs: NDArray[np.float32] | None = None,
        residual: NDArray[np.float32] | None = None,
    ) -> None:
        """Add tokens to the sums.

        Args:
            inputs: (tokens, in).
            float_inputs: (tokens, in), the float model's inputs, if drift is summed.
            residual: (tokens, out), R, if the sums were made with ``residual``.
        """
        done = 0
        while done < len(inputs):
            take = min(len(inputs) - done, len(self._inputs) - self._count)
            here, there = slice(self._count, self._count + take), slice(done, done + take)
            self._inputs[here] = inputs[there]
            with np.errstate(over="ignore", invalid="ignore"):  # the caller finds infinities in H
                if self._difference is not None and float_inputs is not None:
                    np.subtract(float_inputs[there], inputs[there], out=self._difference[here])
            if self._residual is not None and residual is not None:
                self._residual[here] = residual[there]
            self._count += take
            done += take
            if self._count == len(self._inputs):
                self._flush()

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Finish the sums and return H (in, in) and drift (in, out), or None without drift."""
        self._flush()
        for start in range(0, len(self._hessian), _STRIP):
            stop = start + _STRIP
            self._hessian[stop:, start:stop] = self._hessian[start:stop, stop:].T
        drift = self._drift
        if self._crossed is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                through = self._weight @ self._crossed
            drift = through if drift is None else np.add(drift, through, out=drift)
        return self._hessian, None if drift is None else drift.T

    def _flush(self) -> None:
        x = self._inputs[: self._count]
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(self._hessian), _STRIP):
                stop = start + _STRIP
                strip = x[:, start:stop]
                self._hessian[start:stop, start:stop] += strip.T @ strip  # numpy computes only half of this product
                self._hessian[start:stop, stop:] += strip.T @ x[:, stop:]
            if self._difference is not None:
                difference = self._difference[: self._count]
                residual = None if self._residual is None else self._residual[: self._count]
                if self._crossed is not None:
                    _add_product(self._crossed, difference, x)
                else:
                    through = difference @ self._weight.T
                    residual = through if residual is None else np.add(residual, through, out=residual)
                if self._drift is not None and residual is not None:
                    _add_product(self._drift, residual, x)
        self._count = 0


def _add_product(total: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Add a^T b to ``total`` (m, n), for a (tokens, m) and b (tokens, n)."""
    for start in range(0, len(total), _STRIP):
        total[start : start + _STRIP] += a[:, start : start + _STRIP].T @ b
