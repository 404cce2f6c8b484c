"""Runs an exported graph one piece at a time, so that a model of any size runs in the memory of one layer.

The graph is cut along the node names that ``export/decoder.py`` gives: embedding and mask, each layer, the head. The
head's product, and every product of a float model, is cut further by rows. A piece is loaded, run on all inputs, and
dropped. The pieces are the artifact's own nodes with the artifact's own bytes; a whole session differs only in that it
loads them all at once.

The build uses this to record an artifact's golden test and to measure it against the float model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..host import return_freed_memory
from ..progress import Share, no_share
from .pieces import PieceLoader, WeightProvider

PIECE_WEIGHTS = 32 << 20  # weights of a product in one piece: onnxruntime holds them twice, packed and as read
PIECE_ROWS = 4096  # rows in one piece: its output for 256 positions is then 4 MB, and several such arrays exist at once
_LAYER = re.compile(r"/model/layers\.(\d+)/")
_NORM, _FLOAT_PRODUCT = "SkipSimplifiedLayerNormalization", "FusedMatMul"

Values = dict[str, NDArray[Any]]
StandIn = Callable[..., NDArray[Any]]  # of one or three (1, tokens, width)
# Called with a weight's initializer name and its inputs, (1, tokens, in) of each text, before the product runs.
Observer = Callable[[str, Sequence[NDArray[Any]]], None]
_NO_OVERRIDES: Mapping[str, NDArray[Any]] = {}
_NO_STAND_INS: Mapping[str, Callable[[onnx.NodeProto], StandIn]] = {}
_Step = Callable[[Values], None]  # adds tensors to those that are available


@dataclass(frozen=True)
class _Piece:
    """Nodes that run together.

    Args:
        stage: 0 for embedding and mask, then one stage for each layer, then one for the final norm.
        nodes: The nodes in order.
        rows: For a single product, the (first, last + 1) rows of each part it is cut into; empty if it runs whole.
    """

    stage: int
    nodes: tuple[onnx.NodeProto, ...]
    rows: tuple[tuple[int, int], ...] = ()


class StreamedModel:
    """A graph that runs piece by piece. A piece is a layer or, if a provider gives the weights, a single product.

    Every method takes ``overrides``: values by initializer name that replace the graph's own, small ones such as
    ``logits_start`` or whole weights.

    Args:
        model: The graph from ``build_decoder``, or ``model.onnx`` read without its data.
        folder: The folder of ``model.onnx.data``.
        provider: Gives the external weights instead of that file, those of one piece at a time.
        threads: Threads of onnxruntime; 0 for as many as it chooses.

    Attributes:
        head_input: Name of the tensor that the head reads.
        num_stages: Stages before the head: embedding, layers, final norm.
        num_pieces: Pieces, the head included.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path | None = None,
        provider: WeightProvider | None = None,
        threads: int = 0,
    ) -> None:
        if (folder is None) == (provider is None):
            raise ValueError("a streamed model needs either a folder or a provider of its weights")
        self._model = model
        self._cut_products = provider is not None
        self._loader = PieceLoader(model, folder, provider, threads)
        self._pieces, self._head = self._cut()
        self._head_rows = self._split(self._head)
        self.head_input = self._head.input[0]
        self.num_stages = self._pieces[-1].stage + 1
        self.num_pieces = len(self._pieces) + 1
        self._last_use = {name: i for i, piece in enumerate(self._pieces) for n in piece.nodes for name in n.input}

    def run(
        self,
        feeds: Sequence[Mapping[str, NDArray[Any]]],
        overrides: Mapping[str, NDArray[Any]] = _NO_OVERRIDES,
        progress: Share = no_share,
    ) -> list[Values]:
        """Run several independent inputs through the model; each piece is loaded once.

        Args:
            feeds: For each input, the graph's inputs by name. They may include inner tensors, the same ones for every
                input: the nodes that would compute them do not run.
            overrides: See the class.
            progress: Called with (pieces done, pieces in all).

        Returns:
            For each input, the graph's outputs by name.
        """
        live = self._run_layers(feeds, overrides, progress)
        for values in live:
            values["logits"] = self.run_head(values.pop(self.head_input))
        progress(self.num_pieces, self.num_pieces)
        return live

    def _run_layers(
        self, feeds: Sequence[Mapping[str, NDArray[Any]]], overrides: Mapping[str, NDArray[Any]], progress: Share
    ) -> list[Values]:
        """Run up to the input of the head; return it, and the present keys and values, for each input."""
        live: list[Values] = [dict(feed) for feed in feeds]
        outputs = {v.name for v in self._model.graph.output}
        for number in range(len(self._pieces)):
            self._run_piece(number, live, overrides, outputs)
            progress(number + 1, self.num_pieces)
        return live

    def run_stage(
        self,
        stage: int,
        live: Sequence[Values],
        overrides: Mapping[str, NDArray[Any]] = _NO_OVERRIDES,
        observe: Observer | None = None,
        observe_results: Observer | None = None,
    ) -> None:
        """Take several inputs one stage further. Keys and values are not kept.

        Args:
            stage: 0: embedding and mask; 1 to the number of layers: that layer; then the final norm.
            live: For each input, the tensors that are available, at first the graph's inputs. Afterwards they are
                those that later stages need.
            overrides: See the class.
            observe: Called before each product. Requires a provider, since only then is each product a piece.
            observe_results: Called after each product with its results instead of its inputs, before the bias is added.
        """
        for number, piece in enumerate(self._pieces):
            if piece.stage == stage:
                self._run_piece(number, live, overrides, set(), observe, observe_results)

    def residual(self, stage: int) -> tuple[str, str]:
        """The two tensors whose sum is the hidden state before a stage (not 0); the same name twice if it is one."""
        norm = next(n for p in self._pieces if p.stage == stage for n in p.nodes if n.op_type == _NORM)
        return norm.input[0], norm.input[1]

    def _run_piece(
        self,
        number: int,
        live: Sequence[Values],
        overrides: Mapping[str, NDArray[Any]],
        outputs: set[str],
        observe: Observer | None = None,
        observe_results: Observer | None = None,
    ) -> None:
        """Run a piece on every input; keep ``outputs``, the head's input and what later pieces need."""
        piece = self._pieces[number]
        later = outputs | {self.head_input} | {n for n, last in self._last_use.items() if n and last > number}
        nodes = [n for n in piece.nodes if not all(name in live[0] for name in n.output if name)]
        if nodes and piece.rows:
            inputs = [values[nodes[0].input[0]] for values in live]
            if observe is not None:
                observe(nodes[0].input[1], inputs)
            made = self._run_rows(piece.nodes[0], piece.rows, inputs, overrides)
            if observe_results is not None:
                observe_results(nodes[0].input[1], made)
            for values, result in zip(live, made, strict=True):
                values[nodes[0].output[0]] = result
        elif nodes:
            session, wanted, fetched = self._loader.load(nodes, later, overrides)
            for values in live:
                results = session.run(fetched, {name: values[name] for name in wanted})
                values.update(zip(fetched, results, strict=True))
                _forget(values, later)  # at once: the widest tensor of a gated MLP, of all inputs, would be the peak
            del session
        for values in live:
            _forget(values, later)
        return_freed_memory()  # the gaps that pieces of many sizes leave would grow with the number of layers

    def _run_rows(
        self,
        node: onnx.NodeProto,
        rows: Sequence[tuple[int, int]],
        inputs: Sequence[NDArray[Any]],
        overrides: Mapping[str, NDArray[Any]],
    ) -> list[NDArray[Any]]:
        """Run a product on each input, some rows of its matrix at a time; return (batch, tokens, out) of each."""
        results = [np.empty((*x.shape[:2], rows[-1][1]), x.dtype) for x in inputs]
        for first, last in rows:
            session, (wanted,), (fetched,) = self._loader.load([node], {node.output[0]}, overrides, (first, last))
            for x, result in zip(inputs, results, strict=True):
                result[:, :, first:last] = session.run([fetched], {wanted: x})[0]
            del session
        return results

    def part(
        self,
        given: Collection[str],
        fetch: Sequence[str],
        overrides: Mapping[str, NDArray[Any]] = _NO_OVERRIDES,
        stand_ins: Mapping[str, Callable[[onnx.NodeProto], StandIn]] = _NO_STAND_INS,
    ) -> Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]:
        """Load the part of the graph between some tensors and others.

        Args:
            given: Names of tensors that will be given.
            fetch: Names of tensors to compute.
            overrides: See the class.
            stand_ins: For a type of operator, a function that takes a node and returns what computes its first output
                instead of onnxruntime, from its first input or, for attention, from q, k and v, joined or apart.

        Returns:
            A function that takes the given tensors by name (and ignores others) and returns the fetched ones. It keeps
            the loaded part; drop it to free the memory.
        """
        producers = {name: node for node in self._model.graph.node for name in node.output if name}
        needed: set[str] = set()
        open_names = list(fetch)
        while open_names:
            name = open_names.pop()
            node = producers.get(name)
            if name not in given and node is not None and node.name not in needed:
                needed.add(node.name)
                open_names += _activations(node) if node.op_type in stand_ins else [n for n in node.input if n]
        nodes = [node for node in self._model.graph.node if node.name in needed]
        later, steps = set(fetch), list[tuple[_Step, set[str]]]()
        for kind, group in reversed([(k, list(g)) for k, g in groupby(nodes, lambda n: _stood_in(n, stand_ins))]):
            step = (
                _stand_in_step(group[0], stand_ins[kind[0]](group[0]))
                if kind
                else self._session_step(group, later, overrides)
            )
            steps.append((step, later))
            later = later | {n for node in group for n in (_activations(node) if kind else node.input) if n}

        def run(values: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
            live = {name: value for name, value in values.items() if name in later}
            for step, wanted in reversed(steps):
                step(live)
                _forget(live, wanted)
            return [live[name] for name in fetch]

        return run

    def _session_step(
        self, nodes: Sequence[onnx.NodeProto], wanted: set[str], overrides: Mapping[str, NDArray[Any]]
    ) -> _Step:
        session, taken, given = self._loader.load(nodes, wanted, overrides)

        def step(live: Values) -> None:
            live.update(zip(given, session.run(given, {name: live[name] for name in taken}), strict=True))

        return step

    def nodes(self) -> dict[str, onnx.NodeProto]:
        """The graph's nodes by name."""
        return {node.name: node for node in self._model.graph.node}

    def run_head(self, hidden: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the logits.

        Args:
            hidden: Output of the final norm, (batch, kept, hidden_size) in the activation type.

        Returns:
            (batch, kept, vocab_size) float32.
        """
        logits = np.empty((*hidden.shape[:2], self._head_rows[-1][1]), np.float32)
        for (first, last), product in self.head_parts():
            logits[:, :, first:last] = product(hidden)
        return logits

    def head_parts(self) -> Iterator[tuple[tuple[int, int], Callable[[NDArray[Any]], NDArray[Any]]]]:
        """Load the head, some rows of the vocabulary at a time.

        Yields:
            (first row, last row + 1), and a function that takes what :meth:`run_head` takes and returns the logits of
            these rows, (batch, kept, rows) in the activation type. Models of the same shapes are cut alike.
        """
        for rows in self._head_rows:
            session, (wanted,), (fetched,) = self._loader.load(
                [self._head], {self._head.output[0]}, _NO_OVERRIDES, rows
            )

            def product(
                hidden: NDArray[Any], run: Any = session.run, wanted: str = wanted, fetched: str = fetched
            ) -> NDArray[Any]:
                result: NDArray[Any] = run([fetched], {wanted: hidden})[0]
                return result

            yield rows, product
            del session, product

    def _cut(self) -> tuple[list[_Piece], onnx.NodeProto]:
        """The pieces in order, and the head's product."""
        groups: dict[str, list[onnx.NodeProto]] = {}
        layers: dict[str, int] = {}
        for node in self._model.graph.node:
            layer = _LAYER.match(node.name)
            # "/model/final_norm/...", "/model/embed_tokens/...", "/lm_head/..." by their first two parts
            key = layer[0] if layer else "/".join(node.name.split("/")[:3])
            groups.setdefault(key, []).append(node)
            if layer:
                layers[key] = int(layer[1]) + 1
        layers["/model/final_norm"] = len(layers) + 1
        head = next(n for n in self._model.graph.node if n.name.startswith("/lm_head/"))
        pieces = [
            piece
            for key, nodes in groups.items()
            if not key.startswith(("/lm_head", "/logits"))
            for piece in self._pieces_of(layers.get(key, 0), nodes)
        ]
        return pieces, head

    def _pieces_of(self, stage: int, nodes: list[onnx.NodeProto]) -> Iterator[_Piece]:
        """A whole stage, or each float product separately, because a float layer of an 8B model is 0.9 GB."""
        together: list[onnx.NodeProto] = []
        for node in nodes:
            if not self._cut_products or node.op_type != _FLOAT_PRODUCT:
                together.append(node)
                continue
            if together:
                yield _Piece(stage, tuple(together))
            yield _Piece(stage, (node,), tuple(self._split(node)))
            together = []
        if together:
            yield _Piece(stage, tuple(together))

    def _split(self, product: onnx.NodeProto) -> list[tuple[int, int]]:
        """The (first, last + 1) rows of each part of a product's matrix."""
        sizes = {a.name: a.i for a in product.attribute}
        rows, columns = (sizes["N"], sizes["K"]) if "N" in sizes else self._loader.initializers[product.input[1]].dims
        step = max(1, min(PIECE_WEIGHTS // columns, PIECE_ROWS))
        return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def _stood_in(node: onnx.NodeProto, stand_ins: Collection[str]) -> tuple[str, str] | None:
    """A key that groups the nodes onnxruntime runs together (None) and is unique for every other node."""
    return (node.op_type, node.name) if node.op_type in stand_ins else None


def _activations(node: onnx.NodeProto) -> list[str]:
    """The inputs of a node that a stand-in reads."""
    return [name for name in node.input[: 3 if node.op_type == "GroupQueryAttention" else 1] if name]


def _stand_in_step(node: onnx.NodeProto, compute: StandIn) -> _Step:
    def step(live: Values) -> None:
        live[node.output[0]] = compute(*(live[name] for name in _activations(node)))

    return step


def _forget(values: Values, later: Collection[str]) -> None:
    """Drop the tensors that are not needed later."""
    for name in [name for name in values if name not in later]:
        del values[name]
