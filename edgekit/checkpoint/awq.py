"""An AWQ checkpoint: a Hugging Face folder whose linears have 4-bit codes, which are read unchanged and in pieces.

Three tensors store the weight of a linear with K inputs, N outputs and G groups of consecutive inputs. A word has eight
fields of four bits, lowest bits first:

    version gemm  qweight int32 (K, N/8)    word (k, j): codes of outputs 8j + 0, 2, 4, 6, 1, 3, 5, 7 of input k
                  qzeros  int32 (G, N/8)    word (g, j): zero points of the same outputs of group g
                  scales  float (G, N)
    version gemv  qweight int32 (N, K/8)    word (n, j): codes of inputs 8j, 8j + 1, ... of output n
                  qzeros  int32 (N, Z)      word (n, j): zero points of groups 8j, 8j + 1, ...; padded with zeros
                  scales  float (N, 8 Z)    padded with zeros

    w[n, k] = scales[k // group_size, n] * (code[k, n] - zero[k // group_size, n])

Zero points are stored as they are. Without qzeros, all are 8. The shapes tell the versions apart.

Source: AutoAWQ (https://github.com/casper-hansen/AutoAWQ), ``awq/modules/linear/gemm.py`` and ``gemv.py``, ``pack``;
GPTQModel writes the same (``nn_modules/qlinear/gemm_awq.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TensorMismatchError, UnsupportedModelError
from .awq_config import AwqConfig, holds_groups, read_awq_config
from .base import QuantizedFormat, QuantizedRows, TensorInfo
from .huggingface import HuggingFaceCheckpoint

PARTS = ("qweight", "qzeros", "scales")
_BITS, _FIELDS = 4, 8
_MIDDLE = 8  # the zero point of symmetric weights
# The field that holds output 8j + i; the inverse of AutoAWQ's order 0, 2, 4, 6, 1, 3, 5, 7.
_FIELD_OF_OUTPUT = np.array([0, 4, 1, 5, 2, 6, 3, 7])
_GROUP_SIZES = (128, 64, 32, 16, 256, 512, 1024)  # to tell one from the number of groups; the usual ones first
_PACKED = np.dtype("<u4")


@dataclass(frozen=True)
class _Linear:
    """One quantized linear: its tensors and its shape."""

    module: str
    parts: dict[str, TensorInfo]
    by_input: bool
    """Whether the rows of qweight are inputs (gemm) or outputs (gemv)."""
    in_features: int
    out_features: int
    group_size: int
    symmetric: bool

    @property
    def groups(self) -> int:
        return -(-self.in_features // self.group_size)

    @property
    def carried(self) -> bool:
        """Whether an artifact can hold the codes as they are."""
        return holds_groups(self.in_features, self.group_size)


class AwqCheckpoint(HuggingFaceCheckpoint):
    """An open AWQ checkpoint. Each quantized linear appears in :attr:`tensors` as one weight (N, K).

    Args:
        folder: Holds ``config.json``, the weights, and ``quant_config.json`` if ``config.json`` does not describe them.

    Raises:
        TensorMismatchError: The configuration and the tensors contradict each other.
        UnsupportedModelError: The width or the version is not supported.
        CheckpointError: As for :class:`HuggingFaceCheckpoint`.
    """

    format = "awq"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            self.awq = read_awq_config(folder, self.config)
            self.quantization = self.awq.content
            self._linears = self._find_linears()
            self.tensors = self._without_parts()
        except BaseException:  # closes the files after Ctrl-C, too
            self.close()
            raise
        self.holds_codes = any(linear.carried for linear in self._linears.values())
        narrow = [name for name, linear in self._linears.items() if not linear.carried]
        if narrow:
            size = self._linears[narrow[0]].group_size
            which = f"{len(narrow)} weights (the first is {narrow[0]}) have groups of {size} inputs"
            self.notes += (f"{which}, which an artifact cannot hold: they are dequantized and quantized again",)

    def quantized_format(self, name: str) -> QuantizedFormat | None:
        """A weight's storage format; see :meth:`Checkpoint.quantized_format`."""
        linear = self._linears.get(name)
        return _format(linear) if linear is not None and linear.carried else None

    def quantized_rows(self, name: str, start: int, stop: int) -> QuantizedRows | None:
        """A weight's codes; see :meth:`Checkpoint.quantized_rows`."""
        linear = self._linears.get(name)
        if linear is None or not linear.carried:
            return None
        if not 0 <= start <= stop <= linear.out_features:
            raise ValueError(f"cannot read rows {start} to {stop} of {name!r}; it has {linear.out_features} rows")
        return self._quantized(linear, start, stop)

    def check_readable(self, info: TensorInfo) -> None:
        """See :meth:`Checkpoint.check_readable`."""
        linear = self._linears.get(info.name)
        super().check_readable(info if linear is None else linear.parts["scales"])

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        linear = self._linears.get(info.name)
        return super()._read(info, start, stop) if linear is None else self._quantized(linear, start, stop).dequantize()

    def _quantized(self, linear: _Linear, start: int, stop: int) -> QuantizedRows:
        read = self._by_input if linear.by_input else self._by_output
        codes, zeros, scales = read(linear, start, stop)
        if linear.symmetric and (zeros != _MIDDLE).any():
            raise TensorMismatchError(
                f"{self.awq.source} says that the weights are symmetric, but {linear.module}.qzeros has values "
                f"{zeros.min()} to {zeros.max()}; in symmetric weights all are {_MIDDLE}",
                hint='set "zero_point" to true in that file',
            )
        return QuantizedRows(_format(linear), codes, scales, zeros)

    def _by_input(
        self, linear: _Linear, start: int, stop: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[Any]]:
        """Version gemm: packed codes (n, K/2), zero points (n, G) and scales (n, G) of outputs start..stop."""
        first, last = start // _FIELDS, -(-stop // _FIELDS)
        wanted = slice(start - first * _FIELDS, stop - first * _FIELDS)

        def fields(part: str) -> NDArray[np.uint8]:
            found = _unpack(self.stored_columns(linear.parts[part], _PACKED, first, last))  # (rows, words, 8)
            outputs = found[..., _FIELD_OF_OUTPUT].reshape(len(found), (last - first) * _FIELDS)
            return np.ascontiguousarray(outputs[:, wanted].T)

        scales = self.stored_columns(linear.parts["scales"], self.stored_dtype(linear.parts["scales"]), start, stop)
        codes = fields("qweight")
        zeros = fields("qzeros") if "qzeros" in linear.parts else np.full(scales.T.shape, _MIDDLE, np.uint8)
        packed: NDArray[np.uint8] = (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8)
        return packed, zeros, np.ascontiguousarray(scales.T)

    def _by_output(
        self, linear: _Linear, start: int, stop: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[Any]]:
        """Version gemv: the same. Its words are already packed as an artifact's codes."""
        codes = self._rows(linear.parts["qweight"], _PACKED, start, stop).view(np.uint8)
        scales = self._rows(linear.parts["scales"], self.stored_dtype(linear.parts["scales"]), start, stop)
        scales = np.ascontiguousarray(scales[:, : linear.groups])
        zeros = np.full(scales.shape, _MIDDLE, np.uint8)
        if "qzeros" in linear.parts:
            stored = _unpack(self._rows(linear.parts["qzeros"], _PACKED, start, stop))
            zeros = np.ascontiguousarray(stored.reshape(len(stored), stored.shape[1] * _FIELDS)[:, : linear.groups])
        return codes, zeros, scales

    def _rows(self, info: TensorInfo, dtype: np.dtype[Any], start: int, stop: int) -> NDArray[Any]:
        """Read rows start..stop of a stored matrix."""
        values = np.empty((stop - start, info.shape[1]), dtype)
        offset = info.offset + start * info.shape[1] * dtype.itemsize
        self._open[info.path].read_into(values.reshape(-1).view(np.uint8).data, offset, f"tensor {info.name!r}")
        return values

    # Find the quantized linears

    def _find_linears(self) -> dict[str, _Linear]:
        modules = [name.removesuffix(".qweight") for name in self.tensors if name.endswith(".qweight")]
        found: dict[str, _Linear] = {}
        for module in modules:
            parts = {part: self.tensors[f"{module}.{part}"] for part in PARTS if f"{module}.{part}" in self.tensors}
            found[f"{module}.weight"] = _checked(module, self.awq, parts)
        return found

    def _without_parts(self) -> dict[str, TensorInfo]:
        """The tensors, with one weight for each quantized linear in place of its qweight."""
        tensors: dict[str, TensorInfo] = {}
        for name, info in self.tensors.items():
            module, _, part = name.rpartition(".")
            weight = f"{module}.weight"
            linear = self._linears.get(weight)
            if linear is None or part not in PARTS:
                if name in self._linears:
                    raise TensorMismatchError(f"{info.path.parent} contains both {name} and {module}.qweight")
                tensors[name] = info
            elif part == "qweight":
                size = sum(p.size_bytes for p in linear.parts.values())
                shape = (linear.out_features, linear.in_features)
                tensors[weight] = TensorInfo(weight, "awq4", shape, info.path, info.offset, size)
        return tensors


