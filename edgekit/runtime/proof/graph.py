"""The graph of ``model.onnx``, read and written without the package onnx, which devices do not have.

Nodes and initializers are copied as bytes; the numbers of the fields are those of ``onnx.proto``. A model of a single
node refers to the artifact's data file for its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ...errors import ArtifactError
from .wire import field, fields, packed

FLOAT, INT32, INT64, FLOAT16 = 1, 6, 7, 10  # TensorProto.DataType
FLOAT_PRODUCTS = 1  # accuracy_level of MatMulNBits: activations stay float


@dataclass(frozen=True)
class Node:
    """A node: its name, operator, inputs and outputs, its integer attributes, all attributes as bytes, and itself."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, int]
    attributes: tuple[bytes, ...]
    encoded: bytes


@dataclass(frozen=True)
class Initializer:
    """A constant or a weight: its shape, its type, and itself."""

    shape: tuple[int, ...]
    data_type: int
    encoded: bytes


@dataclass(frozen=True)
class Graph:
    """A model's graph.

    Attributes:
        nodes: In the order in which they run.
        initializers: By name.
        float_type: The type of activations, keys and values.
        versions: The model's format and operator sets, encoded.
    """

    nodes: tuple[Node, ...]
    initializers: Mapping[str, Initializer]
    float_type: int
    versions: bytes


@contextmanager
def exported_graph() -> Iterator[None]:
    """Translate what is raised while a graph is taken apart that has another form than those that edgekit exports.

    Raises:
        ArtifactError: An input, an attribute or a text is missing or not valid, or a value depends on itself.
    """
    try:
        yield
    except (LookupError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(
            f"model.onnx: its graph is not one that edgekit exports ({type(error).__name__}: {error})",
            hint="build the artifact again",
        ) from None


@exported_graph()
def read_graph(model: bytes) -> Graph:
    """The graph of a model that edgekit exported.

    Raises:
        ArtifactError: The bytes are not such a model.
    """
    versions = b"".join(encoded for number, _, encoded in fields(model) if number in (1, 8))
    nodes: list[Node] = []
    initializers: dict[str, Initializer] = {}
    float_type = FLOAT
    for number, value in _graph_fields(model):
        if number == 1:
            nodes.append(_node(value))
        elif number == 5:
            initializers[_text(value, 8)] = _initializer(value)
        elif number == 11 and _text(value, 1).startswith("past_key_values."):
            float_type = _element_type(value)
    return Graph(tuple(nodes), initializers, float_type, versions)


@exported_graph()
def with_float_products(model: bytes) -> bytes:
    """The same model with products whose activations are not rounded to int8.

    Raises:
        ArtifactError: The bytes are not a model that edgekit exported.
    """

    def changed(graph: bytes) -> bytes:
        parts = []
        for number, value, encoded in fields(graph):
            if number == 1 and isinstance(value, bytes) and b"accuracy_level" in value:
                encoded = field(1, b"".join(_level(*each) for each in fields(value)))
            parts.append(encoded)
        return b"".join(parts)

    return b"".join(
        field(7, changed(value)) if number == 7 and isinstance(value, bytes) else encoded
        for number, value, encoded in fields(model)
    )


def node_model(graph: Graph, node: Node, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
    """A model of one node.

    Args:
        graph: The graph that has the node.
        node: The node.
        inputs: The inputs that are not initializers, with their types.
        outputs: The outputs, with their types.
    """
    parts = [field(1, node.encoded), field(2, "node")]
    used = dict.fromkeys(name for name in node.inputs if name in graph.initializers)
    parts += [field(5, graph.initializers[name].encoded) for name in used]
    parts += [field(11, _value_info(name, kind)) for name, kind in inputs.items()]
    parts += [field(12, _value_info(name, kind)) for name, kind in outputs.items()]
    return graph.versions + field(7, b"".join(parts))


def _graph_fields(model: bytes) -> Iterator[tuple[int, bytes]]:
    for number, value, _ in fields(model):
        if number == 7 and isinstance(value, bytes):
            yield from ((inner, content) for inner, content, _ in fields(value) if isinstance(content, bytes))


def _node(value: bytes) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    attributes = []
    for number, content, _ in fields(value):
        if not isinstance(content, bytes):
            continue
        if number == 5:
            attributes.append(content)
            for inner, integer, _ in fields(content):
                if inner == 3 and isinstance(integer, int):
                    numbers[_text(content, 1)] = integer - 2**64 if integer >= 2**63 else integer
        elif number in (1, 2):
            (inputs if number == 1 else outputs).append(content.decode())
        else:
            names[number] = content.decode()
    return Node(
        names.get(3, ""), names.get(4, ""), tuple(inputs), tuple(outputs), numbers, tuple(sorted(attributes)), value
    )


def _initializer(value: bytes) -> Initializer:
    shape: list[int] = []
    data_type = 0
    for number, content, _ in fields(value):
        if number == 1 and isinstance(content, int):
            shape.append(content)
        elif number == 1 and isinstance(content, bytes):  # packed
            shape += packed(content)
        elif number == 2 and isinstance(content, int):
            data_type = content
    return Initializer(tuple(shape), data_type, value)


def _text(message: bytes, number: int) -> str:
    found = next((value for each, value, _ in fields(message) if each == number), b"")
    return found.decode() if isinstance(found, bytes) else ""


def _level(number: int, value: int | bytes, encoded: bytes) -> bytes:
    """A node's field; the attribute accuracy_level gets another value."""
    if number == 5 and isinstance(value, bytes) and _text(value, 1) == "accuracy_level":
        return field(5, field(1, "accuracy_level") + field(3, FLOAT_PRODUCTS) + field(20, 2))
    return encoded


def _value_info(name: str, kind: int) -> bytes:
    return field(1, name) + field(2, field(1, field(1, kind)))


def _element_type(value_info: bytes) -> int:
    inner = value_info
    for number in (2, 1):
        inner = next((value for each, value, _ in fields(inner) if each == number and isinstance(value, bytes)), b"")
    return next((value for each, value, _ in fields(inner) if each == 1 and isinstance(value, int)), FLOAT)
