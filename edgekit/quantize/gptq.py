"""GPTQ (Frantar et al., https://arxiv.org/abs/2210.17323): chooses codes whose rounding errors compensate each other.

A linear's weight w (out, in) is rounded column by column. With H = X^T X over the calibration inputs X (tokens, in),
the squared error of the output is tr(E H E^T), E = w - q. The rounding error of each column is passed on to the columns
after it.

This code uses the equivalent form LDLQ (QuIP, https://arxiv.org/abs/2307.13304, theorem 6), which needs one Cholesky
factorization and no inverse. With H = (U + I) D (U + I)^T, U strictly upper triangular,

    q_j = round(w_j + E_<j U_<j,j)            so that  tr(E H E^T) = sum_j D_jj |w_j + E_<j U_<j,j - q_j|^2

The sum is computed in blocks, so that most of the work is matrix products. As in the paper, columns with the largest
H_jj come first (``act_order``). Each column keeps the group of its position in the weight ("static groups"), so no
table of groups is stored. A fraction of H's mean diagonal is added to H, and ten times more as long as H is not
positive definite. A column whose input is always zero (H_jj = 0) is set to zero.

Two steps are not in the paper. Before rounding, the weight can be corrected so that its outputs on the quantized
model's inputs approach the float model's outputs on its own inputs (GPTAQ, https://arxiv.org/abs/2504.02692): the
solution is w + drift^T H^-1, and by default half of this correction is applied. After rounding, each row's scales are
refitted to minimize tr(E H E^T) for the chosen codes: a least-squares problem with one unknown per group (``_refit``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..scheme import QuantizationScheme
from .packing import PackedLinear, pack, unpack
from .rtn import NonFiniteError, quantize_rows

DAMPING = 0.01  # added fraction of H's mean diagonal, as in the paper
DRIFT_DAMPING = 0.3  # the same for the drift correction; more, because drift is noisy with few tokens
DRIFT_SHARE = 0.5  # the fraction of the drift correction that is applied; later layers correct the rest
DAMPING_TRIES = 4  # 0.01, 0.1, 1, 10: with more, the result would hardly depend on H
# Columns whose errors are passed on one by one. Their effect on later columns is one matrix product of this depth: it
# runs near full speed, and a block's errors (64 x ROWS) stay in the L2 cache.
_BLOCK = 64
ROWS = 2048  # rows of the weight quantized at a time; given H, rows are independent
_REFIT_ROWS = 256  # rows whose scales are refitted at a time; each has a (groups, groups) system of equations
_REFIT_COLUMNS = 1024  # columns per product of the refit: 1 MB with that many rows, which stays in the cache
# Fraction of the mean diagonal that keeps a refitted scale near its old value. It matters only for groups whose codes
# are all zero, which leave the scale undetermined.
_HOLD = 1e-4
# Columns of H that are factorized together. Each step reads the whole finished part from memory; with 256 columns the
# arithmetic takes longer than the reads. Inverting the corner adds a fraction of 256 / in to the work.
_PANEL = 256
_STRIP = 64  # rows or columns of H per copy: 2 MB for 8960 inputs, which malloc reuses


class NotPositiveDefiniteError(ValueError):
    """H has no Cholesky factor, even with the largest damping."""


def quantize_gptq(
    weight: NDArray[np.float32],
    hessian: NDArray[np.float32],
    scheme: QuantizationScheme,
    scale_dtype: str,
    *,
    damping: float = DAMPING,
    act_order: bool = True,
    refit: bool = True,
    drift: NDArray[np.float32] | None = None,
    drift_damping: float = DRIFT_DAMPING,
    drift_share: float = DRIFT_SHARE,
) -> PackedLinear:
    """Quantize a weight for the inputs that H was summed over.

    Args:
        weight: (out, in) float32.
        hessian: (in, in) float32, X^T X, symmetric. It is overwritten, because it can be too large to copy.
        scheme: Width, block size, symmetric or with zero points.
        scale_dtype: Storage type of the scales, ``float32`` or ``float16``. Codes are chosen for the stored scales.
        damping: Fraction of H's mean diagonal that is added to H.
        act_order: Whether columns with the largest inputs come first. Otherwise columns go from left to right.
        refit: Whether to choose the scales again after the codes.
        drift: (in, out), X^T (Y - X w^T) for target outputs Y (tokens, out); None: the weight's own outputs.
        drift_damping: As ``damping``, for the drift correction.
        drift_share: The fraction of the drift correction that is applied; 1 applies all of it.

    Returns:
        The packed weight. Zero points, and without ``refit`` also scales, are those of round-to-nearest.

    Raises:
        NonFiniteError: A weight is NaN or too large (``rtn.py``).
        NotPositiveDefiniteError: H is not positive definite, even with damping, or not finite.
    """
    diagonal = hessian.diagonal().copy()  # (in,)
    dead = diagonal <= 0
    order = np.argsort(-diagonal, kind="stable") if act_order else np.arange(len(diagonal))
    _permute(hessian, order)
    hessian[np.diag_indices_from(hessian)] += dead[order] * np.float32(diagonal[~dead].mean() if not dead.all() else 1)
    if drift is not None:
        finite = np.isfinite(weight)
        if not finite.all():  # report it now: the correction spreads it over the whole row
            row, column = np.argwhere(~finite)[0]
            raise NonFiniteError(int(row), int(column), float(weight[row, column]))
        weight = _drift_corrected(weight, hessian, drift, order, drift_damping, drift_share)
    feedback, _ = _feedback(hessian, damping)
    nearest = quantize_rows(weight, scheme, scale_dtype)
    parts = []
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        columns = weight[rows].T[order]  # (in, rows), a copy
        columns[dead[order]] = 0
        grid = _Grid(nearest, rows)
        parts.append(_pack(_codes(columns, feedback, grid, order), grid, scheme))
    packed = replace(nearest, codes=np.concatenate(parts))
    if not refit:
        return packed
    _mirror(hessian)
    _permute(hessian, np.argsort(order))
    return replace(packed, scales=_refit(weight, dead, packed, hessian))


def _drift_corrected(
    weight: NDArray[np.float32],
    hessian: NDArray[np.float32],
    drift: NDArray[np.float32],
    order: NDArray[np.intp],
    damping: float,
    share: float,
) -> NDArray[np.float32]:
    """w + share * drift^T H^-1 for the damped H. H's columns are in quantization order; H is restored at the end."""
    diagonal, place = hessian.diagonal().copy(), np.argsort(order)
    factors = _feedback(hessian, damping)
    moved = np.empty_like(weight)
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        step = np.take(drift.T[rows], order, axis=1)
        _solve(*factors, step)
        step *= np.float32(share)
        np.add(weight[rows], np.take(step, place, axis=1), out=moved[rows])
    _mirror(hessian)
    np.fill_diagonal(hessian, diagonal)
    return moved


