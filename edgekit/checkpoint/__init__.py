"""Checkpoints, opened lazily and read in pieces: Hugging Face folders, quantized by GPTQ or not, and GGUF files."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError, UnsupportedModelError
from .base import Checkpoint, QuantizedFormat, QuantizedRows, SpecialTokens, TensorInfo, TokenizerFiles
from .files import WeightFile, read_json_object
from .gguf import GgufCheckpoint, GgufHeader, read_gguf_header
from .gguf_header import MAGIC as GGUF_MAGIC
from .gptq import GptqCheckpoint
from .gptq_config import COPY_KEY, is_gptq
from .huggingface import INDEX_FILE, SINGLE_FILE, HuggingFaceCheckpoint, weight_names

__all__ = [
    "Checkpoint",
    "GgufHeader",
    "GptqCheckpoint",
    "QuantizedFormat",
    "QuantizedRows",
    "SpecialTokens",
    "TensorInfo",
    "TokenizerFiles",
    "open_checkpoint",
    "read_gguf_header",
]

_ACCEPTED = (
    f"accepted: a folder with config.json and {SINGLE_FILE} or {INDEX_FILE} (float or GPTQ), a GGUF file, "
    "or a folder with one .gguf file"
)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint; only headers are read.

    Args:
        path: A Hugging Face folder, a GGUF file (told by its first bytes, whatever its name), or a folder that holds
            exactly one ``.gguf`` file.

    Returns:
        The open checkpoint: a context manager.

    Raises:
        CheckpointError: Nothing there that can be opened; says what was found and what is accepted.
        CorruptFileError: A header contradicts itself or the file.
        TruncatedFileError: A file ends before its tensors do; names the first tensor that is cut.
        UnsupportedModelError: Weights quantized in a way edgekit does not read, or options it has no graph for.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise CheckpointError(f"there is no {path}", hint=_ACCEPTED)
    if _begins_with_magic(path):
        return GgufCheckpoint(path)
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path} is one weight file without its config.json", hint=f"give the folder that holds both: {path.parent}"
        )
    raise CheckpointError(f"{path} is no GGUF file: it does not begin with GGUF", hint=_ACCEPTED)


def _begins_with_magic(path: Path) -> bool:
    file = WeightFile(path)
    try:
        return file.size >= len(GGUF_MAGIC) and file.read(0, len(GGUF_MAGIC), "the magic number") == GGUF_MAGIC
    finally:
        file.close()


def _open_folder(folder: Path) -> Checkpoint:
    names = sorted(p.name for p in folder.iterdir())
    if any(weight_names(names)):
        if "config.json" not in names:
            raise CheckpointError(f"{folder} has weights but no config.json", hint=_ACCEPTED)
        config = read_json_object(folder / "config.json")
        if is_gptq(folder, config):
            return GptqCheckpoint(folder)
        if quantization := config.get(COPY_KEY):
            raise _quantized_otherwise(folder, quantization)
        return HuggingFaceCheckpoint(folder)
    gguf = [name for name in names if name.endswith(".gguf")]
    if len(gguf) == 1:
        return GgufCheckpoint(folder / gguf[0])
    if gguf:
        raise CheckpointError(
            f"{folder} has {len(gguf)} .gguf files: {_some(gguf)}", hint="give the path of one of them"
        )
    hint = _ACCEPTED
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        hint += ". PyTorch's pickled weights are not read (loading one runs code): save them as safetensors with "
        hint += "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
    raise CheckpointError(f"{folder} holds no weights edgekit can open; found: {_some(names) or 'nothing'}", hint=hint)


def _quantized_otherwise(folder: Path, quantization: object) -> UnsupportedModelError:
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    return UnsupportedModelError(
        f"{folder} holds weights that are quantized already ({method or 'method not named'}); "
        "supported: float32, float16, bfloat16 weights, GPTQ, or a GGUF file",
        hint="use the original checkpoint the quantized one was made from",
    )


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
