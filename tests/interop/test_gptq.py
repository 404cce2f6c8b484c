"""GPTQModel, transformers and AutoGPTQ read edgekit's GPTQ checkpoints, and edgekit builds from GPTQModel's.

The model is tiny and random (two layers, untied), so that these processes spend most of their time importing torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_gptq import SHAPES

import edgekit
from edgekit.build.pipeline import BuildResult, build
from edgekit.checkpoint import open_checkpoint
from edgekit.export.decoder import LOGITS_START
from edgekit.export.model import export_model
from edgekit.models import spec_from_config
from edgekit.sampling import Sampling
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.weights.carried import CarriedWeights, carried_formats

pytestmark = pytest.mark.slow

IDS = [0, 17, 200, 45, 99, 102]
COUNT = 12
# Both multiply in float32 with the same float16 scales; only the order of additions differs.
MAX_LOGIT_DIFFERENCE = 1e-4  # logits are up to 4; measured: 3e-6


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("gptq") / "tiny-qwen2", "qwen2", **SHAPES)


@pytest.fixture(scope="session")
def emitted(tiny_qwen2: Path) -> BuildResult:
    """Only the linears are quantized and activations are not, so that only the codes can cause a difference."""
    return build(
        None, "jetson", checkpoint=tiny_qwen2, out=tiny_qwen2.parent / "artifact", emit="gptq",
        quantization=QuantizationConfig(QuantizationScheme(4, 32, True), None, None, scale=True),
    )  # fmt: skip


@pytest.fixture(scope="session")
def ours(emitted: BuildResult) -> list[int]:
    with edgekit.load(emitted.artifact) as session:
        found = session.generate(IDS, max_tokens=COUNT, sampling=Sampling(temperature=0)).complete().tokens
    assert len(set(found)) > 3
    return found


def test_gptqmodel_and_transformers_read_emitted_checkpoints(
    emitted: BuildResult, ours: list[int], gptqmodel: Callable[..., str]
) -> None:
    found = json.loads(gptqmodel("gptqmodel_greedy.py", emitted.emitted, json.dumps(IDS), COUNT).splitlines()[-1])
    assert found == {"gptqmodel": ours, "transformers": ours}


def test_gptqmodel_and_transformers_read_qwen3_with_the_attention_factor_that_edgekit_uses(
    tmp_path: Path, gptqmodel: Callable[..., str]
) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "attn_factor": 0.4}
    tiny = write_checkpoint(tmp_path / "tiny-qwen3", "qwen3", **SHAPES, rope_scaling=yarn)
    built = build(
        None, "jetson", checkpoint=tiny, out=tmp_path / "artifact", emit="gptq",
        quantization=QuantizationConfig(QuantizationScheme(4, 32, True), None, None, scale=True),
    )  # fmt: skip
    with edgekit.load(built.artifact) as session:
        ours = session.generate(IDS, max_tokens=COUNT, sampling=Sampling(temperature=0)).complete().tokens
    assert len(set(ours)) > 3
    found = json.loads(gptqmodel("gptqmodel_greedy.py", built.emitted, json.dumps(IDS), COUNT).splitlines()[-1])
    assert found == {"gptqmodel": ours, "transformers": ours}


def test_gptqmodel_reads_several_widths_of_a_rotated_tied_model(tmp_path: Path, gptqmodel: Callable[..., str]) -> None:
    """Several widths result from ``--bits`` with a mean; rotation separates the lm_head from the embedding.

    transformers supports only one width: it does not read GPTQModel's ``dynamic``.
    """
    tiny = write_checkpoint(tmp_path / "tiny-llama", "llama", **SHAPES)
    wide = {f"model.layers.{i}.{name}": QuantizationScheme(8, 32, True) for i, name in
            ((0, "mlp.down_proj"), (1, "attn.qkv_proj"), (1, "mlp.gate_up_proj"))}  # fmt: skip
    built = build(
        None, "jetson", checkpoint=tiny, out=tmp_path / "artifact", emit="gptq",
        quantization=QuantizationConfig(
            QuantizationScheme(4, 32, True), None, None, matrices=wide, rotate=True, scale=True
        ),
    )  # fmt: skip
    with edgekit.load(built.artifact) as session:
        ours = session.generate(IDS, max_tokens=COUNT, sampling=Sampling(temperature=0)).complete().tokens
    found = json.loads(
        gptqmodel("gptqmodel_greedy.py", built.emitted, json.dumps(IDS), COUNT, "alone").splitlines()[-1]
    )
    assert found == {"gptqmodel": ours}


def test_autogptq_reads_emitted_checkpoints(
    emitted: BuildResult, ours: list[int], autogptq: Callable[..., str]
) -> None:
    assert json.loads(autogptq("autogptq_greedy.py", emitted.emitted, json.dumps(IDS), COUNT).splitlines()[-1]) == ours


@pytest.mark.parametrize(
    "config",
    [{"bits": 4, "group_size": 32}, {"bits": 8, "group_size": 64, "sym": False, "format": "gptq_v2"}],
    ids=["4 bits", "8 bits asymmetric v2"],
)
def test_gptqmodels_checkpoints_give_the_same_logits(
    tmp_path: Path, tiny_qwen2: Path, gptqmodel: Callable[..., str], config: dict[str, object]
) -> None:
    gptqmodel("gptqmodel_reference.py", tiny_qwen2, tmp_path, json.dumps(config), json.dumps(IDS))
    expected = np.load(tmp_path / "logits.npy")
    found = _logits(tmp_path / "checkpoint", tmp_path)
    assert np.abs(found - expected).max() < MAX_LOGIT_DIFFERENCE
    build(None, "cpu", checkpoint=tmp_path / "checkpoint", out=tmp_path / "artifact")


def _logits(checkpoint: Path, folder: Path) -> np.ndarray:
    """Logits of the artifact's graph with the imported codes, and activations, embedding and head in float32."""
    out = folder / "export"
    out.mkdir()
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        formats = carried_formats(opened, spec, QuantizationConfig.none())
        export_model(
            out, spec, CarriedWeights(opened, spec), formats, activation_type="float32", max_context=64, threads=2
        )
    graph = onnx.load(out / "model.onnx", load_external_data=False)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1  # float32 activations, because int8 activations would dominate the difference
    (out / "model.onnx").write_bytes(graph.SerializeToString())
    options = ort.SessionOptions()
    options.log_severity_level = 3
    every = ort.OrtValue.ortvalue_from_numpy(np.array([-(2**62)]))
    options.add_initializer(LOGITS_START, every)
    session = ort.InferenceSession(out / "model.onnx", options)
    ids = np.array([IDS])
    empty = np.zeros((1, spec.num_kv_heads, 0, spec.head_dim), np.float32)
    past = {i.name: empty for i in session.get_inputs() if i.name.startswith("past_")}
    return session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids), **past})[0]
