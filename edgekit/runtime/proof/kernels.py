"""The distinct kernels of a graph, each against the processor at the numbers of rows it is used with.

Two nodes share a kernel if operator, attributes and shapes of weights are the same. The kernel runs with the weights of
the first of them and normally distributed inputs, on both sides with float products. Attention also runs after a long
context, with keys and values in the provider's memory and written in place, as the engine uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..provider import Provider, onnxruntime_errors
from .graph import FLOAT, FLOAT16, INT32, INT64, Graph, Node, exported_graph, node_model

# One new token, a chunk of the prompt, and on both sides of 32, where implementations change from one way to another.
ROWS = (1, 16, 31, 32, 128, 512)
LONG_CONTEXT = 1000
# The largest allowed error of a row or column, relative to its root mean square. In float32 sums in another order are
# off by 1e-6, SwiftShader's wrong attention by 0.3. A 4-bit weight that is wrong by one changes a product of 8192
# columns by 3e-3. In float16 (11 bits) GPUs also add in float16.
TOLERANCE = {FLOAT: 2e-3, FLOAT16: 3e-2}
_TYPES: dict[int, type[Any]] = {FLOAT: np.float32, FLOAT16: np.float16}
# They only move values: as long as the logits agree they are right.
_MOVES = {"Shape", "Gather", "Cast", "Sub", "ReduceSum", "Slice", "Identity", "Reshape", "Split"}
_KEPT = "logits_start"


@dataclass(frozen=True)
class Kernel:
    """A distinct kernel.

    Attributes:
        title: Operator and sizes, for people.
        node: The first node that uses it.
        names: All nodes that use it.
        one_row: Whether it only ever sees the last row.
        width: Values in a row of an input that is not a weight.
    """

    title: str
    node: Node
    names: tuple[str, ...]
    one_row: bool
    width: int


@dataclass(frozen=True)
class Comparison:
    """The result of a kernel at one size: the largest relative error, or infinity if it failed, and what is allowed."""

    kernel: str
    op: str
    rows: int
    context: int
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; false for NaN."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class Bench:
    """What the comparisons of one artifact have in common.

    Attributes:
        ort: The onnxruntime module.
        graph: The artifact's graph.
        processor: The reference.
        open_model: Opens a session of a model on a provider.
    """

    ort: Any
    graph: Graph
    processor: Provider
    open_model: Callable[[Provider, bytes], Any]


@exported_graph()
def distinct_kernels(graph: Graph) -> list[Kernel]:
    """The distinct kernels of a graph, in the order of their first nodes.

    Raises:
        ArtifactError: The graph is not one that edgekit exports.
    """
    producers = {name: node for node in graph.nodes for name in node.outputs}
    last_only = _after_kept(graph)
    groups: dict[tuple[Any, ...], list[Node]] = {}
    for node in graph.nodes:
        width = _width(graph, producers, node)
        if node.op not in _MOVES and width is not None:
            shapes = tuple(graph.initializers[name].shape for name in node.inputs if name in graph.initializers)
            groups.setdefault((node.op, node.attributes, shapes, width), []).append(node)
    return [
        Kernel(
            _title(graph, nodes[0], key[-1]),
            nodes[0],
            tuple(node.name for node in nodes),
            all(node.name in last_only for node in nodes),
            key[-1],
        )
        for key, nodes in groups.items()
    ]


def compare_kernel(
    bench: Bench, kernel: Kernel, device: Provider, rows: Iterable[int], chunk: int | None = None
) -> list[Comparison]:
    """Run a kernel on a device and on the processor, with the same inputs.

    Args:
        bench: The artifact's graph, and what opens its kernels.
        kernel: One of its kernels.
        device: What is to be proven.
        rows: Numbers of rows, smallest first; a kernel that sees one row only runs with one.
        chunk: Rows that the device is given at once; None for all.
    """
    attention = kernel.node.op == "GroupQueryAttention"
    run = _Attention if attention else _Rowwise
    reference = run(bench, kernel, bench.processor)
    try:
        tested = run(bench, kernel, device)
    except onnxruntime_errors():
        tested = None
    contexts = (0, reference.long_context) if attention else (0,)
    found = []
    for context in dict.fromkeys(contexts):
        for count in (1,) if kernel.one_row and not attention else rows:
            if context + count > reference.capacity:
                continue
            feed = reference.inputs(np.random.default_rng(count), count)
            expected = reference.run(feed, context, count)
            try:
                outputs = [] if tested is None else tested.run(feed, context, chunk or count)
                error = max(map(relative_error, outputs, expected), default=math.inf)
            except onnxruntime_errors():
                error = math.inf
            allowed = TOLERANCE[bench.graph.float_type]
            found.append(Comparison(kernel.title, kernel.node.op, count, context, error, allowed))
    return found


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest error of a row or, with 16 rows or more, of a column, relative to its root mean square."""
    a, b = (np.asarray(each, np.float64).reshape(-1, each.shape[-1]) for each in (found, expected))
    if a.shape != b.shape or not np.isfinite(a).all():
        return math.inf
    axes = (1, 0) if len(b) >= 16 else (1,)
    errors = []
    for axis in axes:
        scale = np.sqrt((b**2).mean(axis))
        floor = 1e-3 * float(np.sqrt((b**2).mean())) + 1e-30
        errors.append(float((np.sqrt(((a - b) ** 2).mean(axis)) / np.maximum(scale, floor)).max()))
    return max(errors)


