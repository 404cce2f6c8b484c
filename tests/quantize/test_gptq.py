"""GPTQ compared with the paper's algorithm, which uses the inverse Hessian, and with round-to-nearest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgekit.quantize.gptq import NotPositiveDefiniteError, quantize_gptq
from edgekit.quantize.packing import PackedLinear, unpack
from edgekit.quantize.rtn import NonFiniteError, quantize_rows
from edgekit.scheme import QuantizationScheme

F = np.float32
SCHEMES = [QuantizationScheme(b, 32, s) for b, s in itertools.product((4, 8), (True, False))]
# The fraction of codes that may differ because a target is near the boundary of two codes. Hundreds of sums are
# computed in float32 here and in float64 in the reference.
TIES = 0.002


def problem(out: int, in_: int, tokens: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A random weight, and H of correlated inputs whose sizes differ."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((in_, in_)) * rng.gamma(1.0, size=(1, in_)) + np.eye(in_)
    x = rng.standard_normal((tokens, in_)) @ mixing
    return rng.standard_normal((out, in_)).astype(F), (x.T @ x).astype(F)


def textbook(w: np.ndarray, h: np.ndarray, nearest: PackedLinear, damping: float, act_order: bool) -> np.ndarray:
    """Algorithm 1 of the paper, unblocked, in float64; codes (out, in)."""
    scheme = nearest.scheme
    w, h = w.astype(np.float64), h.astype(np.float64)
    dead = np.diag(h) == 0
    h[dead, dead] = np.diag(h)[~dead].mean()
    w[:, dead] = 0
    order = np.argsort(-np.where(dead, 0, np.diag(h)), kind="stable") if act_order else np.arange(len(h))
    w, h = w[:, order], h[order][:, order]
    h += np.eye(len(h)) * damping * (np.diag(h)).mean()
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    codes = np.empty(w.shape, int)
    for j in range(len(h)):
        group = order[j] // scheme.block_size
        scale = nearest.scales[:, group].astype(np.float64)
        zero = 2 ** (scheme.bits - 1)
        if nearest.zero_points is not None:
            zero = unpack(nearest.zero_points, scheme.bits)[:, group].astype(int)
        code = np.clip(np.rint(w[:, j] / scale) + zero, 0, 2**scheme.bits - 1)
        error = (w[:, j] - scale * (code - zero)) / upper[j, j]
        w[:, j + 1 :] -= np.outer(error, upper[j, j + 1 :])
        codes[:, order[j]] = code
    return codes


def codes_of(packed: PackedLinear) -> np.ndarray:
    return unpack(packed.codes, packed.scheme.bits).reshape(packed.out_features, -1)[:, : packed.in_features]


def loss(w: np.ndarray, h: np.ndarray, packed: PackedLinear) -> float:
    error = (w - packed.dequantize()).astype(np.float64)
    return float(((error @ h) * error).sum())


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("in_", [7, 64, 200])  # below, at and beyond the loop's block; with short last groups
def test_codes_are_the_papers(scheme: QuantizationScheme, act_order: bool, in_: int) -> None:
    w, h = problem(40, in_, 3 * in_, seed=in_)
    nearest = quantize_rows(w, scheme, "float32")
    expected = textbook(w, h, nearest, 0.01, act_order)
    packed = quantize_gptq(w, h.copy(), scheme, "float32", damping=0.01, act_order=act_order)
    assert np.mean(codes_of(packed) != expected) <= TIES
    assert np.abs(codes_of(packed) - expected).max() <= 1


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("scale_dtype", ["float32", "float16"])
def test_the_output_error_is_below_round_to_nearests(scheme: QuantizationScheme, scale_dtype: str) -> None:
    w, h = problem(48, 144, 600)
    packed = quantize_gptq(w, h.copy(), scheme, scale_dtype)
    nearest = quantize_rows(w, scheme, scale_dtype)
    assert packed.scales.dtype == scale_dtype
    plain = quantize_gptq(w, h.copy(), scheme, scale_dtype, refit=False)
    assert plain.scales.tobytes() == nearest.scales.tobytes()
    assert plain.codes.tobytes() == packed.codes.tobytes()
    assert loss(w, h, packed) < loss(w, h, plain) < loss(w, h, nearest)
    # float16 scales cause an error in 8-bit weights that no choice of codes can compensate
    assert loss(w, h, packed) < (0.8 if scheme.bits == 8 else 0.5) * loss(w, h, nearest)


@pytest.mark.parametrize("act_order", [True, False])
def test_refitted_scales_are_the_least_squares_ones(act_order: bool) -> None:
    w, h = problem(5, 200, 700)  # the last block is short
    scheme = QuantizationScheme(4, 64, False)
    packed = quantize_gptq(w, h.copy(), scheme, "float32", act_order=act_order)
    damped = h.astype(np.float64) + 0.01 * np.diag(h).mean() * np.eye(200)
    root = np.linalg.cholesky(damped)  # tr(E H E^T) = |E root|^2
    zeros = unpack(packed.zero_points, 4)[:, :4].astype(int)
    for row in range(5):
        blocks = np.repeat(np.arange(4), 64)[:200]
        codes = codes_of(packed)[row].astype(int) - zeros[row][blocks]
        parts = np.stack([np.where(blocks == g, codes, 0) @ root for g in range(4)], axis=1)  # (200, groups)
        expected, *_ = np.linalg.lstsq(parts, w[row] @ root, rcond=None)
        np.testing.assert_allclose(
            packed.scales[row], expected, rtol=2e-3
        )  # measured: 3e-4, from the term that keeps scales near their old values


@pytest.mark.parametrize("act_order", [True, False])
def test_with_drift_outputs_approach_their_targets(act_order: bool) -> None:
    rng = np.random.default_rng(3)
    exact = rng.standard_normal((900, 150)) @ (rng.standard_normal((150, 150)) + 3 * np.eye(150))
    x = exact * 0.9 + rng.standard_normal(exact.shape)  # the quantized layers' version
    w = rng.standard_normal((30, 150)).astype(F)
    h, y = (x.T @ x).astype(F), exact @ w.T
    drift = (x.T @ (y - x @ w.T)).astype(F)
    scheme = QuantizationScheme(8, 32, False)

    def quantized(**options: np.ndarray) -> PackedLinear:
        return quantize_gptq(
            w,
            h.copy(),
            scheme,
            "float32",
            damping=1e-4,
            act_order=act_order,
            drift_damping=1e-4,
            drift_share=1.0,
            **options,
        )

    best, *_ = np.linalg.lstsq(x, y, rcond=None)
    least = np.square(x @ best - y).sum()
    found, without = (np.square(x @ p.dequantize().T - y).sum() for p in (quantized(drift=drift), quantized()))
    assert least < found < 1.01 * least < without


def test_a_group_of_zeros_keeps_its_scale() -> None:
    w, h = problem(8, 128, 500)
    w[:, :64] = 0
    for symmetric in (True, False):
        scheme = QuantizationScheme(4, 64, symmetric)
        packed = quantize_gptq(w, h.copy(), scheme, "float16")
        np.testing.assert_array_equal(packed.scales[:, 0], quantize_rows(w, scheme, "float16").scales[:, 0])
        assert not packed.dequantize()[:, :64].any()


def test_the_largest_inputs_first_is_better_when_inputs_differ() -> None:
    w, h = problem(48, 192, 600)
    scheme = QuantizationScheme(4, 64, True)
    ordered, plain = (quantize_gptq(w, h.copy(), scheme, "float32", act_order=on) for on in (True, False))
    assert loss(w, h, ordered) < loss(w, h, plain)


def test_uncorrelated_inputs_leave_round_to_nearest() -> None:
    w, _ = problem(20, 96, 1)
    for scheme in SCHEMES:
        packed = quantize_gptq(w, np.eye(96, dtype=F) * 5, scheme, "float32")
        nearest = quantize_rows(w, scheme, "float32")
        assert packed.codes.tobytes() == nearest.codes.tobytes()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_columns_without_input_become_zero(scheme: QuantizationScheme) -> None:
    w, h = problem(16, 70, 300)
    dead = [0, 33, 69]
    h[dead] = 0
    h[:, dead] = 0
    packed = quantize_gptq(w, h.copy(), scheme, "float32")
    assert not packed.dequantize()[:, dead].any()
    alive = np.setdiff1d(np.arange(70), dead)
    assert loss(w[:, alive], h[np.ix_(alive, alive)], _without(packed, alive)) < loss(
        w[:, alive], h[np.ix_(alive, alive)], _without(quantize_rows(w, scheme, "float32"), alive)
    )


def test_the_size_of_the_inputs_does_not_matter() -> None:
    w, h = problem(16, 96, 300)
    h[::3] = 0
    h[:, ::3] = 0
    packed = [quantize_gptq(w, h * F(2**size), SCHEMES[0], "float32") for size in (-30, 0, 10)]
    assert packed[0].codes.tobytes() == packed[1].codes.tobytes() == packed[2].codes.tobytes()


def test_without_any_input_all_become_zero() -> None:
    w, h = problem(16, 96, 300)
    assert not quantize_gptq(w, h * 0, SCHEMES[0], "float32").dequantize().any()


class _without:  # noqa: N801  (stands in for a PackedLinear)
    def __init__(self, packed: PackedLinear, columns: np.ndarray) -> None:
        self._weight = packed.dequantize()[:, columns]

    def dequantize(self) -> np.ndarray:
        return self._weight


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_padding_of_a_short_group_reads_back_as_zero(scheme: QuantizationScheme) -> None:
    w, h = problem(5, 40, 100)
    packed = quantize_gptq(w, h, scheme, "float32")
    codes = unpack(packed.codes, scheme.bits)[:, -1, 8:]
    zeros = np.full(5, 2 ** (scheme.bits - 1))
    if packed.zero_points is not None:
        zeros = unpack(packed.zero_points, scheme.bits)[:, 1]
    assert (codes == zeros[:, None]).all()


def test_fewer_tokens_than_inputs_are_damped() -> None:
    """H has a quarter of full rank, so it has no Cholesky factor without damping."""
    w, h = problem(16, 128, 32)
    scheme = QuantizationScheme(4, 32, True)
    packed = quantize_gptq(w, h.copy(), scheme, "float32")
    assert loss(w, h, packed) < loss(w, h, quantize_rows(w, scheme, "float32"))


def test_damping_is_retried_with_ten_times_as_much() -> None:
    """The factorization ends with the small inputs, so it fails after most of H was overwritten."""
    w, h = problem(16, 130, 600)
    small_first = np.argsort(h.diagonal())
    h = h[np.ix_(small_first, small_first)]
    lowest = np.linalg.eigvalsh(h.astype(np.float64))[0]
    indefinite = h - np.eye(130, dtype=F) * F(lowest + 0.05 * h.diagonal().mean())
    scheme = QuantizationScheme(4, 32, True)
    retried, asked = (
        quantize_gptq(w, indefinite.copy(), scheme, "float32", damping=share, act_order=False) for share in (0.01, 0.1)
    )
    assert retried.codes.tobytes() == asked.codes.tobytes()


@pytest.mark.parametrize("bad", [-1e6, np.nan, np.inf])
def test_a_matrix_that_no_damping_makes_positive_definite_is_an_error(bad: float) -> None:
    w, h = problem(4, 70, 100)
    h[3, 60] = h[60, 3] = bad * (1 if np.isnan(bad) or np.isinf(bad) else h.diagonal().max())
    with pytest.raises(NotPositiveDefiniteError, match=r"even with 10 times its mean diagonal"):
        quantize_gptq(w, h, QuantizationScheme(4, 32, True), "float32")


def test_rows_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    import edgekit.quantize.gptq as gptq

    w, h = problem(33, 100, 300)
    scheme = QuantizationScheme(4, 32, False)
    whole = quantize_gptq(w, h.copy(), scheme, "float32")
    monkeypatch.setattr(gptq, "ROWS", 10)
    parts = quantize_gptq(w, h.copy(), scheme, "float32")
    assert np.mean(codes_of(whole) != codes_of(parts)) <= TIES  # BLAS adds in a different order for different shapes


def test_nan_weights_are_found() -> None:
    w, h = problem(4, 64, 100)
    w[2, 5] = np.nan
    with pytest.raises(NonFiniteError, match="row 2, column 5"):
        quantize_gptq(w, h, QuantizationScheme(4, 32, True), "float32")
