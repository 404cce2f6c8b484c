"""The kernels through the C API: the scalar kernel is compared with numpy, all others with the scalar kernel."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit import native
from edgekit.errors import EngineError
from edgekit.native.products import attend, multiply
from edgekit.probe.limits import kernels

# Half a unit in the last place of a float32: the relative error of each addition.
ROUNDING = 2.0**-24
KERNEL_FILES = {path.stem for path in (Path(__file__).parents[2] / "edgekit" / "native" / "kernels").glob("*.cpp")}
KERNELS = [name for name, runs in kernels().items() if runs]


@dataclass
class Case:
    """A matrix, activations, and the arguments of ek_multiply."""

    codes: NDArray[np.uint8]  # (n, padded k), one code each
    scales: NDArray[np.float32] | NDArray[np.float16]  # (n, blocks)
    zero_points: NDArray[np.uint8] | None  # (n, blocks), one each
    bias: NDArray[np.float32] | None
    x: NDArray[np.float32]  # (m, k)
    bits: int
    block: int

    def multiply(self, kernel: str, prefill: bool) -> NDArray[np.float32]:
        n, blocks = self.scales.shape
        return multiply(
            pack(self.codes, self.bits).reshape(n, blocks, -1), self.scales, self.x, bits=self.bits,
            block_size=self.block, zero_points=None if self.zero_points is None else pack(self.zero_points, self.bits),
            bias=self.bias, kernel=kernel, prefill=prefill,
        )  # fmt: skip

    def definition(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The product in float64 of the rounded numbers, and the sum of the magnitudes of its terms: (m, n) each."""
        n, blocks = self.scales.shape
        values, steps = rounded(self.x, blocks * self.block, self.block)
        x = (values * np.repeat(steps, self.block, axis=1).astype(np.float64)).reshape(len(self.x), blocks, self.block)
        zeros = np.full((n, blocks), 1 << (self.bits - 1)) if self.zero_points is None else self.zero_points
        codes = self.codes.reshape(n, blocks, self.block).astype(np.float64)
        scales = self.scales.astype(np.float64)
        bias = np.zeros(n) if self.bias is None else self.bias.astype(np.float64)
        product = np.einsum("nbk,mbk,nb->mn", codes - zeros[:, :, None], x, scales) + bias
        shift = 256 if self.bits == 8 else 0  # a kernel may subtract 128 from a code and its zero point
        size = np.einsum("nbk,mbk,nb->mn", codes + zeros[:, :, None] + shift, np.abs(x), np.abs(scales)) + np.abs(bias)
        return product, size

    def tolerance(self, size: NDArray[np.float64]) -> NDArray[np.float64]:
        """The error bound of float32 sums in any order: sum, scale and zero point of a block, lanes, bias."""
        blocks = self.scales.shape[1]
        return (blocks * 5 + 8) * ROUNDING * size + 1e-30


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """(n, count) codes -> (n, ceil(count * bits / 8)) bytes, the low nibble first."""
    if bits == 8:
        return codes
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return even[:, ::2] | even[:, 1::2] << 4


