"""The native row quantizer: identical to a numpy definition bit for bit, and better than plain absmax."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.quantize.packing import unpack
from edgekit.quantize.rtn import NonFiniteError, quantize_rows
from edgekit.scheme import BITS, BLOCK_SIZES, QuantizationScheme

F = np.float32
LANES, ROUND, TINY = 16, F(12582912.0), F(1e-30)
SYMMETRIC = {4: (F(-1.6), F(0.2)), 8: (F(-2.0), F(0.2))}
ASYMMETRIC = {4: (F(0.685), F(0.045)), 8: (F(0.965), F(0.005))}

schemes = st.builds(QuantizationScheme, st.sampled_from(BITS), st.sampled_from(BLOCK_SIZES), st.booleans())


def _round(v: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum((v + ROUND) - ROUND, low), high)


def _refit(x: np.ndarray, inverse: np.float32, low: np.float32, high: np.float32) -> np.float32:
    """<x,q> / <q,q> of the rounded block, summed as the kernel does: 16 lanes, then halves."""
    q = _round(x * inverse, low, high)
    sums = []
    for products in (x * q, q * q):
        lanes = np.zeros(LANES, F)
        for row in products.reshape(-1, LANES):
            lanes = lanes + row
        width = LANES // 2
        while width:
            lanes[:width] += lanes[width : 2 * width]
            width //= 2
        sums.append(lanes[0])
    return sums[0] / sums[1] if sums[1] > 0 else F(1) / inverse


def _candidates(x: np.ndarray, scheme: QuantizationScheme) -> tuple[np.ndarray, np.ndarray] | None:
    """The 16 (1 / scale, zero point) pairs tried for a block; None for a block of zeros."""
    top, half, lane = 2**scheme.bits - 1, 2 ** (scheme.bits - 1), np.arange(LANES)
    if scheme.symmetric:
        largest = x[np.argmax(np.abs(x))]
        first, step = SYMMETRIC[scheme.bits]
        levels = F(half) + (first + step * lane.astype(F))
        return None if abs(largest) < TINY else (-levels / largest, np.full(LANES, half))
    low, high = min(x.min(), F(0)), max(x.max(), F(0))
    if high - low < TINY:
        return None
    first, step = ASYMMETRIC[scheme.bits]
    below = int(-low / (high - low) * F(top))
    spans = (high - low) * (first + step * (lane // 2).astype(F))
    return F(top) / spans, np.minimum(below + lane % 2, top)


def by_definition(x: np.ndarray, scheme: QuantizationScheme, scale_dtype: str) -> tuple[np.ndarray, float, int]:
    """Codes (padded), scale as stored and zero point of one block (float32)."""
    top = F(2**scheme.bits - 1)
    padded = np.pad(x, (0, scheme.block_size - len(x)))
    best, scale, zero = F(-1), F(0), 2 ** (scheme.bits - 1) if scheme.symmetric else 0
    candidates = _candidates(x, scheme)
    if candidates is not None:
        inverse, zeros = candidates
        zero = int(zeros[0])
        xq, qq = np.zeros(LANES, F), np.zeros(LANES, F)
        for weight in x:
            q = _round(weight * inverse, -zeros.astype(F), top - zeros.astype(F))
            xq, qq = xq + weight * q, qq + q * q
        for j in np.flatnonzero(qq > 0):
            if (xq[j] / qq[j]) * xq[j] > best:
                best, scale, zero = (xq[j] / qq[j]) * xq[j], xq[j] / qq[j], int(zeros[j])
    if abs(scale) >= TINY:
        scale = _refit(padded, F(1) / scale, F(-zero), top - F(zero))
    stored = scale.astype(scale_dtype)
    inverse = F(0) if abs(F(stored)) < TINY else F(1) / F(stored)
    codes = _round(padded * inverse, F(-zero), top - F(zero)) + F(zero)
    codes[len(x) :] = zero
    return codes.astype(np.uint8), float(stored), zero


@settings(deadline=None, max_examples=60)
@given(schemes, st.integers(1, 150), st.integers(0, 999), st.sampled_from(("float32", "float16")), st.booleans())
def test_native_is_the_definition(
    scheme: QuantizationScheme, k: int, seed: int, scale_dtype: str, one_sided: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_t(3, (2, k)) * 10.0 ** rng.integers(-4, 4)).astype(F)
    rows = np.abs(rows) if one_sided else rows
    packed = quantize_rows(rows, scheme, scale_dtype)
    for n in range(2):
        for b in range(scheme.blocks(k)):
            block = rows[n, b * scheme.block_size : (b + 1) * scheme.block_size]
            codes, scale, zero = by_definition(block, scheme, scale_dtype)
            assert unpack(packed.codes[n, b], scheme.bits).tolist() == codes.tolist()
            assert float(packed.scales[n, b]) == scale
            if packed.zero_points is not None:
                assert unpack(packed.zero_points[n], scheme.bits)[b] == zero


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_search_beats_absmax(bits: int, block_size: int, symmetric: bool) -> None:
    """Least squares over the candidates leaves less error than mapping the block's extremes to the ends."""
    w = np.random.default_rng(0).standard_normal((64, 1024)).astype(F)
    searched = quantize_rows(w, QuantizationScheme(bits, block_size, symmetric), "float32").dequantize()
    blocks = w.reshape(64, -1, block_size)
    if symmetric:
        scale = np.abs(blocks).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
        plain = np.round(blocks / scale) * scale
    else:
        low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
        scale = (high - low) / (2**bits - 1)
        zero = np.round(-low / scale)
        plain = (np.clip(np.round(blocks / scale) + zero, 0, 2**bits - 1) - zero) * scale
    gain = ((searched - w) ** 2).sum() / ((plain.reshape(w.shape) - w) ** 2).sum()
    assert gain < (0.95 if bits == 4 else 0.99)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_read_exactly(dtype: type) -> None:
    narrow = np.random.default_rng(1).standard_normal((5, 200)).astype(dtype)
    narrow[0, :4] = np.array([6e-8, -6e-8, 0.0, 65504.0 if dtype is np.float16 else 3e29]).astype(dtype)
    scheme = QuantizationScheme(8, 32, False)
    a, b = quantize_rows(narrow, scheme, "float32"), quantize_rows(narrow.astype(F), scheme, "float32")
    assert a.codes.tobytes() == b.codes.tobytes()
    assert a.scales.tobytes() == b.scales.tobytes()


