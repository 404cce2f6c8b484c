"""A stream computes the same as the float graph, up to the rounding of the engine's kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.calibration.stream import Stream
from edgekit.checkpoint import open_checkpoint
from edgekit.models import spec_from_config
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationScheme
from edgekit.streaming.float_model import FloatModel
from edgekit.weights.checkpoint import CheckpointWeights

# Keys and values are rounded to float16, 2^-11 of each at most, and so is what is averaged.
HALF = 1e-3
ROUNDING = 1e-5  # of float32 sums in another order
ALL = {"logits_start": np.zeros(1, np.int64)}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("tokens", [1, 37, 200])
@pytest.mark.parametrize(("family", "head_dim"), [("llama", 48), ("qwen2", 48), ("qwen3", 48), ("qwen2", 320)])
def test_a_float_layer_is_onnxruntimes(tmp_path: Path, family: str, head_dim: int, tokens: int) -> None:
    """Heads that are too large for the engine's kernel use onnxruntime's attention."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family, head_dim=head_dim)
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        source = CheckpointWeights(opened, spec)
        stream, model = Stream(source, spec, 256, 2), FloatModel(source, spec, 256, 1)
        nodes = stream.nodes()
        hidden, fetch = "/model/embed_tokens/Gather/output_0", []
        for name in ("attn/o_proj", "mlp/gate_up_proj", "mlp/down_proj"):
            fetch.append(nodes[f"/model/layers.0/{name}/FusedMatMul"].input[0])
        rows = np.random.default_rng(0).standard_normal((tokens, spec.hidden_size)).astype(np.float32)
        found = stream.part({hidden}, fetch)({hidden: rows})
        expected = model.graph.part({hidden}, fetch, ALL)({**model.context(tokens), hidden: rows[None]})
        for name, a, b in zip(fetch, found, expected, strict=True):
            assert difference(a, b[0]) < (HALF if head_dim == 48 else ROUNDING), name


def test_a_matrixs_codes_stand_in_for_it(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        stream = Stream(CheckpointWeights(opened, spec), spec, 64, 2)
        node = stream.nodes()["/model/layers.0/mlp/gate_up_proj/FusedMatMul"]
        rows = np.random.default_rng(0).standard_normal((50, spec.hidden_size)).astype(np.float32)
        weight = FloatModel(CheckpointWeights(opened, spec), spec, 64, 1).weight(node.input[1])
        packed = quantize_rows(weight, QuantizationScheme(4, 32, False), "float32")
        codes = {node.input[1].removesuffix(".weight"): packed}
        for given, expected in (({}, weight), (codes, packed.dequantize()), ({}, weight)):
            (found,) = stream.part({node.input[0]}, [node.output[0]], given)({node.input[0]: rows})
            assert difference(found, rows @ expected.T) < ROUNDING
