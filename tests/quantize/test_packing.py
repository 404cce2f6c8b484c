"""The bit layout, compared with a definition on single numbers and with what onnxruntime computes from it."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit.quantize.packing import PackedLinear, pack, unpack
from edgekit.scheme import BITS, BLOCK_SIZES, QuantizationScheme

# onnxruntime and numpy add float32 products in different orders; relative to the largest output.
SUM_ORDER_TOLERANCE = 2e-6

schemes = st.builds(QuantizationScheme, st.sampled_from(BITS), st.sampled_from(BLOCK_SIZES), st.booleans())


def random_linear(scheme: QuantizationScheme, n: int, k: int, seed: int, scale_dtype: str = "float32") -> PackedLinear:
    rng = np.random.default_rng(seed)
    zero_shape = scheme.zero_points_shape(n, k)
    return PackedLinear(
        scheme, n, k,
        codes=rng.integers(0, 256, scheme.codes_shape(n, k), dtype=np.uint8),
        scales=rng.uniform(-0.1, 0.1, scheme.scales_shape(n, k)).astype(scale_dtype),
        zero_points=None if zero_shape is None else rng.integers(0, 256, zero_shape, dtype=np.uint8),
    )  # fmt: skip


def weight_by_definition(w: PackedLinear, n: int, k: int) -> float:
    """One weight, computed from the description in packing.py."""
    scheme = w.scheme
    block, i = divmod(k, scheme.block_size)

    def code(row: np.ndarray, at: int) -> int:
        if scheme.bits == 8:
            return int(row[at])
        return int(row[at // 2]) >> 4 * (at % 2) & 15

    zero = 2 ** (scheme.bits - 1) if w.zero_points is None else code(w.zero_points[n], block)
    return float(w.scales[n, block]) * (code(w.codes[n, block], i) - zero)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.sampled_from(BITS))
def test_pack_round_trip(values: list[int], bits: int) -> None:
    codes = np.array([v % 2**bits for v in values], np.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (-(-len(values) * bits // 8),)
    assert unpack(packed, bits)[: len(values)].tolist() == codes.tolist()


@settings(deadline=None)
@given(schemes, st.integers(1, 5), st.integers(1, 300), st.integers(0, 99))
def test_dequantize_is_the_definition(scheme: QuantizationScheme, n: int, k: int, seed: int) -> None:
    w = random_linear(scheme, n, k, seed)
    expected = [[weight_by_definition(w, row, column) for column in range(k)] for row in range(n)]
    np.testing.assert_allclose(w.dequantize(), np.array(expected), rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(schemes, st.integers(1, 40), st.integers(17, 300), st.integers(1, 3), st.integers(0, 99))
def test_matmulnbits_reads_the_layout(scheme: QuantizationScheme, n: int, k: int, m: int, seed: int) -> None:
    w = random_linear(scheme, n, k, seed)
    a = np.random.default_rng(seed).standard_normal((m, k)).astype(np.float32)
    inputs = {"B": w.codes, "scales": w.scales}
    if w.zero_points is not None:
        inputs["zero_points"] = w.zero_points
    node = helper.make_node(
        "MatMulNBits", ["A", *inputs], ["Y"], domain="com.microsoft",
        K=k, N=n, bits=scheme.bits, block_size=scheme.block_size, accuracy_level=1,
    )  # fmt: skip
    y = _run(node, inputs, {"A": a})
    expected = a @ w.dequantize().T
    assert np.abs(y - expected).max() <= SUM_ORDER_TOLERANCE * k**0.5 * max(1.0, np.abs(expected).max())


@settings(deadline=None, max_examples=40)
@given(schemes, st.integers(1, 20), st.integers(17, 300), st.integers(0, 99))
def test_gatherblockquantized_reads_the_layout(scheme: QuantizationScheme, n: int, k: int, seed: int) -> None:
    w = random_linear(scheme, n, k, seed)
    inputs = {"data": w.codes.reshape(n, -1), "scales": w.scales}
    if w.zero_points is not None:
        inputs["zero_points"] = w.zero_points
    names = ["data", "indices", *list(inputs)[1:]]
    node = helper.make_node(
        "GatherBlockQuantized", names, ["Y"], domain="com.microsoft",
        bits=scheme.bits, block_size=scheme.block_size, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    y = _run(node, inputs, {"indices": np.arange(n)})
    np.testing.assert_array_equal(y[:, :k], w.dequantize())


def _run(node, weights, feeds):
    def info(name, array):
        kind = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}[str(array.dtype)]
        return helper.make_tensor_value_info(name, kind, array.shape)

    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [node],
        "one",
        [info(name, array) for name, array in feeds.items()],
        [output],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0]


def test_shapes_are_checked() -> None:
    scheme = QuantizationScheme(4, 32, True)
    with pytest.raises(ValueError, match=r"scales of a \(2, 64\) weight has shape \(2, 3\)"):
        PackedLinear(scheme, 2, 64, np.zeros((2, 2, 16), np.uint8), np.zeros((2, 3), np.float32), None)
