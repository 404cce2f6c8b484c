"""Copies the codes of a quantized checkpoint, bit for bit, into the layout of ``quantize/packing.py``.

GPTQ's groups correspond to the artifact's blocks, except for their size. A group of 256, or of a whole row, becomes
several blocks that share its scale, which changes nothing. Groups that are not a multiple of the smallest block size,
or whose columns are scattered (activation order without static groups), cannot be stored this way: MatMulNBits needs
the columns of a block side by side. Moving them together would permute the linear's inputs. For down_proj that
permutation could be folded into the rows of gate and up. But the inputs of q, k, v, gate and up are the residual
stream, which every layer would permute in its own way, and the inputs of o_proj are the attention heads, which share
value heads. No checkpoint has scattered groups in down_proj alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.base import Checkpoint, QuantizedFormat, QuantizedRows
from ..errors import NonFiniteWeightError, TensorMismatchError, UnsupportedModelError
from ..layout import Matrix, common_scheme, plan_layout
from ..models.spec import ModelSpec, TensorRef
from ..quantize.packing import PackedLinear, pack
from ..scheme import BLOCK_SIZES, IMPORTED, QuantizationConfig, QuantizationScheme
from .checkpoint import CheckpointWeights
from .source import WeightSource


class CarriedWeights(WeightSource):
    """A quantized checkpoint as a :class:`~edgekit.weights.source.WeightSource`: its own codes, and the rest in float.

    Args:
        checkpoint: Open for reading; one that holds no quantized weight works as well.
        spec: The model that its config describes.

    Raises:
        TensorMismatchError: As for :class:`CheckpointWeights`.
    """

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec) -> None:
        self._checkpoint = checkpoint
        self._float = CheckpointWeights(checkpoint, spec)

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """See :meth:`WeightSource.rows`; quantized weights come dequantized, as float32."""
        return self._float.rows(ref, start, stop)

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        """See :meth:`WeightSource.packed`; :func:`carried_formats` gives a scheme that can hold the codes."""
        found = self._checkpoint.quantized_rows(ref.name, start, stop)
        if found is None:
            return None
        if not np.isfinite(found.scales).all():
            row, group = np.argwhere(~np.isfinite(found.scales))[0]
            raise NonFiniteWeightError(
                f"{ref.name} has a scale of {found.scales[row, group]} in row {start + row}, group {group}: "
                "scales must be finite",
                hint="the checkpoint is damaged: fetch it again",
            )
        return repack(found, scheme)


def carried_formats(checkpoint: Checkpoint, spec: ModelSpec, asked: QuantizationConfig) -> QuantizationConfig:
    """Find the formats of an artifact that copies a checkpoint's quantized weights.

    Args:
        checkpoint: Open for reading.
        spec: The model that its config describes.
        asked: Formats for the weights that the checkpoint holds in float. Quantized weights keep their own.

    Returns:
        The formats; ``asked`` itself if the checkpoint holds no quantized weight.

    Raises:
        TensorMismatchError: Linears that share a matrix of the artifact have different widths.
        UnsupportedModelError: The groups cannot be expressed by MatMulNBits.
    """
    plain = plan_layout(spec, replace(asked, matrices={}), "float32", 1)
    own = {m.name: _scheme(checkpoint, m) for m in plain.inner_matrices()}
    head = None if spec.tied_embeddings else _scheme(checkpoint, plain.lm_head)
    if head is None and not any(own.values()):
        return asked
    inside = {name: scheme or asked.linear for name, scheme in own.items()}
    lm_head = head or asked.lm_head
    mixed = replace(asked, matrices=inside, lm_head=lm_head, method=IMPORTED)
    linear = common_scheme(plan_layout(spec, mixed, "float32", 1))
    return replace(mixed, linear=linear, matrices={name: s for name, s in inside.items() if s != linear})


def _scheme(checkpoint: Checkpoint, matrix: Matrix) -> QuantizationScheme | None:
    """The format that can hold all quantized parts of a matrix; None if all of them are float."""
    found = {p.weight.name: checkpoint.quantized_format(p.weight.name) for p in matrix.parts}
    formats = {name: format_ for name, format_ in found.items() if format_ is not None}
    if not formats:
        return None
    bits = {format_.bits for format_ in formats.values()}
    if len(bits) > 1:
        each = ", ".join(f"{name} has {format_.bits} bits" for name, format_ in formats.items())
        raise TensorMismatchError(
            f"{each}; the artifact joins them into one matrix, {matrix.name}, which has a single width",
            hint="quantize them all to the same width, or leave some of them in float",
        )
    block_size = min(_block_size(name, format_) for name, format_ in formats.items())
    symmetric = all(format_.symmetric for format_ in formats.values())
    return QuantizationScheme(bits.pop(), block_size, symmetric)


def _block_size(name: str, format_: QuantizedFormat) -> int:
    """The largest block size for which every block lies within one group."""
    groups = format_.groups
    for size in sorted(BLOCK_SIZES, reverse=True):
        starts = groups[::size]
        if np.array_equal(np.repeat(starts, size)[: len(groups)], groups):
            return size
    first = np.flatnonzero(np.diff(groups)) + 1  # inputs at which another group begins
    if (np.diff(groups) < 0).any():
        raise UnsupportedModelError(
            f"{name} was quantized in activation order (desc_act without static groups): its groups are scattered over "
            f"the inputs (input {first[0]} is outside group {groups[0]}); an artifact's blocks are runs of "
            f"{_sizes(BLOCK_SIZES)} consecutive inputs, and reordering the other weights cannot bring them together",
            hint="quantize with desc_act=False, act_group_aware=True or static_groups=True",
        )
    raise UnsupportedModelError(
        f"{name} has groups of {first[0]} inputs; a group must be a multiple of {min(BLOCK_SIZES)}",
        hint=f"quantize with a group_size of {_sizes(BLOCK_SIZES)}, or a multiple of {min(BLOCK_SIZES)}",
    )


def _sizes(sizes: Iterable[int]) -> str:
    *most, last = map(str, sizes)
    return f"{', '.join(most)} or {last}"


def repack(rows: QuantizedRows, scheme: QuantizationScheme) -> PackedLinear:
    """Store quantized rows in the artifact's layout.

    Args:
        rows: Codes with a scale and a zero point for each group.
        scheme: Has the same width as the codes; each of its blocks lies within one group.

    Raises:
        ValueError: The scheme has another width, or a block that spans several groups.
    """
    groups = rows.format.groups
    count, in_features = len(rows.codes), len(groups)
    group_of = groups[:: scheme.block_size]  # (blocks,)
    if scheme.bits != rows.format.bits:
        raise ValueError(f"{rows.format.bits}-bit codes cannot be stored as {scheme}")
    if not np.array_equal(np.repeat(group_of, scheme.block_size)[:in_features], groups):
        raise ValueError(f"groups cannot be stored as {scheme}: a block holds inputs of several")
    zeros = rows.zeros[:, group_of]  # (n, blocks)
    if scheme.symmetric and (zeros != 2 ** (scheme.bits - 1)).any():
        raise ValueError(f"zero points cannot be stored as {scheme}")
    codes = np.empty(scheme.codes_shape(count, in_features), np.uint8)
    flat = codes.reshape(count, -1)
    used = rows.codes.shape[1]
    flat[:, :used] = rows.codes
    flat[:, used:] = _padding(zeros[:, -1:], scheme.bits)
    packed = None if scheme.symmetric else pack(zeros, scheme.bits)
    return PackedLinear(scheme, count, in_features, codes, rows.scales[:, group_of], packed)


def _padding(zeros: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The byte that pads a short last block: its zero point, in both halves where a code has 4 bits."""
    return zeros if bits == 8 else zeros * np.uint8(17)