class _Rowwise:
    """A kernel whose rows do not depend on each other."""

    long_context = 0

    def __init__(self, bench: Bench, kernel: Kernel, provider: Provider) -> None:
        graph, node = bench.graph, kernel.node
        self.capacity = max(ROWS)
        self._width, self._type = kernel.width, _TYPES[graph.float_type]
        self._is_lookup = node.op.startswith("Gather")
        self._inputs = dict.fromkeys(
            (name for name in node.inputs if name and name not in graph.initializers),
            INT64 if self._is_lookup else graph.float_type,
        )
        self._outputs = {name: graph.float_type for name in node.outputs if name}
        self._session = bench.open_model(provider, node_model(graph, node, self._inputs, self._outputs))

    def inputs(self, rng: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        """Inputs that are not weights, for a number of rows."""
        if self._is_lookup:
            return {name: rng.integers(0, self._width, (1, rows)) for name in self._inputs}
        return {name: rng.normal(size=(1, rows, self._width)).astype(self._type) for name in self._inputs}

    def run(self, feed: dict[str, NDArray[Any]], context: int, chunk: int) -> list[NDArray[Any]]:
        """The outputs, computed for a chunk of rows at once."""
        parts = [self._session.run(list(self._outputs), each) for each in _chunks(feed, chunk)]
        return [np.concatenate(outputs, axis=1) for outputs in zip(*parts, strict=True)]


class _Attention:
    """Attention with a cache in the provider's memory that it reads and writes in place."""

    def __init__(self, bench: Bench, kernel: Kernel, provider: Provider) -> None:
        graph, node = bench.graph, kernel.node
        positions, half = graph.initializers[node.inputs[7]].shape
        heads, kv_heads, dim = node.numbers["num_heads"], node.numbers["kv_num_heads"], 2 * half
        self.capacity = min(LONG_CONTEXT + max(ROWS), positions)
        self.long_context = max(0, min(LONG_CONTEXT, self.capacity - max(ROWS)))
        self._type, self._node = _TYPES[graph.float_type], node
        names = [name for name in node.inputs[:3] if name]
        widths = [heads * dim, kv_heads * dim, kv_heads * dim]
        self._widths = dict(zip(names, widths if len(names) == 3 else [sum(widths)], strict=True))
        types = dict.fromkeys((name for name in node.inputs[:5] if name), graph.float_type)
        types |= dict.fromkeys(node.inputs[5:7], INT32)
        outputs = dict.fromkeys(node.outputs, graph.float_type)
        self._session = bench.open_model(provider, node_model(graph, node, types, outputs))
        shape = (1, kv_heads, self.capacity, dim)
        self._past = np.random.default_rng(0).normal(size=(2, *shape)).astype(self._type)
        self._binding = self._session.io_binding()
        self._buffers = [provider.allocate(bench.ort, shape, self._type) for _ in range(2)]
        for past, present, buffer in zip(node.inputs[3:5], node.outputs[1:], self._buffers, strict=True):
            self._binding.bind_ortvalue_input(past, buffer)
            self._binding.bind_ortvalue_output(present, buffer)

    def inputs(self, rng: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        """Queries, keys and values of new rows."""
        return {name: rng.normal(size=(1, rows, width)).astype(self._type) for name, width in self._widths.items()}

    def run(self, feed: dict[str, NDArray[Any]], context: int, chunk: int) -> list[NDArray[Any]]:
        """What is attended to, and the keys and values in use afterwards."""
        for buffer, past in zip(self._buffers, self._past, strict=True):
            buffer.update_inplace(past)
        attended: list[NDArray[Any]] = []
        total = context
        for part in _chunks(feed, chunk):
            total += next(iter(part.values())).shape[1]
            for name, array in part.items():
                self._binding.bind_cpu_input(name, array)
            for name, length in zip(self._node.inputs[5:7], (np.array([total - 1]), np.array(total)), strict=True):
                self._binding.bind_cpu_input(name, length.astype(np.int32))
            self._binding.bind_output(self._node.outputs[0], "cpu")
            self._session.run_with_iobinding(self._binding)
            attended.append(self._binding.get_outputs()[-1].numpy())
        return [np.concatenate(attended, axis=1), *(buffer.numpy()[:, :, :total] for buffer in self._buffers)]


def _chunks(feed: dict[str, NDArray[Any]], size: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Parts of inputs (1, rows, ...) with this many rows each."""
    rows = next(iter(feed.values())).shape[1]
    for start in range(0, rows, size):
        yield {name: np.ascontiguousarray(array[:, start : start + size]) for name, array in feed.items()}


def _after_kept(graph: Graph) -> set[str]:
    """The nodes that see the last row only: those after the Slice of the rows whose logits are asked for."""
    values: set[str] = set()
    nodes = set()
    for node in graph.nodes:
        if _KEPT in node.inputs or values.intersection(node.inputs):
            values.update(node.outputs)
            nodes.add(node.name)
    return nodes


def _width(graph: Graph, producers: dict[str, Node], node: Node) -> int | None:
    """The values in a row of a node's input that is not a weight, for a lookup the rows of its table; None: unknown."""
    weights = [graph.initializers[name] for name in node.inputs if name in graph.initializers]
    if node.op == "GatherBlockQuantized":
        return weights[0].shape[0]
    if node.op == "MatMulNBits":
        return node.numbers["K"]
    if node.op == "GroupQueryAttention":
        return node.numbers["num_heads"]
    if node.op.endswith("LayerNormalization") and weights:
        return weights[0].shape[0]
    if node.op in ("FusedMatMul", "MatMul") and weights:
        return weights[0].shape[1 if node.numbers.get("transB") else 0]
    return _output_width(graph, producers, node.inputs[0]) if node.inputs else None


def _output_width(graph: Graph, producers: dict[str, Node], value: str) -> int | None:
    node = producers.get(value)
    if node is None:
        return None
    if node.op == "MatMulNBits":
        return node.numbers["N"]
    if node.op == "Split":
        whole = _output_width(graph, producers, node.inputs[0])
        return None if whole is None or len(node.outputs) != 2 else whole // 2  # gate and up
    if node.op in ("FusedMatMul", "MatMul"):
        weights = [graph.initializers[name] for name in node.inputs if name in graph.initializers]
        return weights[0].shape[0 if node.numbers.get("transB") else 1] if weights else None
    if node.op in _MOVES or node.op == "GroupQueryAttention":
        return None
    return _width(graph, producers, node)


def _title(graph: Graph, node: Node, width: int) -> str:
    if node.op == "MatMulNBits":
        return "MatMulNBits {K} to {N}, {bits} bits, block {block_size}".format_map(node.numbers)
    if node.op == "GroupQueryAttention":
        half = graph.initializers[node.inputs[7]].shape[1]
        return f"GroupQueryAttention {node.numbers['num_heads']}/{node.numbers['kv_num_heads']} heads of {2 * half}"
    return f"{node.op} {width}"
