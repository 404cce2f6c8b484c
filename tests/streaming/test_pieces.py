"""Sessions of single nodes, with whole weights or some of their rows, from the file or a provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.export.model import MODEL_FILE, export_model
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.streaming.pieces import PieceLoader

FOUR = QuantizationScheme(4, 32, False)
NO_OVERRIDES: dict[str, np.ndarray] = {}
X = np.random.default_rng(0).standard_normal((1, 5, 144)).astype(np.float32)


def exported(folder: Path, config: QuantizationConfig) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    tensors, spec = tiny_weights("qwen2")
    export_model(folder, spec, ArrayWeights(tensors), config, activation_type="float32", max_context=8, threads=1)
    return onnx.load(folder / MODEL_FILE, load_external_data=False), tensors


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    (found,) = (n for n in model.graph.node if n.name.rpartition("/")[0] == name)
    return found


def compute(
    loader: PieceLoader, product: onnx.NodeProto, rows: tuple[int, int] | None = None,
    overrides: dict[str, np.ndarray] = NO_OVERRIDES,
) -> np.ndarray:  # fmt: skip
    session, wanted, fetched = loader.load([product], {product.output[0]}, overrides, rows)
    assert (wanted, fetched) == ([product.input[0]], [product.output[0]])
    return session.run(fetched, {wanted[0]: X})[0]


@pytest.mark.parametrize("config", [QuantizationConfig(FOUR, FOUR, FOUR), QuantizationConfig.none()])
@pytest.mark.parametrize("name", ["/lm_head", "/model/layers.1/mlp/gate_up_proj"])
def test_rows_of_a_product_are_rows_of_its_result(tmp_path: Path, config: QuantizationConfig, name: str) -> None:
    model, _ = exported(tmp_path, config)
    loader = PieceLoader(model, tmp_path, None, 1)
    whole = compute(loader, node(model, name))
    for rows in ((0, 1), (7, 100), (whole.shape[-1] - 3, whole.shape[-1])):
        part = compute(loader, node(model, name), rows)
        np.testing.assert_allclose(part, whole[:, :, slice(*rows)], rtol=1e-4, atol=1e-5)


def test_a_provider_is_asked_for_the_rows_that_run(tmp_path: Path) -> None:
    model, tensors = exported(tmp_path, QuantizationConfig.none())
    asked: list[tuple[str, tuple[int, int] | None]] = []

    def provider(name: str, rows: tuple[int, int] | None) -> np.ndarray:
        asked.append((name, rows))
        weight = tensors["lm_head.weight"]
        return weight if rows is None else weight[slice(*rows)]

    loader, head = PieceLoader(model, None, provider, 1), node(model, "/lm_head")
    whole, part = compute(loader, head), compute(loader, head, (10, 30))
    assert asked == [("lm_head.weight", None), ("lm_head.weight", (10, 30))]
    np.testing.assert_allclose(whole[0], X[0] @ tensors["lm_head.weight"].T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part, whole[:, :, 10:30], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("from_file", [True, False])
def test_a_weight_can_be_replaced(tmp_path: Path, from_file: bool) -> None:
    model, tensors = exported(tmp_path, QuantizationConfig.none())
    loader = PieceLoader(model, tmp_path, None, 1) if from_file else PieceLoader(model, None, _no_weights, 1)
    other = 2 * tensors["lm_head.weight"]
    head = node(model, "/lm_head")
    found = compute(loader, head, overrides={"lm_head.weight": other})
    np.testing.assert_allclose(found[0], X[0] @ other.T, rtol=1e-4, atol=1e-5)
    if not from_file:
        part = compute(loader, head, (10, 30), {"lm_head.weight": other})
        np.testing.assert_allclose(part, found[:, :, 10:30], rtol=1e-4, atol=1e-5)


def _no_weights(name: str, rows: tuple[int, int] | None) -> np.ndarray:
    raise AssertionError(f"{name} is replaced")


def test_several_nodes_have_the_inputs_that_none_of_them_computes(tmp_path: Path) -> None:
    model, _ = exported(tmp_path, QuantizationConfig.none())
    mlp = [n for n in model.graph.node if n.name.startswith("/model/layers.0/mlp/")]
    loader = PieceLoader(model, tmp_path, None, 1)
    session, wanted, fetched = loader.load(mlp, {mlp[-1].output[0], mlp[0].output[0]}, {})
    assert wanted == [mlp[0].input[0]]
    assert fetched == [mlp[0].output[0], mlp[-1].output[0]]
    both, down = session.run(fetched, {wanted[0]: X})
    assert (both.shape, down.shape) == ((1, 5, 400), (1, 5, 144))