class _Grid:
    """Scales and zero points of some rows, as arrays (groups, rows). ``half``: scales are stored as float16."""

    def __init__(self, packed: PackedLinear, rows: slice) -> None:
        scheme = packed.scheme
        self.block_size = scheme.block_size
        self.half = packed.scales.dtype == np.float16
        self.scales = np.ascontiguousarray(packed.scales[rows].T, np.float32)
        with np.errstate(divide="ignore"):
            self.inverse = np.where(self.scales == 0, np.float32(0), 1 / self.scales)
        self.zeros = np.full(self.scales.shape, 2 ** (scheme.bits - 1), np.float32)
        if packed.zero_points is not None:
            self.zeros[:] = unpack(packed.zero_points[rows], scheme.bits)[:, : len(self.zeros)].T
        self.low, self.high = -self.zeros, 2**scheme.bits - 1 - self.zeros


def _codes(
    columns: NDArray[np.float32], feedback: NDArray[np.float32], grid: _Grid, order: NDArray[np.intp]
) -> NDArray[np.uint8]:
    """Round the columns one by one.

    Args:
        columns: (in, rows), in quantization order.
        feedback: (in, in), U above the diagonal; the rest is not read.
        grid: Scales and zero points of these rows.
        order: The position of each of ``columns`` in the weight.

    Returns:
        The codes (in, rows), in the weight's order.
    """
    codes = np.empty(columns.shape, np.uint8)
    errors = np.empty_like(columns)
    for start in range(0, len(columns), _BLOCK):
        stop = min(start + _BLOCK, len(columns))
        targets = columns[start:stop] + feedback[:start, start:stop].T @ errors[:start]
        for j in range(start, stop):
            target = targets[j - start]
            target += feedback[start:j, j] @ errors[start:j]
            group = order[j] // grid.block_size
            target *= grid.inverse[group]
            np.rint(target, out=target)
            np.clip(target, grid.low[group], grid.high[group], out=target)
            np.subtract(columns[j], target * grid.scales[group], out=errors[j])
            codes[order[j]] = target + grid.zeros[group]
    return codes


