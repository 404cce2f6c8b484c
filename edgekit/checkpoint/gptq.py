"""A GPTQ checkpoint: a Hugging Face folder whose linears are quantized. The codes are read unchanged and in pieces.

Four tensors store the weight of a linear with K inputs, N outputs and G groups. With b bits, a word has 32/b fields:

    qweight  int32 (K*b/32, N)    word (i, n): codes of inputs i*32/b, i*32/b + 1, ... of output n, lowest bits first
    qzeros   int32 (G, N*b/32)    word (g, j): zero points of outputs j*32/b, ... of group g, lowest bits first
    scales   float (G, N)
    g_idx    int32 (K)            each input's group; without it, input k is in group k // group_size

    w[n, k] = scales[g_idx[k], n] * (code[k, n] - zero[g_idx[k], n])

Format v1 (``gptq``) stores zero - 1, modulo 2**b; format v2 (``gptq_v2``) stores zero. Some files have the wrong label.
For symmetric weights the stored values show the format: all are 2**(b-1) - 1 in v1, and all are 2**(b-1) in v2. The
label decides only for weights that are not symmetric.

Each quantized linear appears in :attr:`GptqCheckpoint.tensors` as one weight (N, K): ``rows`` returns it in float,
``quantized_rows`` returns its codes.

Source: https://github.com/ModelCloud/GPTQModel, ``nn_modules/qlinear``; AutoGPTQ ``qlinear_cuda_old.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError, TensorMismatchError, UnsupportedModelError
from .base import QuantizedFormat, QuantizedRows, TensorInfo
from .gptq_config import V1, V2, GptqConfig, read_gptq_config
from .huggingface import HuggingFaceCheckpoint

PARTS = ("qweight", "qzeros", "scales", "g_idx")
_WORD_BITS = 32
_PACKED = np.dtype("<u4")


@dataclass(frozen=True)
class _Linear:
    """One quantized linear: its tensors and its configuration."""

    module: str
    config: GptqConfig
    parts: dict[str, TensorInfo]
    in_features: int
    out_features: int
    groups: int

    @property
    def fields(self) -> int:
        """Codes per word."""
        return _WORD_BITS // self.config.bits


class GptqCheckpoint(HuggingFaceCheckpoint):
    """An open GPTQ checkpoint.

    Args:
        folder: Holds ``config.json``, the weights, and ``quantize_config.json`` unless ``config.json`` has a copy.

    Raises:
        TensorMismatchError: The configuration and the tensors contradict each other.
        UnsupportedModelError: The width or format is not supported.
        CheckpointError: As for :class:`HuggingFaceCheckpoint`.
    """

    format = "gptq"
    holds_codes = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            self.gptq = read_gptq_config(folder, self.config)
            self.quantization = self.gptq.content
            self._linears = self._find_linears()
            self._stored, self.tensors = self.tensors, self._without_parts()
        except BaseException:  # closes the files after Ctrl-C, too
            self.close()
            raise
        self._offsets: dict[str, int] = {}
        self._group_of: dict[str, NDArray[np.int32]] = {}

    def quantized_format(self, name: str) -> QuantizedFormat | None:
        """A weight's storage format; see :meth:`Checkpoint.quantized_format`."""
        linear = self._linears.get(name)
        return None if linear is None else self._format(linear)

    def quantized_rows(self, name: str, start: int, stop: int) -> QuantizedRows | None:
        """A weight's codes; see :meth:`Checkpoint.quantized_rows`."""
        linear = self._linears.get(name)
        if linear is None:
            return None
        if not 0 <= start <= stop <= linear.out_features:
            raise ValueError(f"cannot read rows {start} to {stop} of {name!r}; it has {linear.out_features} rows")
        words = self.stored_columns(linear.parts["qweight"], _PACKED, start, stop)  # (K*b/32, n)
        scales = self.stored_columns(
            linear.parts["scales"], self.stored_dtype(linear.parts["scales"]), start, stop
        )  # (G, n)
        # The words' bytes, output by output, are the codes with the lowest bits first: the layout of packing.py.
        codes = np.ascontiguousarray(words.T).view(np.uint8)
        zeros = self._zeros(linear, start, stop)
        return QuantizedRows(self._format(linear), codes, np.ascontiguousarray(scales.T), zeros)

    def _format(self, linear: _Linear) -> QuantizedFormat:
        return QuantizedFormat(linear.config.bits, linear.config.symmetric, self._groups(linear))

    def check_readable(self, info: TensorInfo) -> None:
        """See :meth:`Checkpoint.check_readable`; quantized weights have no stored float type."""
        if info.name not in self._linears:
            super().check_readable(info)

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        found = self.quantized_rows(info.name, start, stop)
        return super()._read(info, start, stop) if found is None else found.dequantize()

    # Find the quantized linears

    def _find_linears(self) -> dict[str, _Linear]:
        modules = [name.removesuffix(".qweight") for name in self.tensors if name.endswith(".qweight")]
        if not modules:
            raise TensorMismatchError(
                f"{self.gptq.source} says that the weights are quantized, but there is no qweight tensor"
            )
        return {f"{module}.weight": self._linear(module) for module in modules}

    def _linear(self, module: str) -> _Linear:
        parts = {part: self.tensors[f"{module}.{part}"] for part in PARTS if f"{module}.{part}" in self.tensors}
        for part in PARTS[:3]:
            if part not in parts:
                raise TensorMismatchError(f"{module} has a qweight but no {part}")
            if len(parts[part].shape) != 2:
                raise TensorMismatchError(f"{module}.{part} has shape {list(parts[part].shape)}; it must have two axes")
        for part in ("qweight", "qzeros", "g_idx"):
            if part in parts and parts[part].dtype != "I32":
                raise TensorMismatchError(f"{module}.{part} is {parts[part].dtype}; GPTQ requires I32")
        config = self.gptq.for_module(module)
        if config is None:
            raise TensorMismatchError(
                f"{self.gptq.source} leaves {module} in float (dynamic), but the weights contain {module}.qweight"
            )
        return _checked(module, config, parts)

    def _without_parts(self) -> dict[str, TensorInfo]:
        """The tensors, with one weight for each quantized linear in place of its qweight."""
        tensors: dict[str, TensorInfo] = {}
        for name, info in self.tensors.items():
            module, _, part = name.rpartition(".")
            linear = self._linears.get(f"{module}.weight")
            if linear is None or part not in PARTS:
                if name in self._linears:
                    raise TensorMismatchError(f"{info.path.parent} contains both {name} and {module}.qweight")
                tensors[name] = info
            elif part == "qweight":
                weight, shape = f"{module}.weight", (linear.out_features, linear.in_features)
                size = sum(p.size_bytes for p in linear.parts.values())
                tensors[weight] = TensorInfo(weight, f"gptq{linear.config.bits}", shape, info.path, info.offset, size)
        return tensors

    # Read their parts

    def _groups(self, linear: _Linear) -> NDArray[np.int32]:
        """Each input's group: int32 (K)."""
        found = self._group_of.get(linear.module)
        if found is None:
            found = self._group_of[linear.module] = self._read_groups(linear)
        return found

    def _read_groups(self, linear: _Linear) -> NDArray[np.int32]:
        size = _group_size(linear.config, linear.in_features)
        regular = (np.arange(linear.in_features) // size).astype(np.int32)
        info = linear.parts.get("g_idx")
        if info is None:
            return regular
        groups = np.empty(linear.in_features, "<i4")
        self._open[info.path].read_into(groups.view(np.uint8).data, info.offset, f"tensor {info.name!r}")
        if groups.size and not 0 <= groups.min() <= groups.max() < linear.groups:
            raise CorruptFileError(
                f"{info.path}: {info.name} has groups {groups.min()} to {groups.max()}; allowed: 0 to "
                f"{linear.groups - 1}"
            )
        if not linear.config.desc_act and not np.array_equal(groups, regular):
            k = int(np.argmax(groups != regular))
            raise TensorMismatchError(
                f"{info.name} puts input {k} into group {groups[k]}, but {linear.config.source} says group_size = "
                f"{linear.config.group_size} and desc_act = false, which means group {regular[k]}"
            )
        return groups

    def _zeros(self, linear: _Linear, start: int, stop: int) -> NDArray[np.uint8]:
        """Read the zero points of outputs start..stop: uint8 (n, G)."""
        bits, fields = linear.config.bits, linear.fields
        first, last = start // fields, -(-stop // fields)
        stored = _unpack(self.stored_columns(linear.parts["qzeros"], _PACKED, first, last), bits)  # (G, n')
        wanted = stored[:, start - first * fields : stop - first * fields].astype(np.int32)
        zeros = (wanted + self._zero_offset(linear)) & (2**bits - 1)  # per field, so nothing carries into the next
        return np.ascontiguousarray(zeros.T.astype(np.uint8))

    def _zero_offset(self, linear: _Linear) -> int:
        """The number to add to a stored zero point: 1 in format v1, 0 in v2."""
        offset = self._offsets.get(linear.module)
        if offset is None:
            info = linear.parts["qzeros"]
            stored = _unpack(self.stored_columns(info, _PACKED, 0, info.shape[1]), linear.config.bits)
            offset = self._offsets[linear.module] = _format_offset(linear, int(stored.min()), int(stored.max()))
        return offset


def _unpack(words: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Unpack words along the last axis, lowest bits first: uint32 (..., m) -> uint8 (..., m * 32 / bits)."""
    data = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return data
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)


def _group_size(config: GptqConfig, in_features: int) -> int:
    return in_features if config.group_size == -1 else config.group_size


def _format_offset(linear: _Linear, smallest: int, largest: int) -> int:
    """1 for format v1, 0 for v2: decided by the range of the stored zero points, otherwise by the label."""
    config, middle = linear.config, 2 ** (linear.config.bits - 1)
    if smallest == largest == middle - 1:
        return 1
    if smallest == largest == middle:
        return 0
    if config.symmetric:
        raise TensorMismatchError(
            f"{config.source} says sym = true, but {linear.module}.qzeros has values {smallest} to {largest}; in "
            f"symmetric {config.bits}-bit weights all values are {middle - 1} (gptq) or {middle} (gptq_v2)"
        )
    if config.label is None:
        raise UnsupportedModelError(
            f"{config.source} has no checkpoint_format, and the zero points of {linear.module} are asymmetric "
            f"({smallest} to {largest}), so they do not show the format",
            hint=f'add "checkpoint_format": "{V1}" (zero points are stored minus one) or "{V2}" to that file',
        )
    return 1 if config.label == V1 else 0


def _checked(module: str, config: GptqConfig, parts: dict[str, TensorInfo]) -> _Linear:
    """Check the tensors' shapes against the configuration and against each other."""
    (word_rows, out), (groups, zero_words) = parts["qweight"].shape, parts["qzeros"].shape
    fields = _WORD_BITS // config.bits
    if "g_idx" in parts:
        if len(parts["g_idx"].shape) != 1:
            raise TensorMismatchError(f"{module}.g_idx has shape {list(parts['g_idx'].shape)}; it must have one axis")
        in_features = parts["g_idx"].shape[0]
    else:
        if config.desc_act:
            raise TensorMismatchError(f"{config.source} says desc_act = true, but {module} has no g_idx")
        in_features = word_rows * fields
    shapes = {part: list(info.shape) for part, info in parts.items()}
    if not in_features or not out or word_rows * fields != in_features or zero_words * fields != out:
        found = next((b for b in range(2, 9) if word_rows * 32 == b * in_features), None)
        raise TensorMismatchError(
            f"{config.source} says bits = {config.bits}, but {module} has {shapes}"
            + (f", which is {found} bits" if found not in (None, config.bits) else ", which contradict each other")
        )
    expected = -(-in_features // _group_size(config, in_features))
    if parts["scales"].shape != (groups, out):
        raise TensorMismatchError(
            f"{module}.scales has shape {shapes['scales']}; its qweight and qzeros imply {[groups, out]}"
        )
    if groups != expected:
        raise TensorMismatchError(
            f"{config.source} says group_size = {config.group_size}, which means {expected} groups for {in_features} "
            f"inputs, but {module}.scales has {groups}"
        )
    return _Linear(module, config, parts, in_features, out, groups)
