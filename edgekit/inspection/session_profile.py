"""Where onnxruntime runs each node: read from the profile of a session that generates some tokens.

The profile names every node that ran, also those that onnxruntime fused or inserted (casts, copies), with its execution
provider, the types and shapes of its inputs and the time it took. It is the same in every version, unlike the logs.
The session is an engine's own, with its bindings, so that only the copies of real use are counted.

A slow fallback shows in three ways:

    unpacked codes   On the processor a kernel for MatMulNBits takes its matrix in a layout of its own, made when the
                     model is loaded. If the node still has the graph's codes as an input, there is no such kernel for
                     this format, and every call first converts the whole matrix to floats
                     (onnxruntime ``contrib_ops/cpu/quantization/matmul_nbits.cc``, ComputeBUnpacked).
    on the host      A node of an accelerator's session that the accelerator has no kernel for, or whose kernel was
                     found to be wrong; lengths, which are integers, are computed there on purpose.
    casts            Inserted where the processor computes in float32 what the graph computes in float16. Those of
                     activations take little time; a cast of weights is slow.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..errors import EngineError
from ..layout import Matrix
from ..leftovers import locked_folder
from ..runtime.engine import EngineOptions, engine_class, resolve_context
from ..runtime.io_binding import BoundEngine
from ..runtime.provider import Provider
from .contents import HEAD, Model, format_of, part_name, parts_of
from .placement import COPY, FAST, HOST, SLOW, Place, Placement

TOKENS = 4  # the first pays for what is done once
_CONTEXT = 64  # positions; the cache is allocated on the device at once
_SUFFIX = "_kernel_time"
_COPIES = ("MemcpyToHost", "MemcpyFromHost")
_INSERTED = "InsertedPrecisionFreeCast"
_HEAD_PATH = "/lm_head"
_INTEGERS = ("int32", "int64", "bool")
_CODES_RANK = 3  # (out, blocks, bytes)
_WEIGHTED = ("MatMulNBits", "FusedMatMul", "MatMul", "Gemm", "GatherBlockQuantized", "Gather")
_LOGITS_BYTES = 4
_ID_BYTES = 8
WHY_UNPACKED = (
    "onnxruntime has no kernel for {format} with these activations on this processor and converts the whole matrix to "
    "floats for every token; the native engine has kernels for all formats"
)
WHY_ON_HOST = (
    "the processor computes it, because {title} has no kernel for it or a wrong one, and its data is copied from and "
    "to the device"
)
WHY_CAST = "the processor has no float16 kernel and converts these weights to float32 for every token"


@dataclass(frozen=True)
class Node:
    """A node of the optimized graph as it ran.

    ``input_types`` are pairs of a type and the number of axes. ``constant_bytes`` is the size of the inputs
    that are part of the model and that the kernel has not replaced; ``seconds`` is the shortest time of a token.
    """

    name: str
    operator: str
    provider: str
    input_types: tuple[tuple[str, int], ...]
    output_types: tuple[str, ...]
    output_bytes: int
    constant_bytes: int
    seconds: float


def profiled_placement(folder: Path, facts: RuntimeFacts, engine: str, model: Model | None) -> Placement:
    """Open an artifact with an engine on onnxruntime, generate :data:`TOKENS` tokens and read the profile.

    Args:
        folder: The artifact.
        facts: Its manifest.
        engine: The engine's name.
        model: The artifact's tensors, if they are known.

    Raises:
        EngineError: The engine cannot run the artifact on this machine.
        UnknownNameError: There is no such engine.
    """
    found = engine_class(engine)
    if not (isinstance(found, type) and issubclass(found, BoundEngine)):
        raise EngineError(f"inspecting {folder}: the engine {engine} does not run on onnxruntime")
    with locked_folder(Path(tempfile.gettempdir()), "edgekit-inspect-") as scratch:
        kernel = _run(found, folder, facts, scratch / "profile")
        profiles = sorted(scratch.glob("profile*.json"), key=lambda path: path.stat().st_mtime_ns)
        if not profiles:
            raise EngineError(f"inspecting {folder}: onnxruntime wrote no profile")
        try:  # an engine may have opened other sessions before, to prove its results
            nodes = read_profile(json.loads(profiles[-1].read_text(encoding="utf-8", errors="replace")))
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"inspecting {folder}: cannot read onnxruntime's profile: {error!r}") from None
    places = places_of(nodes, found.provider, model)
    if not found.provider.on_processor:
        vocab_size = int(facts.model["vocab_size"])
        places.append(Place("", "", "input_ids", "to the device", COPY, 1, copied_bytes=_ID_BYTES))
        places.append(Place("", "", "logits, one row", "to the host", COPY, 1, copied_bytes=_LOGITS_BYTES * vocab_size))
    return Placement(engine, kernel, tuple(places))


def _run(found: type[BoundEngine], folder: Path, facts: RuntimeFacts, profile: Path) -> str:
    """Generate tokens with an engine whose session writes a profile when it is closed. Returns the engine's kernel."""
    attach = found.provider.attach

    def attach_profiled(ort: Any, options: Any, *others: Any) -> Sequence[str]:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
        return attach(ort, options, *others)

    class Profiled(found):  # type: ignore[misc, valid-type]
        provider = replace(found.provider, attach=attach_profiled)

    opened = Profiled.open(folder, facts, EngineOptions(context=min(_CONTEXT, resolve_context(facts, None))))
    try:
        for _ in range(min(TOKENS, opened.context)):
            opened.evaluate([0])
        return str(opened.kernel)
    finally:
        opened.close()


