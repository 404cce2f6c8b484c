"""A stream computes what the float graph does, to the engine's rounding where the engine's kernels compute it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.checkpoint import open_checkpoint
from edgekit.export import calibration_stream as module
from edgekit.export.calibration_stream import Stream, multiply_packed
from edgekit.export.float_model import FloatModel
from edgekit.export.weights import WeightSource
from edgekit.models import spec_from_config
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationScheme

# Keys and values are rounded to float16, 2^-11 of each at most, and so is what is averaged.
HALF = 1e-3
# Activations are rounded to int8 in groups of 32: half a step of 1/127 of the largest, some 0.6 % of normal ones.
INT8 = 1.2e-2
ALL = {"logits_start": np.zeros(1, np.int64)}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("tokens", [1, 37, 200])
@pytest.mark.parametrize(("family", "most_head_dim"), [("llama", 256), ("qwen2", 256), ("qwen2", 0)])
def test_a_float_layer_is_onnxruntimes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, most_head_dim: int, tokens: int
) -> None:
    """Also where heads are larger than the engine's kernels take: attention then is onnxruntime's."""
    monkeypatch.setattr(module, "MOST_HEAD_DIM", most_head_dim)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family)
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        source = WeightSource(opened, spec)
        stream, model = Stream(source, spec, 256, 2), FloatModel(source, spec, 256, 1)
        nodes = stream.nodes()
        hidden, fetch = "/model/embed_tokens/Gather/output_0", []
        for name in ("attn/o_proj", "mlp/gate_up_proj", "mlp/down_proj"):
            fetch.append(nodes[f"/model/layers.0/{name}/FusedMatMul"].input[0])
        rows = np.random.default_rng(0).standard_normal((tokens, spec.hidden_size)).astype(np.float32)
        found = stream.part({hidden}, fetch)({hidden: rows})
        expected = model.model.part({hidden}, fetch, ALL)({**model.context(tokens), hidden: rows[None]})
        for name, a, b in zip(fetch, found, expected, strict=True):
            assert difference(a, b[0]) < (HALF if most_head_dim else 1e-5), name


@pytest.mark.parametrize("kernel", ["scalar", "the one chosen here"])
def test_a_matrixs_codes_stand_in_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    if kernel == "scalar":  # too slow: what the codes mean is multiplied as a float weight is
        monkeypatch.setattr(module, "kernel_name", lambda: "scalar")
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        stream = Stream(WeightSource(opened, spec), spec, 64, 2)
        node = stream.nodes()["/model/layers.0/mlp/gate_up_proj/FusedMatMul"]
        rows = np.random.default_rng(0).standard_normal((50, spec.hidden_size)).astype(np.float32)
        name = node.input[1].removesuffix(".weight")
        weight = stream._model.weight(node.input[1])
        packed = quantize_rows(weight, QuantizationScheme(4, 32, False), "float32")
        stream.packed[name] = packed
        (found,) = stream.part({node.input[0]}, [node.output[0]])({node.input[0]: rows})
        assert difference(found, rows @ packed.dequantize().T) < (1e-6 if kernel == "scalar" else INT8)
        assert difference(found, rows @ weight.T) > 2 * INT8, "and not the weight itself"


@pytest.mark.parametrize("tokens", [1, 15, 33, 700])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_a_products_rows(tokens: int, threads: int) -> None:
    rng = np.random.default_rng(0)
    packed = quantize_rows(rng.standard_normal((40, 70)).astype(np.float32), QuantizationScheme(8, 32, True), "float32")
    x = rng.standard_normal((tokens, 70)).astype(np.float32)
    np.testing.assert_array_equal(multiply_packed(packed, x, threads), multiply_packed(packed, x, 1))
    assert difference(multiply_packed(packed, x, threads), x @ packed.dequantize().T) < INT8
