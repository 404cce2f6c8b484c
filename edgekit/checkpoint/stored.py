"""Opens a Hugging Face folder with the reader for the format that its tensors are stored in.

A new format of quantized weights is a reader in a file of its own, an entry in :data:`READERS`, and its marks in
``marks.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UnsupportedModelError
from .awq import AwqCheckpoint
from .base import Checkpoint
from .fp8 import Fp8Checkpoint
from .gptq import GptqCheckpoint
from .gptq_config import COPY_KEY
from .gptq_config import FILE_NAME as GPTQ_FILE
from .huggingface import HuggingFaceCheckpoint
from .marks import StoredFormat, mark_of, stored_format

READERS: dict[str, Callable[[Path], Checkpoint]] = {"AWQ": AwqCheckpoint, "GPTQ": GptqCheckpoint, "fp8": Fp8Checkpoint}


def open_huggingface(folder: Path) -> Checkpoint:
    """Open a folder with ``config.json`` and safetensors. The tensors decide how it is read, whatever config.json says.

    Args:
        folder: Holds ``config.json`` and the weights.

    Raises:
        UnsupportedModelError: The weights are quantized in a format that edgekit does not read.
        CheckpointError: As for the readers.
    """
    opened = HuggingFaceCheckpoint(folder)
    try:
        found = stored_format(opened.tensors, opened.config)
        leftover = "" if found else _leftover(folder, opened.config)
        if found is not None and found.name not in READERS:
            raise _unsupported(opened, folder, found)
    except BaseException:
        opened.close()
        raise
    if found is None and not leftover:
        return opened
    opened.close()
    return HuggingFaceCheckpoint(folder, notes=(leftover,)) if found is None else READERS[found.name](folder)


def _leftover(folder: Path, config: Mapping[str, Any]) -> str:
    """What describes float weights as quantized, as a note; empty if nothing does."""
    described = config.get(COPY_KEY)
    if described:
        where, method = f"config.json has a {COPY_KEY}", _method(described)
    elif (folder / GPTQ_FILE).is_file():
        where, method = f"the folder has a {GPTQ_FILE}", "gptq"
    else:
        return ""
    return (
        f"{where} ({method or 'the method is not named'}), but the weights are float: they are read as they are stored"
    )


def _method(described: object) -> str:
    method = described.get("quant_method") if isinstance(described, Mapping) else None
    return method if isinstance(method, str) else ""


def _unsupported(opened: Checkpoint, folder: Path, found: StoredFormat) -> UnsupportedModelError:
    mark = mark_of(found, opened.tensors.values())
    names = [found.name] if mark is None else [found.name, f"told by the tensor {mark.name}, type {mark.dtype}"]
    if method := _method(opened.config.get(COPY_KEY)):
        names.append(f"quant_method {method}")
    return UnsupportedModelError(
        f"the weights in {folder} are already quantized ({'; '.join(names)}); supported: float32, float16 or bfloat16 "
        f"weights, {', '.join(sorted(READERS))}, or a GGUF file",
        hint=found.hint,
    )