def test_rows_are_independent() -> None:
    w = np.random.default_rng(2).standard_normal((9, 100)).astype(F)
    scheme = QuantizationScheme(4, 64, False)
    whole, part = quantize_rows(w, scheme, "float16"), quantize_rows(w[3:5], scheme, "float16")
    assert whole.codes[3:5].tobytes() == part.codes.tobytes()
    assert whole.zero_points is not None
    assert part.zero_points is not None
    assert whole.zero_points[3:5].tobytes() == part.zero_points.tobytes()


@pytest.mark.parametrize("scheme", [QuantizationScheme(b, 32, s) for b in BITS for s in (True, False)], ids=str)
def test_zeros_constants_and_extremes_stay_finite(scheme: QuantizationScheme) -> None:
    w = np.zeros((6, 64), F)
    w[1], w[2], w[3, 0], w[4], w[5] = 1e-38, 3.0, -65504.0, -0.5, np.linspace(60000, 65000, 64)
    for scale_dtype in ("float32", "float16"):
        back = quantize_rows(w, scheme, scale_dtype).dequantize()
        assert np.isfinite(back).all()
        assert not back[0].any()
        np.testing.assert_allclose(back[2], 3.0, rtol=1e-3)
        np.testing.assert_allclose(back[4], -0.5, rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_nan_and_infinity_are_found(bad: float, dtype: type) -> None:
    w = np.ones((4, 70), dtype)
    w[2, 69] = bad
    with pytest.raises(NonFiniteError, match="row 2, column 69") as caught:
        quantize_rows(w, QuantizationScheme(4, 32, True), "float32")
    assert (caught.value.row, caught.value.column) == (2, 69)


@pytest.mark.parametrize(("scale_dtype", "most"), [("float32", 1e30), ("float16", 65504.0)])
def test_weights_that_would_overflow_are_found(scale_dtype: str, most: float) -> None:
    w = np.ones((1, 32), F)
    w[0, 5] = most
    assert np.isfinite(quantize_rows(w, QuantizationScheme(4, 32, True), scale_dtype).dequantize()).all()
    w[0, 5] = -most * 1.01
    with pytest.raises(NonFiniteError, match="column 5"):
        quantize_rows(w, QuantizationScheme(4, 32, True), scale_dtype)


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="the rows are int32 with 2 axes; expected"):
        quantize_rows(np.zeros((2, 32), np.int32), QuantizationScheme(), "float32")
