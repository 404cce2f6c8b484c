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
from .base import Checkpoint, TensorInfo
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
        leftover = "" if found else leftover_note(folder, opened.config)
        check_supported(found, opened.tensors, opened.config, str(folder))
    except BaseException:
        opened.close()
        raise
    if found is None and not leftover:
        return opened
    opened.close()
    return HuggingFaceCheckpoint(folder, notes=(leftover,)) if found is None else READERS[found.name](folder)


def leftover_note(folder: Path, config: Mapping[str, Any]) -> str:
    """What describes float weights as quantized, as a note; empty if nothing does.

    Args:
        folder: Holds the small files of the checkpoint.
        config: The content of its ``config.json``.
    """
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


def check_supported(
    found: StoredFormat | None, tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], where: str
) -> None:
    """Check that edgekit reads the format of a checkpoint's weights.

    Args:
        found: From :func:`~edgekit.checkpoint.marks.stored_format`.
        tensors: The checkpoint's tensors.
        config: The content of its ``config.json``.
        where: Its folder or repository, for the message.

    Raises:
        UnsupportedModelError: edgekit does not read it.
    """
    if found is None or found.name in READERS:
        return
    mark = mark_of(found, tensors.values())
    names = [found.name] if mark is None else [found.name, f"told by the tensor {mark.name}, type {mark.dtype}"]
    if mark is not None and not mark.dtype:  # only the name is known so far
        names[-1] = f"told by the tensor {mark.name}"
    if method := _method(config.get(COPY_KEY)):
        names.append(f"quant_method {method}")
    raise UnsupportedModelError(
        f"the weights in {where} are already quantized ({'; '.join(names)}); supported: float32, float16 or bfloat16 "
        f"weights, {', '.join(sorted(READERS))}, or a GGUF file",
        hint=found.hint,
    )
