"""Finds the weight files of a Hugging Face folder: one file, files listed by an index, or a complete numbered set.

The index (``model.safetensors.index.json``, https://huggingface.co/docs/transformers/big_models) maps each tensor's
name to its file. Every listed file must exist and contain exactly the tensors that the index places in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, CorruptFileError
from ..json_file import MAX_JSON_BYTES, read_json_object
from ..schema.fields import shown

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_NUMBERED = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors", re.DOTALL)
_LONGEST_NAME = 255  # bytes, in every file system in use
_NO_MODEL = ("adapter_", "optimizer", "scheduler", "random_states", "rng_state")  # what training leaves beside a model


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a folder.

    Attributes:
        names: The files.
        index: The index that lists them, or None.
        unused: Other files of weights in the folder: safetensors and GGUF. With an index, only it tells which of the
            safetensors files these are, so all are here.
    """

    names: tuple[str, ...]
    index: str | None = None
    unused: tuple[str, ...] = ()


def find_weight_files(names: Iterable[str]) -> WeightFiles | None:
    """Choose a folder's weight files by its file names, as transformers does.

    AutoGPTQ names its file after the quantization (``gptq_model-4bit-128g.safetensors``), so a single weight file may
    have any name. A numbered set needs no index if it is complete.

    Args:
        names: The names of the folder's files.

    Returns:
        The files; ``names`` is empty if an index lists them. None if there are no weights.
    """
    found = sorted(names)
    weights = [name for name in found if name.endswith(".safetensors")]
    models = [name for name in weights if not name.startswith(_NO_MODEL)]
    indexes = [name for name in found if name.endswith(".safetensors.index.json")]
    holders = (*weights, *(name for name in found if name.endswith(".gguf")))
    if SINGLE_FILE in weights:
        return WeightFiles((SINGLE_FILE,), unused=tuple(name for name in holders if name != SINGLE_FILE))
    if INDEX_FILE in indexes or len(indexes) == 1:
        return WeightFiles((), INDEX_FILE if INDEX_FILE in indexes else indexes[0], holders)
    chosen = models if len(models) == 1 else next(iter(complete_sets(models)), [])
    return WeightFiles(tuple(chosen), unused=tuple(n for n in holders if n not in chosen)) if chosen else None


def complete_sets(names: Iterable[str]) -> list[list[str]]:
    """The numbered sets, such as ``model-00001-of-00002.safetensors``, of which every file is there."""
    sets: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        if match := _NUMBERED.fullmatch(name):
            sets.setdefault((match["name"], match["count"]), []).append(name)
    return [
        files
        for (name, count), files in sets.items()
        if files == [f"{name}-{i:05}-of-{count}.safetensors" for i in range(1, int(count) + 1)]
    ]


def read_index(path: Path) -> dict[str, set[str]]:
    """Read an index and check that its files exist.

    Args:
        path: The index; its files are beside it.

    Returns:
        File name -> names of the tensors in that file, sorted by file name.

    Raises:
        CorruptFileError: It is not a valid index.
        CheckpointError: Files are missing, or the index does not belong to the files in its folder.
    """
    files = listed_files(path)
    if missing := sorted(name for name in files if not (path.parent / name).is_file()):
        raise _missing(path, sorted(files), missing)
    return files


def listed_files(path: Path) -> dict[str, set[str]]:
    """Read an index whose files may be elsewhere.

    Returns:
        File name -> names of the tensors in that file, sorted by file name.

    Raises:
        CorruptFileError: It is not a valid index.
    """
    weight_map = read_json_object(path, MAX_JSON_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFileError(f"{path} has no weight_map, or it is empty")
    files: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        # Only a plain file name is allowed: an index must not point outside its folder.
        plain = (
            isinstance(name, str)
            and Path(name).name == name
            and "\0" not in name
            and len(name.encode()) <= _LONGEST_NAME
        )
        if not plain or not name.endswith(".safetensors"):
            raise CorruptFileError(
                f"{path} places tensor {tensor!r} in {shown(name)}, which is not the name of a safetensors file"
            )
        files.setdefault(name, set()).add(tensor)
    return dict(sorted(files.items()))


def check_shard(path: Path, found: Iterable[str], index: Path, wanted: set[str]) -> None:
    """Compare the tensors of one file with what the index places in it.

    Raises:
        CorruptFileError: They differ.
    """
    there = set(found)
    hint = "the index and the files are of different revisions: fetch all of them again"
    if missing := sorted(wanted - there):
        raise CorruptFileError(
            f"{index} places {len(missing)} tensors in {path.name} that are not there; first: {missing[0]!r}", hint
        )
    if surplus := sorted(there - wanted):
        raise CorruptFileError(
            f"{path} contains {len(surplus)} tensors that {index.name} does not place there; first: {surplus[0]!r}",
            hint,
        )


def _missing(index: Path, listed: list[str], missing: list[str]) -> CheckpointError:
    """The error for an index whose files are missing: it is of another save, or the download is incomplete."""
    beside = sorted(p.name for p in index.parent.iterdir())
    others = [files for files in complete_sets(beside) if not set(files) & set(listed)]
    if others:
        return CheckpointError(
            f"{index} does not belong to the weights beside it: it lists {len(listed)} files ({_shortened(listed)}), "
            f"of which {len(missing)} are missing, but the folder holds the complete set {_shortened(others[0])}",
            hint=f"fetch {index.name} of these weights, or remove it: a complete numbered set is read without an index",
        )
    partial = [name for name in beside if name.startswith(tuple(missing))]
    more = f"; found {_shortened(partial)}" if partial else ""
    if len(missing) == 1:
        message = f"{index.parent / missing[0]} is missing, but {index.name} lists it{more}"
    else:
        message = f"{len(missing)} of {len(listed)} files that {index} lists are missing: {_shortened(missing)}{more}"
    unlisted = [name for name in beside if name.endswith(".safetensors") and name not in listed]
    if unlisted and len(missing) == len(listed):
        message += (
            f". The folder holds {_shortened(unlisted)}, which the index does not list: it is of another revision"
        )
    return CheckpointError(message, hint="the download is incomplete; fetch what is missing")


def _shortened(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f", ... {names[-1]}" if len(names) > limit else "")
