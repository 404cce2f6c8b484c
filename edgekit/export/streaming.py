"""Runs an exported graph a piece at a time, so that a model of any size runs in the memory of one layer.

The graph is cut where ``decoder.py`` names its parts: embedding and mask, each layer, the head; the head's product is cut
further by rows. A piece is loaded, run for every input at hand, and dropped. The pieces are the artifact's own nodes over
the artifact's own bytes; only the order of loading differs from a whole session's.

Used to record an artifact's golden test during the build, and to measure a model against its float reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

HEAD_PIECE_WEIGHTS = 32 << 20  # of the lm_head per piece: onnxruntime holds such a piece twice, packed and as read
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"
_LAYER = re.compile(r"/model/layers\.(\d+)/")

Values = dict[str, NDArray[Any]]
# Where a piece's weights come from when they are in no file: name and (first row, last row) or None -> array.
WeightProvider = Callable[[str, tuple[int, int] | None], NDArray[Any]]


@dataclass(frozen=True)
class _Piece:
    """Nodes that are loaded together; ``rows`` is the part of the head's matrix they compute."""

    nodes: tuple[onnx.NodeProto, ...]
    rows: tuple[int, int] | None = None


class StreamedModel:
    """A graph that is run piece by piece.

    Args:
        model: As ``build_decoder`` made it or as read from ``model.onnx`` without its data.
        folder: Where ``model.onnx.data`` lies.
        provider: Gives the external weights instead of the file, one piece's at a time.
        threads: Of each piece's session.
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
        self._folder = folder
        self._provider = provider
        self._threads = threads
        self._initializers = {t.name: t for t in model.graph.initializer}
        self._types = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
        self._float = next(v.type.tensor_type.elem_type for v in model.graph.input if v.name.startswith("past_"))
        self._pieces = tuple(self._cut())
        self.num_pieces = len(self._pieces)

    def run(
        self,
        feeds: Sequence[Mapping[str, NDArray[Any]]],
        overrides: Mapping[str, NDArray[Any]] | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Values]:
        """Run several independent inputs through the model, loading each piece once.

        Args:
            feeds: For each input the graph's inputs by name.
            overrides: Values for small initializers, such as ``logits_start``.
            progress: Called with (pieces done, pieces in all).

        Returns:
            For each input the graph's outputs by name.
        """
        live: list[Values] = [dict(feed) for feed in feeds]
        outputs = {v.name for v in self._model.graph.output}
        head: list[list[NDArray[Any]]] = [[] for _ in feeds]
        for number, piece in enumerate(self._pieces):
            later = {name for p in self._pieces[number + 1 :] for node in p.nodes for name in node.input if name}
            session, wanted, fetched = self._load(piece, later | outputs, dict(overrides or {}))
            for values, parts in zip(live, head, strict=True):
                results = session.run(fetched, {name: values[name] for name in wanted})
                if piece.rows is not None:
                    parts.append(results[0])
                else:
                    values.update(zip(fetched, results, strict=True))
                for name in set(values) - later - outputs:
                    del values[name]
            del session
            progress(number + 1, self.num_pieces)
        for values, parts in zip(live, head, strict=True):
            values["logits"] = np.concatenate(parts, axis=-1).astype(np.float32, copy=False)
        return live

    def _cut(self) -> Iterator[_Piece]:
        groups: dict[str, list[onnx.NodeProto]] = {}
        for node in self._model.graph.node:
            layer = _LAYER.match(node.name)
            key = layer[1] if layer else "head" if node.name.startswith(("/lm_head/", "/logits/")) else node.name[:14]
            groups.setdefault(key, []).append(node)
        head = groups.pop("head")
        product = head[0]
        for nodes in groups.values():
            yield _Piece(tuple(nodes))
        rows, columns = self._head_shape(product)
        step = max(1, HEAD_PIECE_WEIGHTS // columns)
        for start in range(0, rows, step):
            yield _Piece((product,), (start, min(start + step, rows)))

    def _head_shape(self, product: onnx.NodeProto) -> tuple[int, int]:
        sizes = {a.name: a.i for a in product.attribute}
        if "N" in sizes:
            return sizes["N"], sizes["K"]
        rows, columns = self._initializers[product.input[1]].dims
        return rows, columns

    def _load(
        self, piece: _Piece, needed: set[str], overrides: dict[str, NDArray[Any]]
    ) -> tuple[ort.InferenceSession, list[str], list[str]]:
        """A session of one piece, the names it takes and the names it gives."""
        produced = {name for node in piece.nodes for name in node.output if name}
        consumed = list(dict.fromkeys(n for node in piece.nodes for n in node.input if n and n not in produced))
        tensors = [self._initializer(n, piece.rows, overrides) for n in consumed if n in self._initializers]
        wanted = [n for n in consumed if n not in self._initializers]
        fetched = [n for node in piece.nodes for n in node.output if n in needed or piece.rows is not None]
        nodes = [_with_rows(node, piece.rows) for node in piece.nodes]
        graph = helper.make_graph(
            nodes,
            "piece",
            [helper.make_tensor_value_info(n, self._type(n), None) for n in wanted],
            [helper.make_tensor_value_info(n, self._type(n), None) for n in fetched],
            tensors,
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return self._session(model, piece.rows), wanted, fetched

    def _session(self, model: onnx.ModelProto, rows: tuple[int, int] | None) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        if self._folder is not None:
            options.add_session_config_entry(_FOLDER_KEY, str(self._folder.resolve()))
        if self._provider is not None:
            names = [t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
            values = [ort.OrtValue.ortvalue_from_numpy(self._provider(n, rows)) for n in names]
            options.add_external_initializers(names, values)
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _initializer(
        self, name: str, rows: tuple[int, int] | None, overrides: Mapping[str, NDArray[Any]]
    ) -> TensorProto:
        if name in overrides:
            return onnx.numpy_helper.from_array(overrides[name], name)
        tensor = self._initializers[name]
        if rows is None or tensor.data_location != TensorProto.EXTERNAL:
            return tensor
        place = {e.key: e.value for e in tensor.external_data}
        row_bytes = int(place["length"]) // tensor.dims[0]
        part = TensorProto(name=name, data_type=tensor.data_type, dims=[rows[1] - rows[0], *tensor.dims[1:]])
        part.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", place["location"]),
            ("offset", int(place["offset"]) + rows[0] * row_bytes),
            ("length", (rows[1] - rows[0]) * row_bytes),
        ):
            part.external_data.add(key=key, value=str(value))
        return part

    def _type(self, name: str) -> int:
        if name in self._types:
            return self._types[name]
        return int(TensorProto.INT32 if name.startswith("/model/attn_mask/") else self._float)


def _with_rows(node: onnx.NodeProto, rows: tuple[int, int] | None) -> onnx.NodeProto:
    """The node, or the head's product over some rows of its matrix."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if rows is not None and attribute.name == "N":
            attribute.i = rows[1] - rows[0]
    return copy