def rounded(x: NDArray[np.float32], width: int, group: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Activations as int8 and the scale of each group, computed in float32: (m, width) and (m, width / group)."""
    groups = np.pad(x, ((0, 0), (0, width - x.shape[1]))).reshape(len(x), -1, group)
    most = np.abs(groups).max(axis=2)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(most > np.float32(1e-30), np.float32(127) / most, np.float32(0))
    values = np.rint(groups * inverse[:, :, None]).astype(np.int64)
    return values.reshape(len(x), width), most / np.float32(127)


@st.composite
def cases(draw: st.DrawFn, exact: bool = False) -> Case:
    """Random cases. exact: integer activations and powers of two as scales, so that float32 sums are exact."""
    bits, block = draw(st.sampled_from([4, 8])), draw(st.sampled_from([32, 64, 128]))
    n, m = draw(st.integers(1, 70)), draw(st.integers(1, 40))
    k = draw(st.integers(1, 700 if not exact else 300 if bits == 4 else 100))
    half, asymmetric, biased = (draw(st.booleans()) for _ in range(3))
    extreme = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    blocks, most = -(-k // block), (1 << bits) - 1

    def codes(*shape: int) -> NDArray[np.uint8]:
        if extreme:  # the largest sums
            return rng.choice([0, most], shape, p=[0.1, 0.9]).astype(np.uint8)
        return rng.integers(0, most + 1, shape, dtype=np.uint8)

    if exact:
        x = rng.integers(-127, 128, (m, k)).astype(np.float32)
        x[:, ::block] = 127 * rng.choice([-1, 1], x[:, ::block].shape)  # a scale of one in every group
        scales = np.exp2(rng.integers(-1, 1, (n, blocks)))
        bias = rng.integers(-1000, 1000, n)
    else:
        x = rng.normal(size=(m, k)) * rng.choice([1, 30], (m, k), p=[0.98, 0.02]) * 10.0 ** draw(st.integers(-12, 12))
        scales = rng.normal(size=(n, blocks)) * 0.1
        bias = rng.normal(size=n)
    return Case(
        codes(n, blocks * block), scales.astype(np.float16 if half else np.float32),
        codes(n, blocks) if asymmetric else None, bias.astype(np.float32) if biased else None,
        x.astype(np.float32), bits, block,
    )  # fmt: skip


def test_every_kernel_file_is_known() -> None:
    """A kernel's name is its file's; the scalar one runs everywhere."""
    assert "scalar" in KERNELS
    assert set(kernels()) <= KERNEL_FILES
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    assert ("avx2" in KERNELS) == bool(re.search(r"\bavx2\b", flags))


@pytest.mark.parametrize("prefill", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=60, deadline=None)
@given(case=cases(exact=True))
def test_where_the_arithmetic_is_exact_every_kernel_is_numpy(kernel: str, prefill: bool, case: Case) -> None:
    """Codes, zero points, signs and integer sums: all partial sums are multiples of 1/2 below 2^23."""
    product, size = case.definition()
    assert size.max() < 1 << 23
    np.testing.assert_array_equal(case.multiply(kernel, prefill), product.astype(np.float32))


@pytest.mark.parametrize("prefill", [False, True])
@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_scalar_is_numpy(prefill: bool, case: Case) -> None:
    """Activations are rounded alike and integer sums are equal; float sums have another order."""
    product, size = case.definition()
    assert (np.abs(case.multiply("scalar", prefill) - product) <= case.tolerance(size)).all()


@pytest.mark.parametrize("prefill", [False, True])
@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != "scalar"])
@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_every_kernel_is_scalar(kernel: str, prefill: bool, case: Case) -> None:
    _, size = case.definition()
    difference = np.abs(case.multiply(kernel, prefill) - case.multiply("scalar", prefill))
    assert (difference <= case.tolerance(size)).all()


def test_more_rows_and_outputs_than_one_call_of_a_kernel_takes() -> None:
    rng = np.random.default_rng(1)
    case = Case(
        rng.integers(0, 16, (600, 64), dtype=np.uint8), rng.normal(size=(600, 2)).astype(np.float32), None, None,
        rng.normal(size=(1100, 40)).astype(np.float32), 4, 32,
    )  # fmt: skip
    product, size = case.definition()
    for kernel in KERNELS:
        assert (np.abs(case.multiply(kernel, False) - product) <= case.tolerance(size)).all()


def test_bad_arguments_are_named() -> None:
    codes, scales, x, y = (
        np.zeros(64, np.uint8),
        np.zeros(8, np.float32),
        np.zeros(64, np.float32),
        np.zeros(8, np.float32),
    )
    good = {
        "codes": codes.ctypes.data, "scales": scales.ctypes.data, "n": 1, "k": 32, "bits": 4, "block_size": 32,
        "scale_dtype": native.FLOAT32,
    }  # fmt: skip
    call = native.library().ek_multiply

    def says(
        words: str, status: int = native.BAD_ARGUMENT, m: int = 1, kernel: bytes | None = None, **change: int
    ) -> None:
        matrix = native.Matrix(**{**good, **change})
        assert call(kernel, matrix, x.ctypes.data, m, 0, y.ctypes.data) == status
        assert words in native.last_error()

    says("a matrix of 0 rows; allowed: 1 to 16777216", n=0)
    says("200000 columns; allowed: 1 to 131072", k=200000)
    says("codes of 5 bits; allowed: 4 or 8", bits=5)
    says("block size of 16; allowed: 32, 64 or 128", block_size=16)
    says("scales of type 2", scale_dtype=native.BFLOAT16)
    says("codes and scales of a matrix must not be NULL", codes=0)
    says("misaligned; their address must be a multiple of 4 bytes", scales=scales.ctypes.data + 2)
    says("0 rows of activations", m=0)
    says("cannot use the kernel 'neon9'; this processor supports", status=native.UNSUPPORTED, kernel=b"neon9")
    assert call(None, native.Matrix(**good), None, 1, 0, y.ctypes.data) == native.BAD_ARGUMENT
    assert call(None, native.Matrix(**good), x.ctypes.data, 1, 0, y.ctypes.data) == native.OK
    with pytest.raises(EngineError, match="cannot use the kernel 'sse9'"):
        multiply(codes[:16].reshape(1, 1, 16), scales[:1, None], x[None, :32], bits=4, block_size=32, kernel="sse9")
    with pytest.raises(ValueError, match=r"bias is \(8,\), expected \(1,\)"):
        multiply(codes[:16].reshape(1, 1, 16), scales[:1, None], x[None, :32], bits=4, block_size=32, bias=scales)
    assert ctypes.sizeof(native.Matrix) == 64


# Keys and values are rounded to float16: half a unit in the last place, 2^-11, for scores and values up to about 4.
HALF_ATTENTION = 4e-3


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 2, 16), (9, 3, 64), (3, 3, 128), (7, 1, 32)])
@pytest.mark.parametrize("tokens", [1, 16, 77, 300])
def test_attention_is_causal_softmax(heads: int, kv_heads: int, head_dim: int, tokens: int) -> None:
    rng = np.random.default_rng(0)
    qkv = rng.standard_normal((tokens, (heads + 2 * kv_heads) * head_dim)).astype(np.float32)
    angles = rng.uniform(0, 6, (tokens + 3, head_dim // 2))
    given = qkv.copy()
    y = attend(qkv, heads, kv_heads, np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), 2)
    assert (qkv == given).all()
    q, k, v = np.split(qkv.reshape(tokens, -1, head_dim).swapaxes(0, 1).astype(np.float64), [heads, heads + kv_heads])

    def rotated(x: np.ndarray) -> np.ndarray:  # the halves of a head form the pairs
        a, b = x[..., : head_dim // 2], x[..., head_dim // 2 :]
        cos, sin = np.cos(angles[:tokens]), np.sin(angles[:tokens])
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    k, v = (np.repeat(x, heads // kv_heads, axis=0) for x in (rotated(k), v))
    scores = rotated(q) @ k.swapaxes(1, 2) / np.sqrt(head_dim)
    scores[:, np.triu_indices(tokens, 1)[0], np.triu_indices(tokens, 1)[1]] = -np.inf
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    expected = (weights / weights.sum(axis=2, keepdims=True)) @ v
    np.testing.assert_allclose(y, expected.swapaxes(0, 1).reshape(tokens, -1), atol=HALF_ATTENTION)


def test_attention_says_what_it_does_not_take() -> None:
    angles = np.zeros((4, 12), np.float32)
    with pytest.raises(EngineError, match="a head_dim of 24; allowed: multiples of 16 up to 256"):
        attend(np.zeros((4, 72), np.float32), 1, 1, angles, angles)
    angles = np.zeros((4, 8), np.float32)
    with pytest.raises(EngineError, match="3 heads and 2 key-value heads"):
        attend(np.zeros((4, 7 * 16), np.float32), 3, 2, angles, angles)
    with pytest.raises(EngineError, match="-1 threads were requested"):
        attend(np.zeros((4, 48), np.float32), 1, 1, angles, angles, -1)
    with pytest.raises(ValueError, match="do not fit together"):
        attend(np.zeros((5, 48), np.float32), 1, 1, angles, angles)
