"""What a calibration sums over a matrix's inputs, for ``gptq.py``: H = X^T X, and drift = X^T (Y - X w^T).

X (tokens, in) are the inputs that the quantized matrix will see; Y is what it is to give on them: what w gives on the
float model's own inputs X_f, and what the tensor lacks that it is added to, R. So drift = X^T ((X_f - X) w^T + R),
which is summed in the cheaper order. Operations a token, for w (out, in):

    X^T ((X_f - X) w^T + R)            2 in out
    (X^T (X_f - X)) w^T + X^T R        in^2, and in out where there is an R; the product with w^T comes once, at the end
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Rows are gathered until a product is worth its sum, which is read and written each time: 64 MB of inputs, and at most
# 4096 rows, beyond which nothing is gained; 1170 rows for 14336 inputs.
_BATCH_FLOATS, _BATCH_ROWS = 16 << 20, 4096
_STRIP = 256  # rows of a sum per product: as deep as the batch, and 15 MB beside H for 14336 inputs


class InputSums:
    """The sums over a matrix's inputs, which may come from anywhere.

    Args:
        weight: (out, in) float32.
        drift: Sum drift too.
        residual: :meth:`add` will be given R.
    """

    def __init__(self, weight: NDArray[np.float32], drift: bool, residual: bool = False) -> None:
        out, width = weight.shape
        self._weight, self._count = weight, 0
        self._hessian = np.zeros((width, width), np.float32)  # on and above the diagonal
        rows = min(_BATCH_ROWS, _BATCH_FLOATS // width + 1)
        self._inputs = np.empty((rows, width), np.float32)
        self._apart = np.empty((rows, width), np.float32) if drift else None  # X_f - X
        self._lacking = np.empty((rows, out), np.float32) if drift and residual else None  # R
        crossed = width + (out if residual else 0) < 2 * out
        self._crossed = np.zeros((width, width), np.float32) if drift and crossed else None  # (X_f - X)^T X
        # drift^T
        self._drift = np.zeros((out, width), np.float32) if drift and (residual or not crossed) else None

    def add(
        self,
        inputs: NDArray[np.float32],
        float_inputs: NDArray[np.float32] | None = None,
        lacking: NDArray[np.float32] | None = None,
    ) -> None:
        """Add some tokens.

        Args:
            inputs: (tokens, in).
            float_inputs: (tokens, in), the float model's; with ``drift``.
            lacking: (tokens, out), R; with ``residual``.
        """
        done = 0
        while done < len(inputs):
            take = min(len(inputs) - done, len(self._inputs) - self._count)
            here, there = slice(self._count, self._count + take), slice(done, done + take)
            self._inputs[here] = inputs[there]
            with np.errstate(over="ignore", invalid="ignore"):  # infinity is found in H
                if self._apart is not None and float_inputs is not None:
                    np.subtract(float_inputs[there], inputs[there], out=self._apart[here])
            if self._lacking is not None and lacking is not None:
                self._lacking[here] = lacking[there]
            self._count += take
            done += take
            if self._count == len(self._inputs):
                self._flush()

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """H (in, in) and drift (in, out) or None."""
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
                self._hessian[start:stop, start:stop] += strip.T @ strip  # numpy computes half of it
                self._hessian[start:stop, stop:] += strip.T @ x[:, stop:]
            if self._apart is not None:
                apart = self._apart[: self._count]
                lacking = None if self._lacking is None else self._lacking[: self._count]
                if self._crossed is not None:
                    _add_product(self._crossed, apart, x)
                else:
                    through = apart @ self._weight.T
                    lacking = through if lacking is None else np.add(lacking, through, out=lacking)
                if self._drift is not None and lacking is not None:
                    _add_product(self._drift, lacking, x)
        self._count = 0


def _add_product(total: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Add a^T b (m, n), of a (tokens, m) and b (tokens, n)."""
    for start in range(0, len(total), _STRIP):
        total[start : start + _STRIP] += a[:, start : start + _STRIP].T @ b
