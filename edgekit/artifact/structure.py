"""Checks that the parts of an artifact agree: graph, weight file, tokenizer, ``config.json`` and manifest.

Hashes tell whether files have changed since they were written. This tells whether what was written makes sense: every
tensor lies inside its file, aligned, and overlaps no other; the graph has the shapes that its metadata, the manifest
and ``config.json`` state; no token has an id that the model has no row for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import EdgekitError
from ..json_file import MAX_JSON_BYTES, parse_json_object, read_bounded, read_json_object
from .manifest import Manifest
from .onnx_file import OnnxFile, StoredTensor, read_onnx

_MAX_GRAPH_BYTES = 256 * 1024 * 1024  # edgekit's largest has 1 MB
_ALIGNMENT = 64  # of every tensor that edgekit writes (layout.py)
_SHOWN = 5  # problems of a kind
# Bytes of an element, by TensorProto.DataType. Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
# Keys of config.json, and the metadata that must say the same.
_CONFIG = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
}


def contradictions(folder: Path, manifest: Manifest) -> list[str]:
    """List what does not fit together in an artifact whose files are those of its manifest, one phrase each.

    Args:
        folder: The artifact.
        manifest: Its manifest.
    """
    problems: list[str] = []
    for name in sorted(manifest.files):
        if name.endswith(".onnx"):
            try:
                model = read_onnx(read_bounded(folder / name, _MAX_GRAPH_BYTES))
            except (ValueError, EdgekitError) as error:
                problems.append(f"{name} is not a model in ONNX format: {error}")
                continue
            found = [*_misplaced(folder, name, model, manifest), *_shapes(folder, model, manifest)]
            problems += [f"{name}: {problem}" for problem in found[:_SHOWN]]
    return problems + _tokens(folder, manifest)


def _misplaced(folder: Path, name: str, model: OnnxFile, manifest: Manifest) -> Iterator[str]:
    """Tensors that do not lie properly in their files."""
    alignment = _ALIGNMENT if model.producer == "edgekit" else 1
    by_file: dict[str, list[tuple[int, int, StoredTensor]]] = {}
    for tensor in model.stored:
        path = (PurePosixPath(name).parent / tensor.location).as_posix()
        if path not in manifest.files:
            yield f"the tensor {tensor.name} is in {tensor.location!r}, which is not a file of the artifact"
            continue
        size, item = (folder / path).stat().st_size, _ITEM_BYTES.get(tensor.data_type)
        if item is None:
            yield f"the tensor {tensor.name} has the unknown type {tensor.data_type}"
            continue
        needed = math.prod(tensor.dims) * item
        length = size - tensor.offset if tensor.length is None else tensor.length
        if tensor.offset + length > size:
            yield f"the tensor {tensor.name} ends at byte {tensor.offset + length} of {path}, which has {size}"
        if length != needed:
            yield f"the tensor {tensor.name} has {length} bytes; its shape {list(tensor.dims)} needs {needed}"
        if tensor.offset % alignment:
            yield f"the tensor {tensor.name} begins at byte {tensor.offset}, which is not a multiple of {alignment}"
        by_file.setdefault(path, []).append((tensor.offset, tensor.offset + length, tensor))
    for placed in by_file.values():
        placed.sort(key=lambda each: each[:2])
        for (start, end, first), (next_start, next_end, second) in pairwise(placed):
            same = (start, end) == (next_start, next_end)  # as a tied lm_head and the embedding
            if next_start < end and not same:
                yield f"the tensors {first.name} and {second.name} overlap"


def _shapes(folder: Path, model: OnnxFile, manifest: Manifest) -> Iterator[str]:
    """Where the graph differs from its metadata, the manifest or ``config.json``."""
    caches = {name: shape for name, shape in model.shapes.items() if name.startswith("past_key_values.")}
    logits = model.shapes.get("logits", ())
    actual: dict[str, Any] = {"num_layers": len(caches) // 2, "vocab_size": logits[-1] if logits else None}
    for shape in caches.values():
        actual |= {"num_kv_heads": shape[1], "head_dim": shape[3]} if len(shape) == 4 else {}
    metadata = {
        key.removeprefix("edgekit."): value for key, value in model.metadata.items() if key.startswith("edgekit.")
    }
    for key, value in actual.items():
        stated = metadata.get(key)
        if value is not None and stated not in (None, str(value)):
            yield f"its metadata has {key} {stated}, the graph {value}"
    wanted = {"activation_type": manifest.activation_type} | {
        key: manifest.model.get(key) for key in ("model_type", "vocab_size", "num_layers", "context_length")
    }
    for key, value in wanted.items():
        stated = metadata.get(key, actual.get(key))
        if stated is not None and str(value) != str(stated):
            yield f"it has {key} {stated}, the manifest {value}"
    if "config.json" in manifest.files and metadata:
        try:
            config = read_json_object(folder / "config.json")
        except EdgekitError as error:
            yield error.message
            return
        for key, name in _CONFIG.items():
            if key in config and name in metadata and str(config[key]) != metadata[name]:
                yield f"it has {name} {metadata[name]}, config.json {config[key]}"


def _tokens(folder: Path, manifest: Manifest) -> list[str]:
    """Tokens that the model has no row for, and special tokens that the tokenizer does not have."""
    name = "tokenizer.json"
    if name not in manifest.files:
        return []
    try:
        content = parse_json_object(read_bounded(folder / name, MAX_JSON_BYTES), name)
        ids = _ids(content)
    except EdgekitError as error:
        return [error.message]
    except (AttributeError, TypeError, KeyError):
        return [f"{name} is not a tokenizer"]
    rows: int = manifest.model["vocab_size"]
    problems = []
    if ids and not 0 <= min(ids) <= max(ids) < rows:
        outside = max(ids) if max(ids) >= rows else min(ids)
        problems.append(f"{name} has a token with the id {outside}; the model has rows 0 to {rows - 1}")
    tokens = manifest.tokens
    special = [
        ("bos", tokens.get("bos")),
        *(("eos", each) for each in tokens.get("eos") or ()),
        ("pad", tokens.get("pad")),
    ]
    problems += [
        f"the {role} token of the manifest has the id {each}; the model has rows 0 to {rows - 1}"
        for role, each in special
        if each is not None and not 0 <= each < rows
    ]
    return problems


def _ids(content: dict[str, Any]) -> list[int]:
    """The ids of all tokens of a ``tokenizer.json``."""
    model = content["model"]
    vocabulary = model.get("vocab") or {}
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    ids += [token["id"] for token in content.get("added_tokens") or ()]
    if not all(type(each) is int for each in ids):
        raise TypeError
    return ids
