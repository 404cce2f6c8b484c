"""Rows of the model's tensors, whatever container they come from: names matched, shapes checked, q/k put in order.

Every tensor of the checkpoint is claimed by the model or named in an error, and every one the model needs is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.base import Checkpoint
from ..errors import NonFiniteWeightError, TensorMismatchError
from ..models.spec import ModelSpec, TensorRef

_NAMED = 5  # tensors an error lists before it only counts


class WeightSource:
    """A checkpoint seen through a model's tensors.

    Args:
        checkpoint: Open for reading.
        spec: The model its config describes.

    Raises:
        TensorMismatchError: Tensors are missing, surplus, or have another shape than config.json implies.
    """

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec) -> None:
        self._checkpoint = checkpoint
        self._gguf = checkpoint.format == "gguf"
        self._check_names(spec)
        for ref in spec.tensors():
            found = tuple(checkpoint.tensors[self._name(ref)].shape)
            if found != ref.shape:
                raise TensorMismatchError(
                    f"{self._name(ref)} has shape {list(found)}; config.json implies {list(ref.shape)}",
                    hint="config.json and the weights are of different models",
                )

    def _name(self, ref: TensorRef) -> str:
        return ref.gguf if self._gguf else ref.name

    def _check_names(self, spec: ModelSpec) -> None:
        needed = {self._name(ref) for ref in spec.tensors()}
        present = set(self._checkpoint.tensors)
        where = self._checkpoint.files[0].parent if len(self._checkpoint.files) > 1 else self._checkpoint.files[0]
        missing = sorted(needed - present)
        if missing:
            raise TensorMismatchError(f"{where} lacks {_some(missing)} that a {spec.model_type} model needs")
        surplus = sorted(name for name in present - needed if not _harmless(name, spec))
        if surplus:
            raise TensorMismatchError(
                f"{where} holds {_some(surplus)} that a {spec.model_type} model has no place for",
                hint="edgekit takes over every weight or none: a tensor left out would change the model silently",
            )

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """Rows start..stop of a 2-D tensor (or elements of a 1-D one), in the Hugging Face order.

        Args:
            ref: One of the spec's tensors.
            start, stop: Half-open range of rows.

        Returns:
            (stop - start, in) or (stop - start,) in the stored float type; GGUF tensors come as float32.
        """
        name = self._name(ref)
        if not (self._gguf and ref.interleaved_heads):
            return self._checkpoint.rows(name, start, stop)
        # GGUF row (head, pair, half) is Hugging Face row (head, half, pair): read whole heads and reorder.
        head_dim = ref.shape[0] // ref.interleaved_heads
        first, last = start // head_dim, -(-stop // head_dim)
        stored: NDArray[Any] = self._checkpoint.rows(name, first * head_dim, last * head_dim)
        heads = stored.reshape(last - first, head_dim // 2, 2, *stored.shape[1:])
        ordered = heads.swapaxes(1, 2).reshape(stored.shape)
        return ordered[start - first * head_dim : stop - first * head_dim]

    def stored_bytes(self, ref: TensorRef) -> int:
        """Bytes the tensor takes in the checkpoint's file."""
        return self._checkpoint.tensors[self._name(ref)].size_bytes


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({shown}{', ...' if len(names) > _NAMED else ''})"


def _harmless(name: str, spec: ModelSpec) -> bool:
    """Rotary frequencies that old checkpoints store though the config implies them, and a tied head's second copy."""
    return name.endswith(".rotary_emb.inv_freq") or (
        spec.tied_embeddings and name in ("lm_head.weight", "output.weight")
    )


def unusable_weight(ref: TensorRef, value: float, dtype: np.dtype[Any], *index: int) -> NonFiniteWeightError:
    """The error of a weight that no artifact can hold."""
    if np.isfinite(value):
        return NonFiniteWeightError(
            f"{ref.name} holds {value:g} at {list(index)}: too large for {dtype} weights",
            hint="build for a device whose activation type is float32" if dtype == np.float16 else "",
        )
    return NonFiniteWeightError(
        f"{ref.name} holds {value:g} at {list(index)}: no weight may be NaN or infinite",
        hint="the checkpoint is damaged: fetch it again",
    )
