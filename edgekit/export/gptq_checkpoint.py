"""Writes a checkpoint in the format of AutoGPTQ and GPTQModel with a build's own codes (``--emit gptq``).

    model.safetensors        for each linear qweight, qzeros, scales, g_idx, [bias], in the layout that
                             ``checkpoint/gptq.py`` describes; embedding, norms and lm_head in the source's float16 or
                             bfloat16, or in float16 if they were scaled or rotated
    quantize_config.json     also stored as quantization_config in config.json
    tokenizer files

The groups are the artifact's blocks. Codes, scales and zero points are read back from ``model.onnx.data``; no weight is
quantized a second time. Memory holds one slab of one linear.

Format v1 stores zero - 1, so a zero point of 0 would become 2**bits - 1. GPTQModel does not convert that back to 0: it
adds 1 to whole words, and the carry changes the next zero point. Therefore weights with a zero point of 0 are rejected
for ``gptq``. ``gptq_v2`` can store all zero points.

Source: https://github.com/huggingface/safetensors#format; GPTQModel ``quantization/config.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.gptq_config import COPY_KEY, FILE_NAME, V1, V2
from ..checkpoint.shards import SINGLE_FILE
from ..errors import BuildError, NonFiniteWeightError, UnsupportedModelError
from ..json_text import json_text
from ..layout import DataLayout, Matrix, Slot, common_scheme
from ..models.spec import Linear, ModelSpec, TensorRef
from ..progress import Share, no_share
from ..quantize.packing import PackedLinear, pack, unpack
from ..scheme import QuantizationScheme
from ..weights.source import WeightSource
from .model import LayerQuantizer

LM_HEAD = "lm_head.weight"
SLAB_BYTES = 32 << 20  # codes held at a time; transposing their words takes the same amount again
_WORD_BITS = 32
_FLOATS = {"F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
_TORCH = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file, and a function that writes it at an offset."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    write: Callable[[BinaryIO, int], None]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * (4 if self.dtype == "I32" else 2)


def check_emittable(layout: DataLayout, spec: ModelSpec) -> None:
    """Reject a model that the format cannot store. Needs no weights, so a build calls it before any work.

    Raises:
        UnsupportedModelError: ``config.json`` cannot describe the model's rotary embedding, no linear is quantized, or
            a linear has a shape that does not fill the format's words.
    """
    if spec.rope.scaling == "factors":
        raise UnsupportedModelError(
            "a GPTQ checkpoint describes the model in config.json, which has no place for the rotary factors of this "
            "GGUF file",
            hint="build from the model's Hugging Face checkpoint, or leave out --emit",
        )
    if common_scheme(layout) is None:
        raise UnsupportedModelError(
            "a GPTQ checkpoint holds quantized linears, but this build keeps them in float", hint="add --bits 4 or 8"
        )
    for matrix, part in _linears(layout):
        if matrix.scheme is not None:
            fields = _WORD_BITS // matrix.scheme.bits
            if part.in_features % fields or part.out_features % fields:
                raise UnsupportedModelError(
                    f"{part.weight.name} is {part.out_features} x {part.in_features}; a GPTQ checkpoint packs {fields} "
                    f"codes of {matrix.scheme.bits} bits into a word, so both dimensions must be multiples of {fields}"
                )


def storable(layers: LayerQuantizer, format_: str) -> LayerQuantizer:
    """A quantizer of layers that stops at the first matrix which the format cannot store, not after the last one.

    Args:
        layers: The quantizer.
        format_: ``gptq`` or ``gptq_v2``.

    Raises:
        BuildError: As for :func:`write_gptq_checkpoint`; raised by the quantizer that is returned.
    """

    def checked(layout: DataLayout) -> Iterator[tuple[Matrix, PackedLinear]]:
        inner = {matrix.name for matrix in layout.inner_matrices()}  # the checkpoint holds lm_head in float
        for matrix, packed in layers(layout):
            if packed.zero_points is not None and matrix.name in inner:
                zeros = unpack(packed.zero_points, _bits(matrix))[:, : packed.scheme.blocks(packed.in_features)]
                at = 0
                for part in matrix.parts:
                    _check_zeros(part, zeros[at : at + part.out_features], format_)
                    at += part.out_features
            yield matrix, packed

    return checked


def write_gptq_checkpoint(
    folder: Path,
    data: Path,
    layout: DataLayout,
    spec: ModelSpec,
    source: WeightSource,
    *,
    config: Mapping[str, Any],
    tokenizer: Mapping[str, bytes],
    format_: str,
    progress: Share = no_share,
) -> None:
    """Write the checkpoint.

    Args:
        folder: An existing, empty folder.
        data: The artifact's complete ``model.onnx.data``, quantized with scales that float16 can hold.
        layout: The layout of ``data``.
        spec: The model.
        source: Its weights, for the tensors that stay in float.
        config: The source's ``config.json``.
        tokenizer: The tokenizer's files, content by name.
        format_: ``gptq`` or ``gptq_v2``.
        progress: Called with (bytes done, bytes in all).

    Raises:
        BuildError: The format cannot store a zero point or a scale.
        NonFiniteWeightError: A float weight is too large for float16.
        CheckpointError: The source cannot be read.
    """
    # Scaled norms are float32 values, which bfloat16 with its 8 bits of precision would round too coarsely.
    stored = {source.rows(ref, 0, 1).dtype for ref in (spec.embedding, spec.layers[0].input_norm)}
    dtype = "BF16" if stored == {_FLOATS["BF16"]} else "F16"
    with data.open("rb", buffering=0) as artifact:
        tensors = list(_Tensors(artifact, layout, spec, source, dtype, format_).all())
        _write_safetensors(folder / SINGLE_FILE, tensors, progress)
    quantize_config = _quantize_config(layout, format_)
    kept = {key: value for key, value in config.items() if key not in (COPY_KEY, "dtype", "torch_dtype")}
    architectures = [f"{spec.model_type.capitalize()}ForCausalLM"]
    ours = {"torch_dtype": _TORCH[dtype], COPY_KEY: quantize_config}
    (folder / FILE_NAME).write_bytes(_json(quantize_config))
    for name, content in tokenizer.items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_bytes(_json({"architectures": architectures, **kept, **ours}))


def _linears(layout: DataLayout) -> Iterator[tuple[Matrix, Linear]]:
    for matrix in layout.inner_matrices():
        for part in matrix.parts:
            yield matrix, part


def _write_safetensors(path: Path, tensors: list[_Tensor], progress: Share) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        offsets = [end, end := end + tensor.size_bytes]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
    text = json_text(header).encode()
    text += b" " * (-len(text) % 8)  # the data section starts at a multiple of 8
    at = 8 + len(text)
    with path.open("wb", buffering=0) as file:
        _write(file, 0, len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            start = at + header[tensor.name]["data_offsets"][0]
            tensor.write(file, start)
            progress(start + tensor.size_bytes - at, end)


def _write(file: BinaryIO, offset: int, data: bytes | NDArray[Any]) -> None:
    view = memoryview(data) if isinstance(data, bytes) else np.ascontiguousarray(data).view(np.uint8).reshape(-1).data
    file.seek(offset)
    while view:
        view = view[file.write(view) :]


@dataclass(frozen=True)
class _Tensors:
    """Every tensor of the checkpoint, in the model's order."""

    artifact: BinaryIO
    layout: DataLayout
    spec: ModelSpec
    source: WeightSource
    dtype: str
    format: str

    def all(self) -> Iterator[_Tensor]:
        spec = self.spec
        yield self._float(spec.embedding)
        rows = {part.weight.name: (matrix, at) for matrix, part, at in self._placed()}
        for layer in spec.layers:
            for norm in layer.norms:
                yield self._float(norm)
            for linear in layer.linears:
                matrix, at = rows[linear.weight.name]
                yield from self._linear(matrix, linear, at)
        yield self._float(spec.final_norm)
        # A tied head is written too: AutoGPTQ does not tie it after loading, and would generate only token 0.
        yield replace(self._float(spec.lm_head.weight), name=LM_HEAD)

    def _placed(self) -> Iterator[tuple[Matrix, Linear, int]]:
        """Each linear, with the matrix that holds it and its first row in that matrix."""
        for matrix in self.layout.inner_matrices():
            at = 0
            for part in matrix.parts:
                yield matrix, part, at
                at += part.out_features

    def _linear(self, matrix: Matrix, linear: Linear, at: int) -> Iterator[_Tensor]:
        if linear.bias is not None:
            yield self._float(linear.bias)
        if matrix.scheme is None:
            yield self._float(linear.weight)
            return
        scheme, module = matrix.scheme, linear.weight.name.removesuffix(".weight")
        out, in_ = linear.out_features, linear.in_features
        groups, fields = scheme.blocks(in_), _WORD_BITS // scheme.bits

        def qweight(file: BinaryIO, offset: int) -> None:
            self._write_codes(file, offset, matrix, linear, at)

        def qzeros(file: BinaryIO, offset: int) -> None:
            _write(file, offset, self._stored_zeros(matrix, linear, at))

        def scales(file: BinaryIO, offset: int) -> None:
            _write(file, offset, self._half_scales(matrix, linear, at).T)

        def g_idx(file: BinaryIO, offset: int) -> None:
            _write(file, offset, (np.arange(in_) // scheme.block_size).astype("<i4"))

        yield _Tensor(f"{module}.qweight", "I32", (in_ // fields, out), qweight)
        yield _Tensor(f"{module}.qzeros", "I32", (groups, out // fields), qzeros)
        yield _Tensor(f"{module}.scales", "F16", (groups, out), scales)
        yield _Tensor(f"{module}.g_idx", "I32", (in_,), g_idx)

    def _float(self, ref: TensorRef) -> _Tensor:
        def write(file: BinaryIO, offset: int) -> None:
            row_bytes = 2 * math.prod(ref.shape[1:])
            step = max(1, SLAB_BYTES // 4 // row_bytes)
            for start in range(0, ref.shape[0], step):
                rows = self.source.rows(ref, start, min(start + step, ref.shape[0]))
                _write(file, offset + start * row_bytes, self._narrowed(rows, ref))

        return _Tensor(ref.name, self.dtype, ref.shape, write)

    def _narrowed(self, rows: NDArray[Any], ref: TensorRef) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            narrow = rows.astype(_FLOATS[self.dtype])
        if not np.isfinite(narrow).all():
            raise NonFiniteWeightError(f"{ref.name} has a weight that is too large for {_TORCH[self.dtype]}")
        return narrow

    # A linear is rows at to at + out_features of the artifact's matrix.

    def _rows(self, slot: Slot | None, at: int, count: int) -> NDArray[Any]:
        """Read rows of a slot of the artifact's data file, (count, elements of a row)."""
        if slot is None:
            raise AssertionError("a quantized matrix has codes and scales")
        dtype = np.dtype(slot.dtype).newbyteorder("<")
        per_row = math.prod(slot.shape[1:])
        rows = np.empty((count, per_row), dtype)
        view = rows.view(np.uint8).reshape(-1).data
        self.artifact.seek(slot.offset + at * per_row * dtype.itemsize)
        while view:
            read = self.artifact.readinto(view)  # type: ignore[attr-defined]
            if not read:
                raise BuildError(f"the artifact's data file ends within {slot.name}")
            view = view[read:]
        return rows

    def _write_codes(self, file: BinaryIO, offset: int, matrix: Matrix, linear: Linear, at: int) -> None:
        """Write a qweight: transpose the artifact's codes, whose rows are outputs, a word at a time."""
        out, used = linear.out_features, linear.in_features * _bits(matrix) // 8
        step = max(1, SLAB_BYTES // used)
        for start in range(0, out, step):
            count = min(step, out - start)
            packed = self._rows(matrix.codes, at + start, count)[:, :used]  # (count, in * bits / 8)
            words = np.ascontiguousarray(packed).view("<u4").T  # (in * bits / 32, count)
            if count == out:
                _write(file, offset, words)
                return
            for row, line in enumerate(words):
                _write(file, offset + (row * out + start) * 4, line)

    def _half_scales(self, matrix: Matrix, linear: Linear, at: int) -> NDArray[np.float16]:
        stored = self._rows(matrix.scales, at, linear.out_features)  # (out, groups)
        with np.errstate(over="ignore"):
            half = stored.astype("<f2")
        if not np.array_equal(half.astype(stored.dtype), stored):
            raise BuildError(
                f"{linear.weight.name} has scales that a GPTQ checkpoint, which uses float16, cannot store"
            )
        return half

    def _stored_zeros(self, matrix: Matrix, linear: Linear, at: int) -> NDArray[np.uint8]:
        """The qzeros as bytes, (groups, out * bits / 8)."""
        bits, groups = _bits(matrix), matrix.scheme.blocks(linear.in_features) if matrix.scheme else 0
        if matrix.zero_points is None:
            zeros = np.full((linear.out_features, groups), 2 ** (bits - 1), np.uint8)
        else:
            zeros = unpack(self._rows(matrix.zero_points, at, linear.out_features), bits)[:, :groups]
        _check_zeros(linear, zeros, self.format)
        if self.format == V1:
            zeros = zeros - np.uint8(1)
        return pack(np.ascontiguousarray(zeros.T), bits)


def _check_zeros(linear: Linear, zeros: NDArray[np.uint8], format_: str) -> None:
    if format_ == V1 and not zeros.all():
        raise BuildError(
            f"{linear.weight.name} has a zero point of 0, which the format {V1} cannot store reliably",
            hint=f"use --emit {V2}, or build with --symmetric",
        )


def _bits(matrix: Matrix) -> int:
    if matrix.scheme is None:
        raise AssertionError("a float matrix has no codes")
    return matrix.scheme.bits


def _quantize_config(layout: DataLayout, format_: str) -> dict[str, Any]:
    scheme = common_scheme(layout)
    if scheme is None:
        raise AssertionError("check_emittable rejects a model without quantized linears")
    return {
        **_numbers(scheme),
        "desc_act": False,
        "static_groups": False,
        "true_sequential": True,
        "lm_head": False,
        "dynamic": _dynamic(layout, scheme) or None,
        "method": "gptq",
        "quant_method": "gptq",
        "format": format_,
        "checkpoint_format": format_,
        "pack_dtype": "int32",
        "damp_percent": 0.01,
        "model_file_base_name": SINGLE_FILE.removesuffix(".safetensors"),
        "meta": {"quantizer": [f"edgekit:{version('edgekit-llm')}"]},
    }


def _numbers(scheme: QuantizationScheme) -> dict[str, Any]:
    return {"bits": scheme.bits, "group_size": scheme.block_size, "sym": scheme.symmetric}


def _dynamic(layout: DataLayout, common: QuantizationScheme) -> dict[str, dict[str, Any]]:
    """The linears with other formats, as GPTQModel's ``dynamic``; other readers do not support it."""
    exceptions = {}
    for matrix, part in _linears(layout):
        if matrix.scheme != common:
            pattern = f"^{re.escape(part.weight.name.removesuffix('.weight'))}$"
            prefix = "-:" if matrix.scheme is None else "+:"
            exceptions[prefix + pattern] = {} if matrix.scheme is None else _numbers(matrix.scheme)
    return exceptions


def _json(value: Any) -> bytes:
    return (json_text(value, indent=2, sort_keys=True) + "\n").encode()