def _refit(
    weight: NDArray[np.float32], dead: NDArray[np.bool_], packed: PackedLinear, hessian: NDArray[np.float32]
) -> NDArray[np.float32] | NDArray[np.float16]:
    """Compute the best scales for given codes.

    Let w be a row's weights, s its scales, and c_g the row's codes minus their zero point in group g, zero elsewhere.
    Then (w - sum_g s_g c_g) H (..)^T is smallest if sum_h (c_g H c_h^T) s_h = c_g H w^T for each g.

    Args:
        weight: (out, in).
        dead: (in,), columns that count as zero.
        packed: The codes, and the scales that they were chosen for.
        hessian: (in, in), H.

    Returns:
        The scales, in the shape and type of ``packed.scales``. A scale that the type cannot represent is unchanged.
    """
    (out, groups), width, bits = packed.scales.shape, len(hessian), packed.scheme.bits
    size = packed.scheme.block_size
    scales: NDArray[np.float32] | NDArray[np.float16] = packed.scales.copy()
    largest = np.finfo(scales.dtype).max
    step = max(1, _REFIT_COLUMNS // size) * size
    for start in range(0, out, _REFIT_ROWS):
        rows = slice(start, min(start + _REFIT_ROWS, out))
        count = rows.stop - start
        whole = unpack(packed.codes[rows], bits).astype(np.float32)  # (rows, groups, size), zero where a block is short
        if packed.zero_points is None:
            whole -= 2 ** (bits - 1)
        else:
            whole -= unpack(packed.zero_points[rows], bits)[:, :groups, None]
        flat = whole.reshape(count, -1)
        old = scales[rows].astype(np.float64)
        pulled = np.zeros_like(flat)
        np.matmul(np.where(dead, np.float32(0), weight[rows]), hessian, out=pulled[:, :width])
        wanted = np.einsum("rgk,rgk->rg", pulled.reshape(whole.shape), whole).astype(np.float64)  # c_g H w^T
        products = np.empty((count, groups, groups))  # c_g H c_h^T
        for g in range(groups):
            at = slice(g * size, min((g + 1) * size, width))
            for first in range(at.start, width, step):  # H is symmetric, so earlier groups are already done
                last = min(first + step, groups * size)
                part = np.zeros((count, last - first), np.float32)
                np.matmul(flat[:, at], hessian[at, first:last], out=part[:, : min(last, width) - first])
                between = slice(first // size, last // size)
                sums = np.einsum("rhk,rhk->rh", part.reshape(count, -1, size), whole[:, between])
                products[:, g, between] = products[:, between, g] = sums
        diagonal = np.einsum("rgg->rg", products)
        hold = _HOLD * diagonal.mean(1, keepdims=True) + np.finfo(np.float32).tiny
        diagonal += hold
        found = np.linalg.solve(products, (wanted + hold * old)[..., None])[..., 0]
        scales[rows] = np.where(np.abs(found) <= largest, found, old)
    return scales


def _solve(feedback: NDArray[np.float32], pivots: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Replace b (rows, in) by b H^-1, for H = (U + I) D (U + I)^T, U above the diagonal of ``feedback``, D = pivots."""
    starts = range(0, len(feedback), _PANEL)
    corners = {}
    for start in reversed(starts):
        at, after = slice(start, start + _PANEL), slice(start + _PANEL, None)
        u = np.triu(feedback[at, at], 1).astype(np.float64)
        corners[start] = np.linalg.inv(u + np.eye(len(u))).astype(np.float32)
        b[:, at] = (b[:, at] - b[:, after] @ feedback[at, after].T) @ corners[start].T
    b /= pivots
    for start in starts:
        at = slice(start, start + _PANEL)
        b[:, at] = (b[:, at] - b[:, :start] @ feedback[:start, at]) @ corners[start]


def _feedback(hessian: NDArray[np.float32], damping: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute U and D (in,) of the damped H = (U + I) D (U + I)^T. U overwrites H above its diagonal."""
    diagonal = hessian.diagonal().copy()
    mean = float(diagonal.mean())
    for _ in range(DAMPING_TRIES):
        damped = diagonal + np.float32(damping * mean)
        np.fill_diagonal(hessian, damped)
        try:
            with np.errstate(invalid="ignore"):  # _factorize checks each block for NaN and infinity
                _factorize(hessian)
        except np.linalg.LinAlgError:
            _mirror(hessian)
            damping *= 10
            continue
        roots = hessian.diagonal().copy()
        for start in range(0, len(hessian), _STRIP):
            stop = min(start + _STRIP, len(hessian))
            hessian[start:stop, stop:] /= roots[stop:]
            corner = hessian[start:stop, start:stop]
            corner[:] = np.tril(corner, -1) + np.triu(corner) / roots[start:stop]
        np.fill_diagonal(hessian, damped)
        return hessian, roots * roots
    raise NotPositiveDefiniteError(
        f"H is not positive definite, even with {damping / 10:g} times its mean diagonal added"
    )


def _factorize(h: NDArray[np.float32]) -> None:
    """Replace H's upper triangle by R with H = R R^T, from the last columns to the first. The lower triangle stays.

    R_:b = (H_:b - R_:> R_b>^T) R_bb^-T, where b are the columns of a block, > the columns after it, and : all rows up
    to the block's last.

    Raises:
        LinAlgError: H is not positive definite.
    """
    for stop in range(len(h), 0, -_PANEL):
        start = max(0, stop - _PANEL)
        block = h[:stop, start:stop] - h[:stop, stop:] @ h[start:stop, stop:].T
        # numpy computes lower triangles; rotated by 180 degrees they become upper ones. float64 costs nothing here.
        corner = np.linalg.cholesky(block[start:][::-1, ::-1].astype(np.float64))[::-1, ::-1]
        if not np.isfinite(corner).all():
            raise np.linalg.LinAlgError("H contains NaN or infinity")
        h[:start, start:stop] = block[:start] @ np.linalg.inv(corner).T.astype(np.float32)
        upper = np.triu_indices(stop - start)
        h[start:stop, start:stop][upper] = corner[upper]


def _mirror(h: NDArray[np.float32]) -> None:
    """Copy the lower triangle over the upper one."""
    for start in range(0, len(h), _STRIP):
        stop = min(start + _STRIP, len(h))
        h[start:stop, stop:] = h[stop:, start:stop].T
        corner = h[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T


def _permute(h: NDArray[np.float32], order: NDArray[np.intp]) -> None:
    """Reorder the rows and columns of a matrix in place."""
    for start in range(0, len(h), _STRIP):
        strip = h[:, start : start + _STRIP]
        strip[:] = strip[order]
    for start in range(0, len(h), _STRIP):
        strip = h[start : start + _STRIP]
        strip[:] = np.take(strip, order, axis=1)  # several times faster than indexing


def _pack(codes: NDArray[np.uint8], grid: _Grid, scheme: QuantizationScheme) -> NDArray[np.uint8]:
    """Pack codes (in, rows) to (rows, blocks, bytes). A short last block is padded with its zero point."""
    in_features, rows = codes.shape
    padded = np.empty((scheme.blocks(in_features) * scheme.block_size, rows), np.uint8)
    padded[:in_features] = codes
    padded[in_features:] = grid.zeros[-1]
    return pack(np.ascontiguousarray(padded.T).reshape(rows, -1, scheme.block_size), scheme.bits)
