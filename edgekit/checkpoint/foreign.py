"""Tells folders and files of other software by their names: what they are, and what to give instead.

A new kind is an entry in :data:`FOLDERS` or :data:`FILES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import CheckpointError
from .damaged import is_unfinished
from .gguf_parts import cut_hint
from .ollama import blob_of_manifest

_SOURCE = "give the Hugging Face folder or the GGUF file that it was made from"
_PICKLE = (
    "loading them runs code, so edgekit does not read them. Save them as safetensors: "
    "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
)


@dataclass(frozen=True)
class Kind:
    """A kind of folder or file that is not a checkpoint.

    Args:
        what: What it is; completes "is" or "holds".
        marks: Patterns of file names; one of them in a folder, or the file's own name, is enough.
        hint: The next step.
    """

    what: str
    marks: tuple[str, ...]
    hint: str = _SOURCE


_ONNX = Kind("an ONNX model", ("*.onnx", "*.onnx_data", "*.ort", "genai_config.json"))
_OPENVINO = Kind("an OpenVINO model", ("openvino_model.*", "openvino_language_model.*", "openvino_detokenizer.*"))
_TENSORRT = Kind("a TensorRT engine", ("*.engine", "*.plan", "rank[0-9]*.safetensors"))
_PICKLES = Kind("PyTorch's pickled weights", ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl"), _PICKLE)
_OLD_GGML = Kind(
    "a model in the format before GGUF", ("*.ggml", "*ggml-model*.bin", "*.ggmlv[0-9]*"), "use a GGUF file"
)
_OTHERS = (
    _ONNX,
    _OPENVINO,
    _TENSORRT,
    Kind("a Core ML model", ("*.mlpackage", "*.mlmodelc", "*.mlmodel")),
    Kind("an ExecuTorch program", ("*.pte",)),
    Kind("a LiteRT model", ("*.tflite", "*.litertlm", "*.task")),
    Kind("MLX weights in numpy's format", ("weights*.npz", "*.npz")),
    Kind("weights for Flax", ("flax_model*.msgpack", "*.msgpack")),
    Kind("weights for TensorFlow", ("tf_model*.h5", "*.h5", "saved_model.pb", "*.keras")),
    Kind("a NeMo model", ("*.nemo", "model_config.yaml")),
    Kind("an llamafile", ("*.llamafile",), "extract the GGUF file: unzip FILE '*.gguf'"),
    Kind("an archive", ("*.zip", "*.tar", "*.tar.gz", "*.tgz", "*.7z", "*.tar.zst", "*.zst"), "unpack it first"),
    _OLD_GGML,
)
# These marks decide, whatever weights lie beside them.
FIRST = (
    Kind("an edgekit artifact, not a checkpoint", ("edgekit.json",), "edgekit run FOLDER talks to it"),
    Kind(
        "a pipeline for images (diffusers), not a language model",
        ("model_index.json",),
        "edgekit supports models that write text",
    ),
)
FOLDERS = (
    Kind(
        "an adapter, not a model",
        ("adapter_config.json", "adapter_model.*"),
        "give the model that it was trained on, and this folder with --lora FOLDER",
    ),
    Kind("a model for CTranslate2", ("shared_vocabulary.*", "vocabulary.json", "vocabulary.txt")),
    Kind("a model compiled by MLC", ("mlc-chat-config.json", "ndarray-cache.json", "tensor-cache.json")),
    *_OTHERS,
    Kind(
        "the checkpoint of a training run, in parts of each process",
        ("global_step*", "zero_to_fp32.py", "*.distcp", "zero_pp_rank*"),
        "join it first: python zero_to_fp32.py . model --safe_serialization (DeepSpeed), or accelerate merge-weights",
    ),
    Kind("Meta's own format", ("consolidated.*.pth", "params.json"), "use the repository's Hugging Face format (-hf)"),
    Kind(
        "Ollama's models",
        ("manifests", "sha256-*", "Modelfile"),
        "ollama show --modelfile NAME prints the path of the model's GGUF file after FROM: give that path",
    ),
    _PICKLES,
)
FILES = (
    Kind(
        "an adapter, not a model",
        ("adapter_model.*", "adapter_config.json"),
        "give the model that it was trained on, and this folder with --lora FOLDER",
    ),
    Kind(
        "Ollama's description of a model",
        ("Modelfile", "*.modelfile"),
        "give the path that stands after FROM; ollama show --modelfile NAME prints it",
    ),
    *_OTHERS,
    Kind("an OpenVINO model", ("*.xml",)),
    _PICKLES,
    Kind("a recipe, not a checkpoint", ("*.toml",), "give it as MODEL"),
)


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """Check for the marks that decide whatever weights a folder holds.

    Raises:
        CheckpointError: The folder is an edgekit artifact or a pipeline for images.
    """
    if kind := _match(FIRST, names):
        raise CheckpointError(f"{folder} is {kind.what}", hint=kind.hint.replace("FOLDER", str(folder)))


def foreign_folder(folder: Path, names: list[str], accepted: str) -> CheckpointError:
    """The error for a folder without weights that edgekit reads.

    Args:
        folder: The folder.
        names: The names of its files, sorted.
        accepted: What edgekit accepts, for the hint.
    """
    found = _shortened(names) or "nothing"
    if partial := [name for name in names if is_unfinished(name)]:
        return CheckpointError(
            f"{folder} holds a download that is not finished: {_shortened(partial)}",
            hint="finish the download, or fetch the model again",
        )
    if hint := next(filter(None, map(cut_hint, names)), ""):
        return CheckpointError(f"{folder} holds a GGUF file in pieces: {found}", hint=hint)
    inside = [str(path) for path in _models_inside(folder)]
    if "snapshots" in names and inside:  # a model's folder in the Hugging Face cache
        return CheckpointError(f"{folder} holds snapshots of a model", hint=f"give one: {_shortened(inside, 3)}")
    if kind := _match(FOLDERS, names):
        return CheckpointError(f"{folder} holds {kind.what}; found: {found}", hint=kind.hint)
    hint = f"give the folder of one model: {_shortened(inside, 3)}" if inside else accepted
    return CheckpointError(f"{folder} holds no weights that edgekit can open; found: {found}", hint=hint)


def foreign_file(path: Path, start: bytes, accepted: str) -> CheckpointError:
    """The error for a file that is not a GGUF file.

    Args:
        path: The file.
        start: Its first bytes.
        accepted: What edgekit accepts, for the hint.
    """
    if hint := cut_hint(path.name):
        return CheckpointError(f"{path} is not a whole GGUF file", hint=hint)
    if start[:4] in (b"lmgg", b"fmgg", b"tjgg", b"algg"):
        return CheckpointError(f"{path} is {_OLD_GGML.what}", hint=_OLD_GGML.hint)
    if manifest := blob_of_manifest(path, start):
        return CheckpointError(f"{path} is Ollama's manifest of a model, not its weights", hint=manifest)
    if kind := _match(FILES, [path.name]):
        return CheckpointError(f"{path} is {kind.what}", hint=kind.hint)
    if path.name.endswith(".safetensors"):
        return CheckpointError(
            f"{path} is a weight file without its config.json", hint=f"give the folder that holds both: {path.parent}"
        )
    if path.name.endswith(".json"):
        return CheckpointError(f"{path} is not a checkpoint", hint=f"give its folder: {path.parent}")
    if start[:4] == b"PK\x03\x04" or start[:2] in (b"\x80\x02", b"\x80\x04"):
        return CheckpointError(f"{path} is {_PICKLES.what}, or an archive", hint=_PICKLE)
    if start.lstrip().upper().startswith(b"FROM "):
        return CheckpointError(f"{path} is {FILES[1].what}", hint=FILES[1].hint)
    return CheckpointError(f"{path} is not a GGUF file: it does not begin with GGUF", hint=accepted)


def _match(kinds: Iterable[Kind], names: Iterable[str]) -> Kind | None:
    listed = [name.lower() for name in names]
    for kind in kinds:
        if any(fnmatchcase(name, mark.lower()) for mark in kind.marks for name in listed):
            return kind
    return None


def _models_inside(folder: Path) -> list[Path]:
    """Folders inside that hold weights: a hub cache's snapshots, a training run's checkpoints, other subfolders."""
    inside = sorted(p for p in (*folder.glob("snapshots/*"), *folder.glob("*")) if p.is_dir())
    return [p for p in inside[:200] if any(p.glob("*.safetensors")) or any(p.glob("*.gguf"))]


def _shortened(names: list[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
