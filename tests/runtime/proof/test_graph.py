"""The graph as the proof reads it, against the package onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from shared_models import FLOAT, SharedModels

from edgekit.errors import ArtifactError
from edgekit.runtime.proof import graph as graphs
from edgekit.runtime.proof.graph import node_model, read_graph, with_float_products
from edgekit.runtime.proof.kernels import distinct_kernels
from edgekit.runtime.proof.wire import field


@pytest.fixture(params=["llama", "qwen2", "qwen3", "float"])
def model(request: pytest.FixtureRequest, models: SharedModels) -> bytes:
    artifact = models.artifact(formats=FLOAT) if request.param == "float" else models.artifact(request.param)
    return (artifact / "model.onnx").read_bytes()


def test_nodes_and_initializers_are_those_of_the_model(model: bytes) -> None:
    expected, found = onnx.load_from_string(model).graph, read_graph(model)
    assert [(node.name, node.op, node.inputs, node.outputs) for node in found.nodes] == [
        (node.name, node.op_type, tuple(node.input), tuple(node.output)) for node in expected.node
    ]
    for mine, theirs in zip(found.nodes, expected.node, strict=True):
        assert mine.encoded == theirs.SerializeToString()
        assert mine.numbers == {a.name: a.i for a in theirs.attribute if a.type == onnx.AttributeProto.INT}
    assert {name: (each.shape, each.data_type) for name, each in found.initializers.items()} == {
        each.name: (tuple(each.dims), each.data_type) for each in expected.initializer
    }
    assert found.float_type == graphs.FLOAT


def test_the_type_of_activations_is_read(models: SharedModels) -> None:
    assert read_graph((models.artifact(device="jetson") / "model.onnx").read_bytes()).float_type == graphs.FLOAT16


def test_products_become_float_and_nothing_else_changes(built_artifact: Path) -> None:
    model = (built_artifact / "model.onnx").read_bytes()
    expected = onnx.load_from_string(model)
    levels = [a for node in expected.graph.node for a in node.attribute if a.name == "accuracy_level"]
    assert {level.i for level in levels} == {4}
    for level in levels:
        level.i = 1
    assert onnx.load_from_string(with_float_products(model)) == expected


def test_a_model_of_one_node_runs(built_artifact: Path) -> None:
    graph = read_graph((built_artifact / "model.onnx").read_bytes())
    node = next(node for node in graph.nodes if node.op == "Sigmoid")
    types = ({node.inputs[0]: graph.float_type}, {node.outputs[0]: graph.float_type})
    session = ort.InferenceSession(node_model(graph, node, *types), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {node.inputs[0]: np.zeros((1, 2, 3), np.float32)})
    np.testing.assert_array_equal(found, np.full((1, 2, 3), 0.5, np.float32))


@pytest.mark.parametrize(
    "graph",
    [
        field(1, field(1, "x") + field(4, b"\xff")),  # an operator that is not text
        field(5, field(8, b"\xff")),
        field(1, field(2, "y") + field(4, "MatMulNBits")),  # without attributes
        field(1, field(1, "x") + field(2, "y") + field(4, "GatherBlockQuantized")),  # without a table
        field(1, field(1, "y") + field(2, "y") + field(4, "Add")),  # a value that depends on itself
    ],
)
def test_a_graph_of_another_form_is_refused(graph: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"model\.onnx: its graph is not one that edgekit exports"):
        distinct_kernels(read_graph(field(7, graph)))


def test_a_cache_without_a_type_is_taken_for_float() -> None:
    assert read_graph(field(7, field(11, field(1, "past_key_values.0.key")))).float_type == graphs.FLOAT