def _format(linear: _Linear) -> QuantizedFormat:
    groups = (np.arange(linear.in_features) // linear.group_size).astype(np.int32)
    return QuantizedFormat(_BITS, linear.symmetric, groups)


def _unpack(words: NDArray[Any]) -> NDArray[np.uint8]:
    """Unpack words into their fields: uint32 (..., m) -> uint8 (..., m, 8)."""
    data = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*words.shape, _FIELDS)


def _checked(module: str, config: AwqConfig, parts: Mapping[str, TensorInfo]) -> _Linear:
    """Check a linear's tensors against the configuration and against each other."""
    for part in ("qweight", "scales", *(["qzeros"] if config.zero_point else [])):
        if part not in parts:
            raise TensorMismatchError(f"{module} has no {part}; {config.source} describes AWQ weights")
    for part, info in parts.items():
        if len(info.shape) != 2:
            raise TensorMismatchError(f"{module}.{part} has shape {list(info.shape)}; it must have two axes")
        if part != "scales" and info.dtype != "I32":
            raise UnsupportedModelError(
                f"{module}.{part} is {info.dtype}; AWQ in the versions gemm and gemv has I32",
                hint="the versions gemv_fast and marlin and llm-awq's own files are made for single kernels: use the "
                "checkpoint in version gemm, or the float checkpoint",
            )
    (rows, words), scales = parts["qweight"].shape, parts["scales"].shape
    by_input = scales[1] == words * _FIELDS
    in_features, out_features = (rows, words * _FIELDS) if by_input else (words * _FIELDS, rows)
    shapes = {part: list(info.shape) for part, info in parts.items()}
    if not in_features or not out_features or in_features % 2:
        raise TensorMismatchError(
            f"{module} has {shapes}, which makes {in_features} inputs and {out_features} outputs; neither may be 0, "
            "and the inputs must be an even number"
        )
    size = in_features if config.group_size == -1 else config.group_size
    if size is None:
        if not by_input:
            raise UnsupportedModelError(
                f"{config.source} has no group_size, and the shapes of {module} do not tell it: {shapes}"
            )
        size = next((n for n in _GROUP_SIZES if -(-in_features // n) == scales[0]), in_features)
    groups = -(-in_features // size)
    padded = parts["qzeros"].shape[1] * _FIELDS if "qzeros" in parts else scales[1]
    expected = {"scales": [groups, out_features], "qzeros": [groups, words]} if by_input else {
        "scales": [rows, padded], "qzeros": [rows, padded // _FIELDS],
    }  # fmt: skip
    if any(shapes[part] != expected[part] for part in parts if part != "qweight") or padded < groups:
        raise TensorMismatchError(
            f"{config.source} says group_size = {config.group_size}, but {module} has {shapes}, which do not fit: "
            f"{in_features} inputs make {groups} groups"
        )
    symmetric = not config.zero_point
    return _Linear(module, dict(parts), by_input, in_features, out_features, size, symmetric)
