"""Sessions of some of a graph's nodes, whose weights come from the artifact's file or from whoever has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

_FOLDER_KEY = "session.model_external_initializers_file_folder_path"

# Where a piece's weights come from when they are in no file: name and (first row, last row) or None -> array.
WeightProvider = Callable[[str, tuple[int, int] | None], NDArray[Any]]


class PieceLoader:
    """Makes sessions of a graph's nodes.

    Args:
        model: The graph.
        folder: Where its external data lies.
        provider: Gives the external weights instead of the file, one piece's at a time.
        threads: Of each session.

    Attributes:
        initializers: The graph's by name.
    """

    def __init__(
        self, model: onnx.ModelProto, folder: Path | None, provider: WeightProvider | None, threads: int
    ) -> None:
        self._model, self._folder, self._provider, self._threads = model, folder, provider, threads
        self.initializers = {t.name: t for t in model.graph.initializer}
        self._types: dict[str, int] = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
        self._float: int = next(v.type.tensor_type.elem_type for v in model.graph.input if v.name.startswith("past_"))

    def load(
        self,
        piece: Sequence[onnx.NodeProto],
        needed: set[str],
        overrides: dict[str, NDArray[Any]],
        rows: tuple[int, int] | None = None,
    ) -> tuple[ort.InferenceSession, list[str], list[str]]:
        """A session of some nodes, the names it takes and the names it gives.

        Args:
            piece: The nodes.
            needed: Names that somebody wants.
            overrides: Values for small initializers, such as ``logits_start``.
            rows: Part of the matrix, when ``piece`` is one product.
        """
        produced = {name for node in piece for name in node.output if name}
        consumed = list(dict.fromkeys(n for node in piece for n in node.input if n and n not in produced))
        wanted = [n for n in consumed if n not in self.initializers]
        fetched = [n for node in piece for n in node.output if n in needed]
        graph = helper.make_graph(
            [_with_rows(node, rows) for node in piece],
            "piece",
            [helper.make_tensor_value_info(n, self._type(n), None) for n in wanted],
            [helper.make_tensor_value_info(n, self._type(n), None) for n in fetched],
            [self._initializer(n, rows, overrides) for n in consumed if n in self.initializers],
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return self._session(model, rows), wanted, fetched

    def _session(self, model: onnx.ModelProto, rows: tuple[int, int] | None) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # numpy works between the runs
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
        tensor = self.initializers[name]
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
        """Element type of a tensor between pieces: lengths are int32, everything else is the activations'."""
        if name in self._types:
            return self._types[name]
        return TensorProto.INT32 if name.startswith("/model/attn_mask/") else self._float


def _with_rows(node: onnx.NodeProto, rows: tuple[int, int] | None) -> onnx.NodeProto:
    """The node, or a product over some rows of its matrix."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if rows is not None and attribute.name == "N":
            attribute.i = rows[1] - rows[0]
    return copy
