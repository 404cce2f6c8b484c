"""onnxruntime sessions of some of a graph's nodes, with weights from the artifact's file or from a provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..ort import import_onnxruntime
from ..threads import check_threads, told_refusals

if TYPE_CHECKING:
    import onnxruntime

ort = import_onnxruntime()

_FOLDER_KEY = "session.model_external_initializers_file_folder_path"

# Gives weights that are in no file: initializer name and (first row, last row + 1), or None for all -> array.
WeightProvider = Callable[[str, tuple[int, int] | None], NDArray[Any]]


class PieceLoader:
    """Makes sessions of some of a graph's nodes.

    Args:
        model: The graph.
        folder: The folder of its external data.
        provider: Gives the external weights instead of that file, those of one piece at a time.
        threads: Threads of each session; 0 for as many as onnxruntime chooses.

    Attributes:
        initializers: The graph's initializers by name.

    Raises:
        EngineError: The system does not start that many threads.
    """

    def __init__(
        self, model: onnx.ModelProto, folder: Path | None, provider: WeightProvider | None, threads: int
    ) -> None:
        if threads:
            check_threads(threads)
        self._model, self._folder, self._provider, self._threads = model, folder, provider, threads
        self.initializers = {t.name: t for t in model.graph.initializer}
        self._types: dict[str, int] = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
        self._float: int = next(v.type.tensor_type.elem_type for v in model.graph.input if v.name.startswith("past_"))

    def load(
        self,
        piece: Sequence[onnx.NodeProto],
        needed: set[str],
        overrides: Mapping[str, NDArray[Any]],
        rows: tuple[int, int] | None = None,
    ) -> tuple[onnxruntime.InferenceSession, list[str], list[str]]:
        """Load some nodes.

        Args:
            piece: The nodes.
            needed: Names of the tensors to compute.
            overrides: Values that replace initializers.
            rows: Rows of the matrix to load, if ``piece`` is a single product.

        Returns:
            The session, the names of its inputs and of its outputs.
        """
        produced = {name for node in piece for name in node.output if name}
        consumed = list(dict.fromkeys(n for node in piece for n in node.input if n and n not in produced))
        wanted = [n for n in consumed if n not in self.initializers]
        fetched = [n for node in piece for n in node.output if n in needed]
        graph = helper.make_graph(
            [_with_rows(node, rows) for node in piece],
            "piece",
            [helper.make_tensor_value_info(n, self._type(n), self._shape(n)) for n in wanted],
            [helper.make_tensor_value_info(n, self._type(n), None) for n in fetched],
            [self._initializer(n, rows, overrides) for n in consumed if n in self.initializers],
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return self._session(model, rows, overrides), wanted, fetched

    def _session(
        self, model: onnx.ModelProto, rows: tuple[int, int] | None, overrides: Mapping[str, NDArray[Any]]
    ) -> onnxruntime.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # numpy works between the runs
        options.log_severity_level = 3
        if self._folder is not None:
            options.add_session_config_entry(_FOLDER_KEY, str(self._folder.resolve()))
        if self._provider is not None:
            names = [t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
            arrays = [_rows(overrides[n], rows) if n in overrides else self._provider(n, rows) for n in names]
            values = [ort.OrtValue.ortvalue_from_numpy(array) for array in arrays]
            options.add_external_initializers(names, values)
        with told_refusals(self._threads):
            return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _initializer(
        self, name: str, rows: tuple[int, int] | None, overrides: Mapping[str, NDArray[Any]]
    ) -> TensorProto:
        tensor = self.initializers[name]
        given = self._provider is not None and tensor.data_location == TensorProto.EXTERNAL  # see _session
        if name in overrides and not given:
            return onnx.numpy_helper.from_array(overrides[name], name)
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

    def _shape(self, name: str) -> list[None] | None:
        """Activations have three axes of any size; None for other tensors.

        If it does not know that, onnxruntime 1.23 takes GroupQueryAttention's query for a packed query, key and value.
        """
        return None if name in self._types or self._type(name) != self._float else [None] * 3

    def _type(self, name: str) -> int:
        """Element type of a tensor between pieces: int32 for lengths, the activation type for all others."""
        if name in self._types:
            return self._types[name]
        return TensorProto.INT32 if name.startswith("/model/attn_mask/") else self._float


def _with_rows(node: onnx.NodeProto, rows: tuple[int, int] | None) -> onnx.NodeProto:
    """A copy of the node, with the number of rows it multiplies."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if rows is not None and attribute.name == "N":
            attribute.i = rows[1] - rows[0]
    return copy


def _rows(array: NDArray[Any], rows: tuple[int, int] | None) -> NDArray[Any]:
    """Rows of an array, contiguous as onnxruntime needs them."""
    return np.ascontiguousarray(array if rows is None else array[slice(*rows)])
