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
from ..quantize.packing import PackedLinear
from ..scheme import QuantizationScheme
from .carried import repack

_NAMED = 5  # tensors an error lists before it only counts
_CHECKED_WEIGHTS = 4 << 20  # read at a time


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
        surplus = sorted(name for name in present - needed if not (_harmless(name, spec) or self._empty_bias(name)))
        if surplus:
            raise TensorMismatchError(
                f"{where} holds {_some(surplus)} that a {spec.model_type} model has no place for",
                hint="edgekit takes over every weight or none: a tensor left out would change the model silently",
            )

    def _empty_bias(self, name: str) -> bool:
        """Whether it is a bias of zeros: early AutoGPTQ stored one for every linear, needed or not."""
        info = self._checkpoint.tensors[name]
        if not name.endswith(".bias") or self._checkpoint.format != "gptq" or len(info.shape) != 1:
            return False
        return not self._checkpoint.rows(name, 0, info.shape[0]).any()

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
        ordered: NDArray[Any] = heads.swapaxes(1, 2).reshape(stored.shape)
        return ordered[start - first * head_dim : stop - first * head_dim]

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        """Rows start..stop of a weight the checkpoint holds quantized, code for code; None for one it holds in float.

        Args:
            ref: One of the spec's matrices.
            start, stop: Half-open range of rows.
            scheme: How to store them: the weight's own width, blocks that each lie within one group.

        Returns:
            The rows; scales in the checkpoint's float type.

        Raises:
            NonFiniteWeightError: A scale is NaN or infinite.
            ValueError: The scheme cannot hold the codes; :func:`carried_formats` gives one that can.
        """
        found = self._checkpoint.quantized_rows(self._name(ref), start, stop)
        if found is None:
            return None
        if not np.isfinite(found.scales).all():
            row, group = np.argwhere(~np.isfinite(found.scales))[0]
            raise NonFiniteWeightError(
                f"{ref.name} has a scale of {found.scales[row, group]} in row {start + row}, group {group}: "
                "no weight may be NaN or infinite",
                hint="the checkpoint is damaged: fetch it again",
            )
        return repack(found, scheme)

    def release(self) -> None:
        """Forget what was kept for the next read; here nothing is."""

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


def check_finite(source: WeightSource, spec: ModelSpec) -> None:
    """Read every weight: for when something went wrong that a damaged one would explain.

    Raises:
        NonFiniteWeightError: One is NaN or infinite; the first is named.
    """
    for ref in spec.tensors():
        step = max(1, _CHECKED_WEIGHTS // (ref.shape[1] if len(ref.shape) > 1 else 1))
        for start in range(0, ref.shape[0], step):
            rows = source.rows(ref, start, min(start + step, ref.shape[0])).astype(np.float32)
            bad = np.argwhere(~np.isfinite(rows))
            if len(bad):
                first, *rest = map(int, bad[0])
                raise unusable_weight(ref, float(rows[tuple(bad[0])]), np.dtype(np.float32), start + first, *rest)


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
