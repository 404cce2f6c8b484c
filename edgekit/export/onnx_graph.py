"""A small builder for ONNX graphs with path-like node names and with weights in an external data file.

It is independent of language models; ``decoder.py`` uses it to build one.
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
OPSET = 21  # supported by onnxruntime 1.20 and later
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
    """Collects nodes, initializers, inputs and outputs, and makes a ModelProto from them.

    By default a node's outputs are named ``<node name>/output_<i>``, so a tensor's name tells which node computes it.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def node(
        self, name: str, inputs: Sequence[str], *, domain: str = "", outputs: int | Sequence[str] = 1, **attributes: Any
    ) -> str:
        """Add a node whose operator is the last part of its name, and return the name of its first output.

        Args:
            name: For example ``/model/layers.0/attn/o_proj/MatMulNBits``.
            inputs: Tensor names; ``""`` for an omitted optional input.
            domain: The operator's domain; :data:`CONTRIB` for onnxruntime's own operators.
            outputs: The number of outputs, or their names (``""`` for an omitted one).
            attributes: The operator's attributes.
        """
        names = [f"{name}/output_{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        kind = name.rpartition("/")[2]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return names[0]

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a small initializer, which is stored in the graph itself, and return its name."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(value, name)
        return name

    def external(self, slot: Slot, name: str = "", shape: Sequence[int] = ()) -> str:
        """Add an initializer that is stored in the data file, and return its name.

        Args:
            slot: Its place in the data file. Several initializers may refer to the same bytes.
            name: Its name, if it differs from the slot's.
            shape: Its shape, if it differs from the slot's; the number of bytes must be the same.
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
        """Declare a graph input and return its name. A string in the shape is a dynamic dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Declare a graph output. A string in the shape is a dynamic dimension."""
        self._outputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape))

    def model(self, graph_name: str, producer_version: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Make the model.

        Args:
            graph_name: Name of the graph.
            producer_version: edgekit's version.
            metadata: The model's ``metadata_props``.
        """
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
    """Make a one-dimensional int64 array."""
    return np.array(values, np.int64)
