"""The graph builder: a graph it makes is valid and runs, with its large weights in the data file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgekit.export.onnx_graph import CONTRIB, DATA_FILE, IR_VERSION, OPSET, GraphBuilder, int64
from edgekit.layout import Slot

SLOT = Slot("table", "float32", (4, 3), 64)
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def run(folder: Path, model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    """Write and check a model whose data file holds TABLE at SLOT, and run it."""
    (folder / DATA_FILE).write_bytes(bytes(SLOT.offset) + TABLE.tobytes())
    onnx.save(model, folder / "model.onnx")
    onnx.checker.check_model(folder / "model.onnx", full_check=True)
    return ort.InferenceSession(folder / "model.onnx").run(None, inputs)


def test_a_graph_runs_with_its_weights_in_the_data_file(tmp_path: Path) -> None:
    graph = GraphBuilder()
    ids = graph.input("ids", "int64", ("tokens",))
    rows = graph.node("/embed/Gather", [graph.external(SLOT), ids], axis=0)
    graph.node("/out/Mul", [rows, graph.constant("two", np.array(2, np.float32))], outputs=["doubled"])
    graph.output("doubled", "float32", ("tokens", 3))
    (found,) = run(tmp_path, graph.model("test", "1.2", {"key": "value"}), ids=np.array([2, 0, 3]))
    np.testing.assert_array_equal(found, 2 * TABLE[[2, 0, 3]])


def test_the_same_bytes_under_two_names_and_shapes(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.input("x", "float32", (1, 4))
    first = graph.node("/a/MatMul", [x, graph.external(SLOT)])
    flat = graph.external(SLOT, "flat", (12,))
    part = graph.node("/b/Slice", [flat, graph.constant("zero", int64(0)), graph.constant("three", int64(3))])
    graph.node("/c/Add", [first, part], outputs=["y"])
    graph.output("y", "float32", (1, 3))
    x_value = np.array([[1, 0, 2, 0]], np.float32)
    (found,) = run(tmp_path, graph.model("test", "1.2", {}), x=x_value)
    np.testing.assert_array_equal(found, x_value @ TABLE + TABLE.reshape(-1)[:3])


def test_names_of_nodes_and_outputs() -> None:
    graph = GraphBuilder()
    x = graph.input("x", "float32", (2, 6))
    halves = graph.node("/mlp/Split", [x], outputs=2, axis=1)
    assert halves == "/mlp/Split/output_0"
    normed = graph.node(
        "/norm/SkipSimplifiedLayerNormalization", [halves, "/mlp/Split/output_1"], domain=CONTRIB,
        outputs=["/norm/y", "", "", "/norm/sum"], epsilon=1e-6,
    )  # fmt: skip
    assert normed == "/norm/y"
    nodes = graph.model("test", "1.2", {}).graph.node
    assert [(n.op_type, n.name, n.domain) for n in nodes] == [
        ("Split", "/mlp/Split", ""),
        ("SkipSimplifiedLayerNormalization", "/norm/SkipSimplifiedLayerNormalization", CONTRIB),
    ]
    assert [list(n.output) for n in nodes] == [
        ["/mlp/Split/output_0", "/mlp/Split/output_1"],
        ["/norm/y", "", "", "/norm/sum"],
    ]


def test_an_initializer_is_added_once() -> None:
    graph = GraphBuilder()
    for _ in range(2):
        assert graph.constant("one", int64(1)) == "one"
        assert graph.external(SLOT) == "table"
        assert graph.external(SLOT, "again") == "again"
    initializers = graph.model("test", "1.2", {}).graph.initializer
    assert [t.name for t in initializers] == ["one", "table", "again"]
    place = {e.key: e.value for e in initializers[1].external_data}
    assert place == {"location": DATA_FILE, "offset": "64", "length": "48"}


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int32", "int64"])
def test_types_of_inputs_outputs_and_weights(dtype: str) -> None:
    graph = GraphBuilder()
    graph.input("x", dtype, ("batch", 3))
    graph.output("y", dtype, (1,))
    if dtype in ("float32", "float16", "uint8"):
        graph.external(Slot("w", dtype, (2,), 0))
    model = graph.model("test", "1.2", {})
    expected = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [*model.graph.input, *model.graph.output]
    assert {v.type.tensor_type.elem_type for v in values} == {expected}
    assert {t.data_type for t in model.graph.initializer} <= {expected}
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value) == ("batch", 3)


def test_versions_and_metadata() -> None:
    model = GraphBuilder().model("qwen2", "1.2", {"edgekit.hidden_size": "144"})
    assert (model.graph.name, model.producer_name, model.producer_version) == ("qwen2", "edgekit", "1.2")
    assert {o.domain: o.version for o in model.opset_import} == {"": OPSET, CONTRIB: 1}
    assert model.ir_version == IR_VERSION
    assert [(p.key, p.value) for p in model.metadata_props] == [("edgekit.hidden_size", "144")]


def test_int64_is_one_dimensional() -> None:
    assert int64(3, -1).tolist() == [3, -1]
    assert (int64(7).shape, int64(7).dtype) == ((1,), np.int64)
