"""The float weights of a checkpoint: names matched, shapes checked, GGUF's interleaved q and k rows put in order.

Every tensor of the checkpoint is used by the model or named in an error, and so is every tensor that is missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.base import Checkpoint
from ..errors import TensorMismatchError
from ..models.spec import ModelSpec, TensorRef
from .source import WeightSource

_NAMED = 5  # an error lists this many tensors and counts the others


class CheckpointWeights(WeightSource):
    """A checkpoint as a :class:`~edgekit.weights.source.WeightSource`.

    Args:
        checkpoint: Open for reading.
        spec: The model that its config describes.

    Raises:
        TensorMismatchError: Tensors are missing, have no place in the model, or have another shape than config.json
            implies.
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

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """See :meth:`WeightSource.rows`; in the stored float type, from GGUF as float32."""
        name = self._name(ref)
        if not (self._gguf and ref.interleaved_heads):
            return self._checkpoint.rows(name, start, stop)
        # GGUF row (head, pair, half) is Hugging Face row (head, half, pair): read whole heads and reorder them.
        head_dim = ref.shape[0] // ref.interleaved_heads
        first, last = start // head_dim, -(-stop // head_dim)
        stored: NDArray[Any] = self._checkpoint.rows(name, first * head_dim, last * head_dim)
        heads = stored.reshape(last - first, head_dim // 2, 2, *stored.shape[1:])
        ordered: NDArray[Any] = heads.swapaxes(1, 2).reshape(stored.shape)
        return ordered[start - first * head_dim : stop - first * head_dim]

    def _name(self, ref: TensorRef) -> str:
        return ref.gguf if self._gguf else ref.name

    def _check_names(self, spec: ModelSpec) -> None:
        needed = {self._name(ref) for ref in spec.tensors()}
        present = set(self._checkpoint.tensors)
        where = self._checkpoint.files[0].parent if len(self._checkpoint.files) > 1 else self._checkpoint.files[0]
        missing = sorted(needed - present)
        if missing:
            raise TensorMismatchError(f"{where} lacks {_listed(missing)} that a {spec.model_type} model needs")
        surplus = sorted(name for name in present - needed if not (_ignorable(name, spec) or self._zero_bias(name)))
        if surplus:
            raise TensorMismatchError(
                f"{where} holds {_listed(surplus)} that a {spec.model_type} model has no place for",
                hint="edgekit refuses to leave a weight out, since that would change the model without notice",
            )

    def _zero_bias(self, name: str) -> bool:
        """Whether the tensor is a bias of zeros: early versions of AutoGPTQ stored one for every linear."""
        info = self._checkpoint.tensors[name]
        if not name.endswith(".bias") or self._checkpoint.format != "gptq" or len(info.shape) != 1:
            return False
        return not self._checkpoint.rows(name, 0, info.shape[0]).any()


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({shown}{', ...' if len(names) > _NAMED else ''})"


def _ignorable(name: str, spec: ModelSpec) -> bool:
    """Rotary frequencies, which config.json implies, and the second copy of a tied lm_head."""
    return name.endswith(".rotary_emb.inv_freq") or (
        spec.tied_embeddings and name in ("lm_head.weight", "output.weight")
    )
