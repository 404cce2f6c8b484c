"""Running layer by layer gives the same results as the whole graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgekit.models import ModelSpec
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.streaming import graph as streaming
from edgekit.streaming.graph import StreamedModel

EIGHT, FOUR = QuantizationScheme(8, 32, True), QuantizationScheme(4, 64, False)
CONFIGS = {
    "tied int8 head": QuantizationConfig(FOUR, EIGHT, EIGHT),
    "int4": QuantizationConfig(FOUR, FOUR, FOUR),
    "float": QuantizationConfig.none(),
}


def feed(spec: ModelSpec, ids: np.ndarray) -> dict[str, np.ndarray]:
    empty = np.zeros((1, spec.num_kv_heads, 0, spec.head_dim), np.float32)
    names = [f"past_key_values.{i}.{kind}" for i in range(spec.num_layers) for kind in ("key", "value")]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), **dict.fromkeys(names, empty)}


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", CONFIGS)
def test_pieces_give_the_whole(export, monkeypatch, family: str, name: str) -> None:
    folder, spec, _ = export(family, CONFIGS[name])
    monkeypatch.setattr(streaming, "PIECE_WEIGHTS", 100 * spec.hidden_size)  # several pieces, the last one short
    rng = np.random.default_rng(0)
    inputs = [feed(spec, rng.integers(0, spec.vocab_size, (1, n))) for n in (1, 9)]
    streamed = StreamedModel(onnx.load(folder / "model.onnx", load_external_data=False), folder=folder)
    session = ort.InferenceSession(folder / "model.onnx")
    names = [o.name for o in session.get_outputs()]
    for one, values in zip(inputs, streamed.run(inputs), strict=True):
        assert set(values) == set(names)
        for output, expected in zip(names, session.run(names, one), strict=True):
            np.testing.assert_array_equal(values[output], expected)


def test_a_provider_stands_in_for_the_file(export) -> None:
    folder, spec, layout = export("qwen2", CONFIGS["float"])
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    data = (folder / "model.onnx.data").read_bytes()
    slots = {s.name: s for m in layout.matrices() for s in m.slots}
    slots |= {s.name: s for s in (layout.rotary_cos, layout.rotary_sin, *(v.slot for v in layout.vectors()))}

    def provider(name: str, rows: tuple[int, int] | None) -> np.ndarray:
        slot = slots[name]
        array = np.frombuffer(data, slot.dtype, slot.size_bytes // 4, slot.offset).reshape(slot.shape)
        return np.array(array if rows is None else array[rows[0] : rows[1]])

    one = feed(spec, np.arange(7)[None])
    from_file = StreamedModel(graph, folder=folder).run([one])[0]["logits"]
    from_memory = StreamedModel(graph, provider=provider).run([one])[0]["logits"]
    np.testing.assert_allclose(from_memory, from_file, atol=1e-5)


def test_an_inner_tensor_may_be_given(export) -> None:
    folder, spec, _ = export("qwen2", CONFIGS["float"])
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    streamed = StreamedModel(graph, folder=folder)
    one = feed(spec, np.arange(5)[None])
    plain = streamed.run([one])[0]["logits"]
    one["/model/embed_tokens/Gather/output_0"] = np.zeros((1, 5, spec.hidden_size), np.float32)
    del one["input_ids"]
    given = streamed.run([one])[0]["logits"]
    assert given.shape == plain.shape
    assert np.abs(given - plain).max() > 0.1


def test_folder_or_provider(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder or a provider"):
        StreamedModel(onnx.ModelProto())


def test_a_part_computes_the_wanted_tensors_from_the_given_ones(export) -> None:
    folder, spec, _ = export("qwen2", CONFIGS["int4"])
    streamed = StreamedModel(onnx.load(folder / "model.onnx", load_external_data=False), folder=folder)
    one = feed(spec, np.arange(9)[None])
    nodes = streamed.nodes()
    first, last = (nodes[f"/model/layers.{i}/mlp/down_proj/MatMulNBits"].input[0] for i in (0, 1))
    after = nodes["/model/layers.1/input_norm/SkipSimplifiedLayerNormalization"].input[:2]
    whole = streamed.part((), [last, first, *after])(one)
    assert whole[1].shape == (1, 9, spec.intermediate_size)
    (again,) = streamed.part(set(after), [last])({**one, **dict(zip(after, whole[2:], strict=True))})
    np.testing.assert_array_equal(again, whole[0])
    (moved,) = streamed.part(set(after), [last])({**one, after[0]: whole[2] + 1, after[1]: whole[3]})
    assert not np.array_equal(moved, whole[0]), "what is given counts, not what the ids would make of it"


def test_what_stands_in_for_a_node_is_all_that_is_asked(export) -> None:
    folder, spec, _ = export("llama", CONFIGS["int4"])
    streamed = StreamedModel(onnx.load(folder / "model.onnx", load_external_data=False), folder=folder)
    one, nodes, asked = feed(spec, np.arange(9)[None]), streamed.nodes(), []
    gate = nodes["/model/layers.0/mlp/gate_up_proj/MatMulNBits"]
    last = nodes["/model/layers.0/mlp/down_proj/MatMulNBits"]

    def product(node: onnx.NodeProto):
        def compute(x: np.ndarray) -> np.ndarray:
            asked.append(node.name)
            return streamed.part({node.input[0]}, [node.output[0]])({node.input[0]: x})[0]

        return compute

    fetch = [last.output[0], gate.input[0]]
    expected = streamed.part((), fetch)(one)
    found = streamed.part((), fetch, stand_ins={"MatMulNBits": product})(one)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert asked == [
        f"/model/layers.0/{n}/MatMulNBits"
        for n in ("attn/qkv_proj", "attn/o_proj", "mlp/gate_up_proj", "mlp/down_proj")
    ]
    asked.clear()
    streamed.part({gate.output[0]}, [last.input[0]], stand_ins={"MatMulNBits": product})
    assert not asked
