"""The files that a build reads a model from, under names of their own, and what tells one source from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checkpoint.base import Checkpoint
from ..checkpoint.lora import CONFIG_FILE, LoraAdapter
from ..json_text import json_text
from ..weights.merged import MergedCheckpoint


def source_files(checkpoint: Checkpoint) -> dict[str, Path]:
    """The files that decide every weight, by the names of the manifest's ``source``.

    Files of the checkpoint keep their names. Those of adapters, which all have the same names, are numbered in the
    order of ``source.adapters``: ``adapters/0/adapter_model.safetensors``.
    """
    files = {path.name: path for path in checkpoint.files}
    for i, adapter in enumerate(_adapters(checkpoint)):
        for path in (adapter.folder / CONFIG_FILE, adapter.path):
            files[f"adapters/{i}/{path.name}"] = path
    return files


def source_key(checkpoint: Checkpoint) -> dict[str, Any]:
    """Tells one source of weights from another, without reading the weights; JSON values.

    Besides the files, it holds what says how their numbers are meant: an adapter's whole configuration (alpha, rank,
    patterns), in the order of merging, and the description of quantized weights. Both are kept as text, because the
    order of their patterns counts: the first one that matches applies.
    """
    stats = {name: path.stat() for name, path in source_files(checkpoint).items()}
    return {
        "files": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
        "quantization": json_text(dict(checkpoint.quantization)),
        "adapters": [json_text(adapter.config) for adapter in _adapters(checkpoint)],
    }


def _adapters(checkpoint: Checkpoint) -> tuple[LoraAdapter, ...]:
    return checkpoint.adapters if isinstance(checkpoint, MergedCheckpoint) else ()
