"""Kernels against the processor: which there are, what is wrong and from how many rows on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from pretended_gpu import pretended_gpu, weight_slots, with_fault
from shared_models import SharedModels

from edgekit.runtime.ort_engine import OrtEngine
from edgekit.runtime.proof.graph import read_graph, with_float_products
from edgekit.runtime.proof.kernels import ROWS, Bench, compare_kernel, distinct_kernels, relative_error
from edgekit.runtime.provider import Provider, open_model

DEVICE = pretended_gpu().provider


def bench_of(folder: Path, open_device: Any = None) -> Bench:
    def open_on(provider: Provider, model: bytes) -> Any:
        session = open_model(ort, folder, provider, 1, model)
        return open_device(session) if open_device and provider is DEVICE else session

    graph = read_graph(with_float_products((folder / "model.onnx").read_bytes()))
    return Bench(ort, graph, OrtEngine.provider, open_on)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_every_node_that_computes_belongs_to_a_kernel(models: SharedModels, family: str) -> None:
    graph = bench_of(models.artifact(family)).graph
    kernels = distinct_kernels(graph)
    named = {name for kernel in kernels for name in kernel.names}
    left = {node.op for node in graph.nodes if node.name not in named}
    assert left <= {"ReduceSum", "Sub", "Cast", "Shape", "Gather", "Slice", "Identity", "Split", "Reshape"}
    products = [node for node in graph.nodes if node.op == "MatMulNBits"]
    shapes = {(node.numbers["K"], node.numbers["N"], node.numbers["bits"]) for node in products}
    assert len([kernel for kernel in kernels if kernel.node.op == "MatMulNBits"]) == len(shapes)
    head = next(kernel for kernel in kernels if "/lm_head/MatMulNBits" in kernel.names)
    assert head.one_row


def test_a_kernel_agrees_with_itself_at_every_size_and_context(models: SharedModels) -> None:
    bench = bench_of(models.artifact("qwen3"))
    for kernel in distinct_kernels(bench.graph):
        found = compare_kernel(bench, kernel, DEVICE, ROWS)
        assert all(each.passed and each.error < 1e-5 for each in found), found
        sizes = {(each.rows, each.context > 0) for each in found}
        attention = kernel.node.op == "GroupQueryAttention"
        assert attention is ((512, True) in sizes)
        assert {rows for rows, _ in sizes} == ({1} if kernel.one_row and not attention else set(ROWS))


class WrongFrom:
    """A session whose outputs are wrong from some number of rows on."""

    def __init__(self, session: Any, rows: int) -> None:
        self._session, self._rows = session, rows

    def run(self, names: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        outputs: list[NDArray[Any]] = self._session.run(names, feed)
        if next(iter(feed.values())).shape[1] >= self._rows:
            outputs[0][:, -1] *= 1.1
        return outputs


def test_a_kernel_that_is_wrong_for_many_rows_is_right_in_small_chunks(built_artifact: Path) -> None:
    bench = bench_of(built_artifact, lambda session: WrongFrom(session, 32))
    kernel = next(each for each in distinct_kernels(bench.graph) if each.node.op == "MatMulNBits")
    found = compare_kernel(bench, kernel, DEVICE, ROWS)
    assert [each.rows for each in found if not each.passed] == [32, 128, 512]
    assert all(each.passed for each in compare_kernel(bench, kernel, DEVICE, [512], chunk=31))
    assert not any(each.passed for each in compare_kernel(bench, kernel, DEVICE, [512], chunk=32))


def test_a_kernel_that_fails_is_wrong(built_artifact: Path) -> None:
    class Failing:
        def run(self, names: list[str], feed: dict[str, NDArray[Any]]) -> None:
            raise RuntimeError("shader compilation failed")

    def refuse(session: Any) -> Any:
        raise RuntimeError("not implemented")

    for open_device in (lambda session: Failing(), refuse):
        bench = bench_of(built_artifact, open_device)
        kernel = next(each for each in distinct_kernels(bench.graph) if each.node.op == "MatMulNBits")
        assert [each.error for each in compare_kernel(bench, kernel, DEVICE, [1])] == [math.inf]


def test_one_wrong_code_is_found(built_artifact: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj.codes"
    assert name in weight_slots(built_artifact)
    with_fault(built_artifact, name, tmp_path)
    bench = bench_of(built_artifact)
    kernel = next(each for each in distinct_kernels(bench.graph) if "down_proj" in each.names[0])
    assert not all(each.passed for each in compare_kernel(bench, kernel, pretended_gpu(tmp_path).provider, ROWS))


def test_the_error_is_that_of_the_worst_row_or_column() -> None:
    expected = np.random.default_rng(0).normal(size=(1, 64, 100))
    assert relative_error(expected, expected) == 0
    row, column = expected.copy(), expected.copy()
    row[0, 5] *= 1.5
    column[0, :, 7] *= 1.25
    assert relative_error(row, expected) == pytest.approx(0.5)
    assert relative_error(column, expected) == pytest.approx(0.25)
    assert relative_error(np.full_like(expected, np.nan), expected) == math.inf
    assert relative_error(expected[:, :3], expected) == math.inf
