"""A Hugging Face folder with 8-bit floating-point weights: rows are read in pieces and multiplied by their scales.

    NAME.weight                F8_E4M3 or F8_E5M2 (N, K)
    NAME.weight_scale_inv      float, or NAME.weight_scale; one scale for

        a block of the weight    (ceil(N / bn), ceil(K / bk))   DeepSeek-V3 and Qwen3: bn = bk = 128; the last is short
        a row                    (N, 1) or (N,)                 FBGEMM, llm-compressor
        the whole weight         (), (1,) or (1, 1)             vLLM, ModelOpt

    w[n, k] = value[n, k] * scale[n // bn, k // bk]        divided, if weight_scale_semantics is "inverse"

Despite its name, ``weight_scale_inv`` is multiplied as well (``weight_dequant`` in the reference code of DeepSeek-V3,
https://github.com/deepseek-ai/DeepSeek-V3/blob/main/inference/kernel.py; ``quantizer_finegrained_fp8.py`` of
transformers). GPTQModel, since version 6.0.3, stores the inverse under the same name and says so in the configuration:
with ``weight_scale_semantics`` "inverse", w = value / scale (``nn_modules/qlinear/fp8.py``,
https://github.com/ModelCloud/GPTQModel). The tensors decide which weights are 8-bit: ``modules_to_not_convert`` and
``ignore`` say the same.

Scales of activations and of the KV cache (``input_scale``, ``k_scale``) belong to engines that compute in 8 bits.
edgekit computes in float, so these scales are not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError, TensorMismatchError, UnsupportedModelError
from ..json_file import is_there, read_json_object
from ..schema.fields import check_table
from ..schema.quantization import FP8
from .base import TensorInfo
from .gptq_config import COPY_KEY, FILE_NAME, refuse_transforms
from .huggingface import HuggingFaceCheckpoint

SCALES = ("weight_scale_inv", "weight_scale")
# Static scales of activations (vLLM, FBGEMM, llm-compressor) and of the KV cache.
UNUSED = ("input_scale", "input_scale_ub", "activation_scale", "output_scale", "q_scale", "k_scale", "v_scale")
_SEMANTICS, _INVERSE = "weight_scale_semantics", "inverse"
_BLOCK = 128  # of DeepSeek-V3, if the configuration does not say otherwise


def _table(dtype: Any) -> NDArray[np.float32]:
    """The value of each of the 256 codes."""
    values: NDArray[np.float32] = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    return values


_VALUES = {"F8_E4M3": _table(ml_dtypes.float8_e4m3fn), "F8_E5M2": _table(ml_dtypes.float8_e5m2)}
_EXPONENTS = "F8_E8M0"  # scales that are powers of two
_SCALE_VALUES = _table(ml_dtypes.float8_e8m0fnu)


class Fp8Checkpoint(HuggingFaceCheckpoint):
    """An open checkpoint with 8-bit floating-point weights; they appear as float weights.

    Args:
        folder: Holds ``config.json`` and the weights.

    Raises:
        TensorMismatchError: A weight has no scales, or scales that do not fit its shape.
        UnsupportedModelError: The configuration gives the scales a meaning that edgekit does not know.
        CheckpointError: As for :class:`HuggingFaceCheckpoint`.
    """

    format = "fp8"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        described = self.config.get(COPY_KEY)
        self.quantization = described or {}
        try:
            if (meaning := _scale_semantics(folder, self.quantization)) is not None:
                self.quantization = {**self.quantization, _SEMANTICS: meaning}
            self._inverse = meaning == _INVERSE
            self._blocks = self._find_blocks()
        except BaseException:
            self.close()
            raise
        used = {scale.name for scale, _, _ in self._blocks.values() if scale is not None}
        unused = sorted(name for name in self.tensors if name.rpartition(".")[2] in UNUSED)
        self.tensors = {n: info for n, info in self.tensors.items() if n not in used and n not in unused}
        if unused:
            count = f"{len(unused)} scales of 8-bit activations or KV caches (the first is {unused[0]})"
            self.notes += (f"{count} are not used, because edgekit computes in float",)

    def _find_blocks(self) -> dict[str, tuple[TensorInfo | None, int, int]]:
        """The scales of each 8-bit tensor and the rows and columns that share one; None for values without scales."""
        configured = _configured_block(self.quantization, str(self._folder / "config.json"))
        blocks: dict[str, tuple[TensorInfo | None, int, int]] = {}
        for name, info in self.tensors.items():
            if info.dtype not in _VALUES or name.rpartition(".")[2] in UNUSED:
                continue
            module = name.removesuffix(".weight")
            scales = [self.tensors[s] for s in (f"{module}.{suffix}" for suffix in SCALES) if s in self.tensors]
            if len(scales) > 1:
                raise TensorMismatchError(f"{name} has two tensors of scales: {scales[0].name} and {scales[1].name}")
            if scales and len(info.shape) == 2:
                blocks[name] = (scales[0], *_block_shape(info, scales[0], configured))
            elif self.quantization or len(info.shape) != 2:
                raise TensorMismatchError(
                    f"{name} has type {info.dtype} and shape {list(info.shape)}, but no scales: expected a matrix with "
                    f"{module}.{SCALES[0]} or {module}.{SCALES[1]}",
                    hint="without its scales the weight cannot be read; fetch all files of the checkpoint again",
                )
            else:  # cast without scaling, by software that writes no quantization_config
                blocks[name] = None, 1, 1
        return blocks

    def check_readable(self, info: TensorInfo) -> None:
        """See :meth:`Checkpoint.check_readable`."""
        scale = self._blocks.get(info.name, (info, 0, 0))[0]
        if scale is not None and scale.dtype != _EXPONENTS:
            self.stored_dtype(scale)

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        if info.name not in self._blocks:
            return super()._read(info, start, stop)
        columns = info.shape[1]
        codes = np.empty((stop - start, columns), np.uint8)
        self._open[info.path].read_into(codes.reshape(-1).data, info.offset + start * columns, f"tensor {info.name!r}")
        values: NDArray[np.float32] = _VALUES[info.dtype][codes]
        scale, height, width = self._blocks[info.name]
        if scale is None or start == stop:
            return values
        first = start // height
        factors = self._scales(scale, first, -(-stop // height))  # (block rows, block columns)
        with np.errstate(all="ignore"):  # the caller reports infinite and NaN weights, with the tensor's name
            if factors.shape[1] == 1 and height == 1:
                values *= factors
                return values
            for i, row in enumerate(factors):
                top, bottom = max((first + i) * height, start) - start, min((first + i + 1) * height, stop) - start
                values[top:bottom] *= np.repeat(row, width)[:columns]
        return values

    def _scales(self, info: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        """The factors of rows start..stop of a matrix of scales: float32 (stop - start, block columns)."""
        columns = info.shape[1] if len(info.shape) == 2 else 1
        dtype = np.dtype(np.uint8) if info.dtype == _EXPONENTS else self.stored_dtype(info)
        raw = np.empty((stop - start) * columns * dtype.itemsize, np.uint8)
        offset = info.offset + start * columns * dtype.itemsize
        self._open[info.path].read_into(raw.data, offset, f"tensor {info.name!r}")
        scales = raw.view(dtype).reshape(stop - start, columns)
        found: NDArray[np.float32] = _SCALE_VALUES[scales] if info.dtype == _EXPONENTS else scales.astype(np.float32)
        with np.errstate(divide="ignore", over="ignore"):
            factors: NDArray[np.float32] = np.reciprocal(found) if self._inverse else found
        usable = np.isfinite(found) & np.isfinite(factors)
        if not usable.all():
            row, column = map(int, np.argwhere(~usable)[0])
            where = f"{found[row, column]} at {[start + row, column]}"
            allowed = "inverse scales must be finite and not 0" if self._inverse else "scales must be finite"
            raise CorruptFileError(
                f"{info.path}: {info.name} holds {where}; {allowed}", hint="the checkpoint is damaged: fetch it again"
            )
        return factors


def _scale_semantics(folder: Path, quantization: Mapping[str, Any]) -> str | None:
    """Check what describes the weights, and tell how their scales are meant: as inverse ones, or None.

    GPTQModel writes the description twice, into ``config.json`` and into a file of its own.
    """
    path = folder / FILE_NAME
    described = [(f"{folder / 'config.json'}, {COPY_KEY}", quantization)]
    if is_there(path):
        described.append((str(path), read_json_object(path)))
    found = None
    for where, values in described:
        check_table(values, FP8, where, CorruptFileError)
        refuse_transforms(values, where)
        if (meaning := values.get(_SEMANTICS)) is not None:
            found = str(meaning).strip().lower()
            if found != _INVERSE:
                raise UnsupportedModelError(
                    f"{where}: {_SEMANTICS} is {meaning!r}; supported: {_INVERSE!r}, or no such key for scales that "
                    "are multiplied"
                )
    return found


def _configured_block(quantization: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """The block of ``weight_block_size``, or of compressed-tensors' ``block_structure``; None if there is neither."""
    block = quantization.get("weight_block_size")
    groups = quantization.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        block = block or (weights.get("block_structure") if isinstance(weights, dict) else None)
    if block is None:
        return None
    if not isinstance(block, list) or len(block) != 2 or not all(type(n) is int and n > 0 for n in block):
        raise CorruptFileError(f"{where}: weight_block_size is {block!r}; it must be a list of two positive numbers")
    return block[0], block[1]


def _block_shape(weight: TensorInfo, scale: TensorInfo, configured: tuple[int, int] | None) -> tuple[int, int]:
    """How many rows and columns of a weight share a scale."""
    if math.prod(scale.shape) == 1:
        return weight.shape[0], weight.shape[1]
    counts = (scale.shape[0], 1) if len(scale.shape) == 1 else scale.shape
    sizes = [_shared(n, c, b) for n, c, b in zip(weight.shape, counts, configured or (None, None), strict=False)]
    if len(counts) != 2 or None in sizes:
        block = "" if configured is None else f" in blocks of {configured[0]} x {configured[1]}"
        raise TensorMismatchError(
            f"{scale.name} has shape {list(scale.shape)}, which does not fit {weight.name} with shape "
            f"{list(weight.shape)}{block}: expected one scale for each block, each row or the whole weight"
        )
    return sizes[0] or 1, sizes[1] or 1


def _shared(size: int, count: int, configured: int | None) -> int | None:
    """The number of elements along an axis that share a scale, if ``count`` scales cover ``size`` elements."""
    candidates = [size, 1, _BLOCK] if configured is None else [configured, 1, size]
    return next((n for n in candidates if n and -(-size // n) == count), None)
