"""Opens checkpoints and reads them in pieces: Hugging Face folders (float, fp8, GPTQ or AWQ) and GGUF files."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError, TruncatedFileError
from ..units import format_bytes
from .base import Checkpoint, QuantizedFormat, QuantizedRows, SpecialTokens, TensorInfo, TokenizerFiles
from .damaged import check_file, check_files
from .files import WeightFile
from .foreign import check_folder, foreign_file, foreign_folder
from .fp8 import Fp8Checkpoint
from .gguf import GgufCheckpoint
from .gguf_header import MAGIC as GGUF_MAGIC
from .gguf_parts import cut_hint, gguf_models
from .gptq import GptqCheckpoint
from .shards import INDEX_FILE, SINGLE_FILE, find_weight_files
from .stored import open_huggingface

__all__ = [
    "Checkpoint",
    "Fp8Checkpoint",
    "GptqCheckpoint",
    "QuantizedFormat",
    "QuantizedRows",
    "SpecialTokens",
    "TensorInfo",
    "TokenizerFiles",
    "open_checkpoint",
]

_ACCEPTED = (
    f"accepted: a folder with config.json and {SINGLE_FILE} or {INDEX_FILE} (float, fp8, GPTQ or AWQ), a GGUF file, "
    "or a folder with one model in GGUF format"
)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint. Only headers are read.

    Args:
        path: A Hugging Face folder, a GGUF file (recognized by its first bytes, whatever its name), or a folder that
            holds the ``.gguf`` file, or the parts, of one model.

    Returns:
        The open checkpoint, a context manager.

    Raises:
        CheckpointError: The path holds nothing that can be opened; the message says what was found and what is
            accepted.
        CorruptFileError: A header contradicts itself or the file.
        TruncatedFileError: A file ends before its tensors do; the message names the first tensor that is cut off.
        UnsupportedModelError: The weights are quantized in a format that edgekit does not read, or the model has
            options that edgekit does not support.
    """
    path = Path(path)
    check_file(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist", hint=_ACCEPTED)
    start = _first_bytes(path)
    if not start.startswith(GGUF_MAGIC):
        raise foreign_file(path, start, _ACCEPTED)
    try:
        return GgufCheckpoint(path)
    except TruncatedFileError as error:
        raise TruncatedFileError(error.message, cut_hint(path.name) or error.hint) from None


def _first_bytes(path: Path) -> bytes:
    file = WeightFile(path)
    try:
        return bytes(file.read(0, min(file.size, 16), "the magic number"))
    finally:
        file.close()


def _open_folder(folder: Path) -> Checkpoint:
    names = sorted(p.name for p in folder.iterdir())
    check_folder(folder, names)
    check_files(folder, names)
    if find_weight_files(names) is not None:
        if "config.json" not in names:
            raise CheckpointError(f"{folder} has weights but no config.json", hint=_ACCEPTED)
        return open_huggingface(folder)
    if gguf := gguf_models(names):
        chosen = _only_model(folder, gguf)
        others = [f"{name} is not used: the artifact is for text" for name in gguf if name != chosen]
        return GgufCheckpoint(folder / chosen, tuple(others))
    raise foreign_folder(folder, names, _ACCEPTED)


def _only_model(folder: Path, models: dict[str, list[str]]) -> str:
    """The first file of the only model among GGUF files; files for images (mmproj) and importance matrices are none."""
    chosen = [name for name in models if len(models) == 1 or not name.lower().startswith(("mmproj", "imatrix"))]
    if len(chosen) == 1:
        return chosen[0]
    sizes = {first: sum((folder / name).stat().st_size for name in files) for first, files in models.items()}
    lines = [
        f"{name} ({format_bytes(sizes[name])}{f' in {len(models[name])} parts' if len(models[name]) > 1 else ''})"
        for name in models
    ]
    raise CheckpointError(
        f"{folder} holds {len(models)} models in GGUF format: {_shortened(lines)}",
        hint=f"give the path of one of them: {folder / max(models, key=lambda name: sizes[name])}",
    )


def _shortened(names: list[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