def read_profile(events: Iterable[dict[str, Any]]) -> list[Node]:
    """The nodes of a profile.

    Args:
        events: The content of onnxruntime's profile: a list of events in the format of Chrome's tracing.

    Raises:
        KeyError, TypeError, ValueError: It is not such a list.
    """
    found: dict[str, Node] = {}
    for event in events:
        about = event.get("args", {})
        if event.get("cat") != "Node" or "provider" not in about:
            continue
        node = Node(
            name=event["name"].removesuffix(_SUFFIX),
            operator=about["op_name"],
            provider=about["provider"],
            input_types=_types(about["input_type_shape"]),
            output_types=tuple(kind for kind, _ in _types(about["output_type_shape"])),
            output_bytes=int(about["output_size"]),
            constant_bytes=int(about["parameter_size"]),
            seconds=event["dur"] / 1e6,
        )
        earlier = found.get(about["node_index"])
        if earlier is not None:
            node = replace(node, seconds=min(node.seconds, earlier.seconds))
        found[about["node_index"]] = node
    return list(found.values())


def _types(described: Sequence[dict[str, Sequence[int]]]) -> tuple[tuple[str, int], ...]:
    """``[{"float": [1, 4, 576]}]`` -> (("float", 3),)."""
    return tuple((kind, len(shape)) for each in described for kind, shape in each.items())


def places_of(nodes: Sequence[Node], provider: Provider, model: Model | None) -> list[Place]:
    """The nodes, those of one kind together: parts of the contents in their order, then everything else."""
    matrices: dict[str, Matrix] = {}
    order: list[tuple[str, str]] = []
    if model is not None:
        matrices = {_path(matrix.name): matrix for matrix in model.layout.matrices()}
        matrices[_HEAD_PATH] = model.layout.lm_head  # which may be the embedding's table
        order = [(part.name, part.format) for part in parts_of(model.layout)]
    total = sum(node.seconds for node in nodes)
    groups: dict[Place, list[tuple[Node, Matrix | None]]] = defaultdict(list)
    for node in nodes:
        path = node.name.rpartition("/")[0]
        matrix = matrices.get(path) if node.operator in _WEIGHTED else None
        state, reason = _state(node, provider, matrix)
        part = "" if matrix is None else HEAD if path == _HEAD_PATH else part_name(matrix.name)
        scheme = "" if matrix is None else format_of(matrix)
        runs_on = node.provider.removesuffix("ExecutionProvider")
        groups[Place(part, scheme, node.operator, runs_on, state, 0, reason=reason)].append((node, matrix))
    places = [
        replace(
            place,
            nodes=len(group),
            weight_bytes=sum(matrix.size_bytes for _, matrix in group if matrix is not None),
            copied_bytes=sum(node.output_bytes for node, _ in group if node.operator in _COPIES),
            time_share=sum(node.seconds for node, _ in group) / total if provider.on_processor and total else None,
        )
        for place, group in groups.items()
    ]
    return sorted(places, key=lambda place: order.index((place.part, place.format)) if place.part else len(order))


def _path(matrix: str) -> str:
    """Where the exporter puts a matrix's node: ``model.layers.3.attn.o_proj`` -> ``/model/layers.3/attn/o_proj``."""
    return "/" + re.sub(r"\.(?!\d)", "/", matrix)


def _state(node: Node, provider: Provider, matrix: Matrix | None) -> tuple[str, str]:
    """A node's state, and why it is slow."""
    if node.operator in _COPIES:
        return COPY, ""
    if node.provider != provider.name:
        if all(kind in _INTEGERS for kind in node.output_types):
            return HOST, ""
        return SLOW, WHY_ON_HOST.format(title=provider.title)
    if node.name.startswith(_INSERTED) and node.constant_bytes:
        return SLOW, WHY_CAST
    if provider.on_processor and node.operator == "MatMulNBits" and ("uint8", _CODES_RANK) in node.input_types:
        return SLOW, WHY_UNPACKED.format(format="this format" if matrix is None else matrix.scheme)
    return FAST, ""
