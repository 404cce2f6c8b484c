"""Runs an exported graph a piece at a time, so that a model of any size runs in the memory of one layer.

The graph is cut where ``decoder.py`` names its parts: embedding and mask, each layer, the head; the head's product, and
every product of a float model, is cut further by rows. A piece is loaded, run for every input at hand, and dropped. The
pieces are the artifact's own nodes over the artifact's own bytes; only the order of loading differs from a whole
session's.

Used to record an artifact's golden test during the build, and to measure a model against its float reference.
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

from .pieces import PieceLoader, WeightProvider

PIECE_WEIGHTS = 32 << 20  # of one product per piece: onnxruntime holds such a piece twice, packed and as read
PIECE_ROWS = 4096  # of it at most: what it gives for 256 positions is then 4 MB, and several such arrays exist at once
_LAYER = re.compile(r"/model/layers\.(\d+)/")
_NORM, _FLOAT_PRODUCT = "SkipSimplifiedLayerNormalization", "FusedMatMul"

Values = dict[str, NDArray[Any]]
StandIn = Callable[[NDArray[Any]], NDArray[Any]]
_Step = Callable[[Values], None]  # adds tensors to those at hand


@dataclass(frozen=True)
class _Piece:
    """Nodes that are run together.

    Args:
        stage: 0 for what comes before the layers, then one for each layer, then one for the final norm.
        nodes: In order.
        rows: Where the product that is the only node is cut; empty for nodes that run whole.
    """

    stage: int
    nodes: tuple[onnx.NodeProto, ...]
    rows: tuple[tuple[int, int], ...] = ()


class StreamedModel:
    """A graph that is run piece by piece: a layer, or, where the weights come from a provider, a product at most.

    Args:
        model: As ``build_decoder`` made it or as read from ``model.onnx`` without its data.
        folder: Where ``model.onnx.data`` lies.
        provider: Gives the external weights instead of the file, one piece's at a time.
        threads: Of each piece's session.

    Attributes:
        observe: Told, where products are cut (with a provider), each one's weight by its initializer's name, and its
            inputs, (1, tokens, in) of each text, before it runs; None: nobody is.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path | None = None,
        provider: WeightProvider | None = None,
        threads: int = 0,
    ) -> None:
        if (folder is None) == (provider is None):
            raise ValueError("a streamed model needs a folder or a provider of its weights, and not both")
        self._model = model
        self.observe: Callable[[str, Sequence[NDArray[Any]]], None] | None = None
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
        overrides: Mapping[str, NDArray[Any]] | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Values]:
        """Run several independent inputs through the model, loading each piece once.

        Args:
            feeds: For each input the graph's inputs by name. An inner tensor may stand among them, in all of the
                inputs alike: the nodes that would compute it are then left out.
            overrides: Values for small initializers, such as ``logits_start``.
            progress: Called with (pieces done, pieces in all).

        Returns:
            For each input the graph's outputs by name.
        """
        live = self.run_layers(feeds, overrides, progress=progress)
        for values in live:
            values["logits"] = self.run_head(values.pop(self.head_input))
        progress(self.num_pieces, self.num_pieces)
        return live

    def run_layers(
        self,
        feeds: Sequence[Mapping[str, NDArray[Any]]],
        overrides: Mapping[str, NDArray[Any]] | None = None,
        keep_cache: bool = True,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Values]:
        """As :meth:`run`, up to the input of the head.

        Returns:
            For each input ``{head_input: (batch, kept, hidden)}``, and with ``keep_cache`` the present keys and values.
        """
        live: list[Values] = [dict(feed) for feed in feeds]
        for number in range(len(self._pieces)):
            self._run_piece(number, live, overrides or {}, keep_cache)
            progress(number + 1, self.num_pieces)
        return live

    def run_stage(
        self, stage: int, live: Sequence[Values], overrides: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Take several inputs one stage further; the stages in order are :meth:`run_layers` without the cache.

        Args:
            stage: 0: embedding and mask; 1 to the number of layers: that layer; then the final norm.
            live: For each input the tensors at hand, at first those of ``feeds`` of :meth:`run`. They become those
                that later stages need.
            overrides: As :meth:`run`.
        """
        for number, piece in enumerate(self._pieces):
            if piece.stage == stage:
                self._run_piece(number, live, overrides or {}, keep_cache=False)

    def residual(self, stage: int) -> tuple[str, str]:
        """The two tensors whose sum the hidden state is before a stage from 1 on; one name twice where it is one."""
        norm = next(n for p in self._pieces if p.stage == stage for n in p.nodes if n.op_type == _NORM)
        return norm.input[0], norm.input[1]

    def _run_piece(
        self, number: int, live: Sequence[Values], overrides: Mapping[str, NDArray[Any]], keep_cache: bool
    ) -> None:
        piece = self._pieces[number]
        outputs = {v.name for v in self._model.graph.output} if keep_cache else set()
        outputs.add(self.head_input)
        later = outputs | {name for name, last in self._last_use.items() if name and last > number}
        nodes = [n for n in piece.nodes if not all(name in live[0] for name in n.output if name)]
        if nodes and piece.rows:
            inputs = [values[nodes[0].input[0]] for values in live]
            if self.observe is not None:
                self.observe(nodes[0].input[1], inputs)
            made = self._run_rows(piece.nodes[0], piece.rows, inputs)
            for values, result in zip(live, made, strict=True):
                values[nodes[0].output[0]] = result
        elif nodes:
            session, wanted, fetched = self._loader.load(nodes, later, dict(overrides))
            for values in live:
                results = session.run(fetched, {name: values[name] for name in wanted})
                values.update(zip(fetched, results, strict=True))
                _forget(
                    values, later
                )  # at once: a gated MLP's widest tensor, of all inputs, would be the largest of all
            del session
        for values in live:
            _forget(values, later)

    def _run_rows(
        self, node: onnx.NodeProto, rows: Sequence[tuple[int, int]], inputs: Sequence[NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """A product for each input, (batch, tokens, out), with a part of its matrix at a time."""
        results = [np.empty((*x.shape[:2], rows[-1][1]), x.dtype) for x in inputs]
        for first, last in rows:
            session, (wanted,), (fetched,) = self._loader.load([node], {node.output[0]}, {}, (first, last))
            for x, result in zip(inputs, results, strict=True):
                result[:, :, first:last] = session.run([fetched], {wanted: x})[0]
            del session
        return results

    def part(
        self,
        given: Collection[str],
        fetch: Sequence[str],
        overrides: Mapping[str, NDArray[Any]] | None = None,
        stand_ins: Mapping[str, Callable[[onnx.NodeProto], StandIn]] | None = None,
    ) -> Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]:
        """What of the graph leads from some tensors to others, loaded; dropped with the function that is returned.

        Args:
            given: Tensors that are at hand.
            fetch: Tensors that are wanted.
            overrides: As :meth:`run`.
            stand_ins: By type of operator, what makes a function that computes a node's first output from its first
                input, so that onnxruntime need not.

        Returns:
            A function of the given tensors by name (more may stand among them) that gives the fetched ones.
        """
        stand_ins = stand_ins or {}
        producers = {name: node for node in self._model.graph.node for name in node.output if name}
        needed: set[str] = set()
        open_names = list(fetch)
        while open_names:
            name = open_names.pop()
            node = producers.get(name)
            if name not in given and node is not None and node.name not in needed:
                needed.add(node.name)
                open_names += node.input[:1] if node.op_type in stand_ins else [n for n in node.input if n]
        nodes = [node for node in self._model.graph.node if node.name in needed]
        later, steps = set(fetch), list[tuple[_Step, set[str]]]()
        for kind, group in reversed([(k, list(g)) for k, g in groupby(nodes, lambda n: _stood_in(n, stand_ins))]):
            step = (
                _stand_in_step(group[0], stand_ins[kind[0]](group[0]))
                if kind
                else self._session_step(group, later, overrides)
            )
            steps.append((step, later))
            later = later | {n for node in group for n in (node.input[:1] if kind else node.input) if n}

        def run(values: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
            live = {name: value for name, value in values.items() if name in later}
            for step, wanted in reversed(steps):
                step(live)
                _forget(live, wanted)
            return [live[name] for name in fetch]

        return run

    def _session_step(
        self, nodes: Sequence[onnx.NodeProto], wanted: set[str], overrides: Mapping[str, NDArray[Any]] | None
    ) -> _Step:
        session, taken, given = self._loader.load(nodes, wanted, dict(overrides or {}))

        def step(live: Values) -> None:
            live.update(zip(given, session.run(given, {name: live[name] for name in taken}), strict=True))

        return step

    def nodes(self) -> dict[str, onnx.NodeProto]:
        """The graph's nodes by name."""
        return {node.name: node for node in self._model.graph.node}

    def run_head(self, hidden: NDArray[Any]) -> NDArray[np.float32]:
        """Logits of the final norm's output.

        Args:
            hidden: (batch, kept, hidden_size) in the activation type.

        Returns:
            (batch, kept, vocab_size) float32.
        """
        logits = np.empty((*hidden.shape[:2], self._head_rows[-1][1]), np.float32)
        for (first, last), product in self.head_parts():
            logits[:, :, first:last] = product(hidden)
        return logits

    def head_parts(self) -> Iterator[tuple[tuple[int, int], Callable[[NDArray[Any]], NDArray[Any]]]]:
        """The head, some rows of the vocabulary at a time.

        Returns:
            (first row, last row + 1) and a function that gives the logits of those rows, (batch, kept, rows) in the
            activation type, of what :meth:`run_head` takes. Two models of the same shapes are cut alike.
        """
        for rows in self._head_rows:
            session, (wanted,), (fetched,) = self._loader.load([self._head], {self._head.output[0]}, {}, rows)

            def product(
                hidden: NDArray[Any], run: Any = session.run, wanted: str = wanted, fetched: str = fetched
            ) -> NDArray[Any]:
                result: NDArray[Any] = run([fetched], {wanted: hidden})[0]
                return result

            yield rows, product
            del session, product

    def _cut(self) -> tuple[list[_Piece], onnx.NodeProto]:
        """The nodes by piece, in order, and the head's product."""
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
        """A stage whole, or with each float product by itself: a float layer of an 8B model is 0.9 GB."""
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
        """Where a product's matrix is cut by rows."""
        sizes = {a.name: a.i for a in product.attribute}
        rows, columns = (sizes["N"], sizes["K"]) if "N" in sizes else self._loader.initializers[product.input[1]].dims
        step = max(1, min(PIECE_WEIGHTS // columns, PIECE_ROWS))
        return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def _stood_in(node: onnx.NodeProto, stand_ins: Collection[str]) -> tuple[str, str] | None:
    """Nothing for nodes that onnxruntime runs together, something of its own for each other one."""
    return (node.op_type, node.name) if node.op_type in stand_ins else None


def _stand_in_step(node: onnx.NodeProto, compute: StandIn) -> _Step:
    def step(live: Values) -> None:
        live[node.output[0]] = compute(live[node.input[0]])

    return step


def _forget(values: Values, later: Collection[str]) -> None:
    """Drop the tensors that nobody will read."""
    for name in [name for name in values if name not in later]:
        del values[name]
