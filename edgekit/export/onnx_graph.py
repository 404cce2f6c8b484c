"""A small builder of ONNX graphs: nodes named as paths, weights that stay in an external data file.

Nothing here knows about language models; ``decoder.py`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..layout import Slot

DATA_FILE = "model.onnx.data"
OPSET = 21  # onnxruntime 1.20 and later
IR_VERSION = 10
CONTRIB = "com.microsoft"

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


class GraphBuilder:
    """Collects nodes, initializers, inputs and outputs, and makes a ModelProto of them.

    A node's output is called ``<node name>/output_<i>``, so a tensor's name tells where it comes from.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def node(
        self, name: str, inputs: Sequence[str], *, domain: str = "", outputs: int | Sequence[str] = 1, **attributes: Any
    ) -> str:
        """Add a node whose operator is the last part of its name, and return its first output's name.

        Args:
            name: ``/model/layers.0/attn/o_proj/MatMulNBits``.
            inputs: Tensor names, ``""`` for an optional input that is left out.
            domain: Operator domain, :data:`CONTRIB` for onnxruntime's own operators.
            outputs: How many, or their names (``""`` for one left out).
            attributes: The operator's.
        """
        names = [f"{name}/output_{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        kind = name.rpartition("/")[2]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return names[0]

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a small initializer that is stored in the graph itself."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(value, name)
        return name

    def external(self, slot: Slot, name: str = "", shape: Sequence[int] = ()) -> str:
        """Add an initializer that lies in the data file.

        Args:
            slot: Where; several initializers may show the same bytes.
            name: Another name than the slot's.
            shape: Another shape than the slot's, of the same size.
        """
        name = name or slot.name
        if name in self._initializers:
            return name
        tensor = TensorProto(name=name, data_type=ELEMENT_TYPES[slot.dtype], dims=shape or slot.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", DATA_FILE), ("offset", slot.offset), ("length", slot.size_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
        return name

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declare a graph input; a string in the shape is a free dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Declare a graph output."""
        self._outputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape))

    def model(self, graph_name: str, producer_version: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(
            self._nodes, graph_name, self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        model.producer_name, model.producer_version = "edgekit", producer_version
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=value)
        return model


def int64(*values: int) -> NDArray[np.int64]:
    """A one-dimensional int64 constant."""
    return np.array(values, np.int64)
