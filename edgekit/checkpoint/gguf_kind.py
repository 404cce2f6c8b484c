"""Tells GGUF files that hold no language model by their marks: adapters, projectors for images, importance matrices."""

from __future__ import annotations

from ..errors import CheckpointError, UnsupportedModelError
from .gguf_header import GgufHeader

# general.type, or an architecture that is no model -> what the file is, and what to do.
_ADAPTER = (
    "a LoRA adapter, not a model",
    "give the model that it was made for; to merge an adapter, give its PEFT folder with --lora FOLDER",
)
_PROJECTOR = (
    "the part of a model that reads images or sound (mmproj), not a language model",
    "give the language model's own GGUF file",
)
_IMATRIX = ("an importance matrix for quantizing (imatrix), not a model", "give the model's own GGUF file")
_VECTOR = ("a control vector, not a model", "give the model's own GGUF file")
_VOCABULARY = ("a vocabulary without weights, not a model", "give a GGUF file that holds the weights")
_KINDS = {
    "adapter": _ADAPTER,
    "mmproj": _PROJECTOR,
    "imatrix": _IMATRIX,
    "controlvector": _VECTOR,
    "vocab": _VOCABULARY,
}
_ARCHITECTURES = {"clip": _PROJECTOR, "controlvector": _VECTOR, "imatrix": _IMATRIX}
_TENSORS = {".lora_a": _ADAPTER, ".in_sum2": _IMATRIX}
_METADATA = {"adapter.type": _ADAPTER, "clip.has_vision_encoder": _PROJECTOR, "imatrix.chunk_count": _IMATRIX}


def check_holds_a_model(header: GgufHeader) -> None:
    """Check that a GGUF file holds a language model.

    Args:
        header: Of the whole model, if it is split.

    Raises:
        UnsupportedModelError: It holds an adapter, an importance matrix, a projector for images, or something else.
        CheckpointError: It does not name its architecture.
    """
    kind, architecture = header.metadata.get("general.type"), header.metadata.get("general.architecture")
    found = _KINDS.get(kind) if isinstance(kind, str) else None
    found = found or next((what for key, what in _METADATA.items() if key in header.metadata), None)
    found = found or (_ARCHITECTURES.get(architecture) if isinstance(architecture, str) else None)
    for mark, what in _TENSORS.items():
        if any(name.endswith(mark) for name in header.tensors):
            found = found or what
    if found is None and not header.tensors:
        found = _VOCABULARY
    if found is not None:
        base = header.metadata.get("general.base_model.0.name")
        made_for = f"; its base model is {base}" if isinstance(base, str) and base else ""
        raise UnsupportedModelError(f"{header.path} holds {found[0]}{made_for}", hint=found[1])
    if not isinstance(architecture, str) or not architecture:
        raise CheckpointError(f"{header.path} lacks the metadata key general.architecture, so it is not a model")
