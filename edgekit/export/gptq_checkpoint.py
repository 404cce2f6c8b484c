"""Writes a checkpoint in the format of AutoGPTQ and GPTQModel from a build's own codes (``--emit gptq``).

    model.safetensors        per linear qweight, qzeros, scales, g_idx, [bias], laid out as ``checkpoint/gptq.py`` draws
                             them; embedding, norms and lm_head in the source's float16 or bfloat16, float16 where
                             they were scaled or rotated
    quantize_config.json     and the same as quantization_config in config.json
    tokenizer files

Groups are the artifact's blocks. Codes, scales and zero points are those of ``model.onnx.data``, which is read back; no
weight is quantized a second time. Memory holds one slab of one linear.

Format v1 stores zero - 1. A zero point of 0 would become 2**bits - 1, which GPTQModel does not turn back into 0 (it
adds to whole words, and the carry changes the next one), so weights that have one are refused there; ``gptq_v2`` holds
all.

Source: https://github.com/huggingface/safetensors#format; GPTQModel ``quantization/config.py``.
"""

from __future__ import annotations

import json
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
from ..checkpoint.huggingface import SINGLE_FILE
from ..errors import BuildError, NonFiniteWeightError, UnsupportedModelError
from ..layout import DataLayout, Matrix, Slot, common_scheme
from ..models.spec import Linear, ModelSpec, TensorRef
from ..quantize.packing import pack, unpack
from ..scheme import QuantizationScheme
from ..weights.source import WeightSource

FORMATS = (V1, V2)
LM_HEAD = "lm_head.weight"
SLAB_BYTES = 32 << 20  # codes held at once, and as much again while their words change places
_WORD_BITS = 32
_FLOATS = {"F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
_TORCH = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file and what writes it at an offset."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    write: Callable[[BinaryIO, int], None]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * (4 if self.dtype == "I32" else 2)


def check_emittable(layout: DataLayout) -> None:
    """Refuse, before any work, a model whose weights the format cannot hold.

    Raises:
        UnsupportedModelError: No linear is quantized, or one has widths that do not fill the format's words.
    """
    if common_scheme(layout) is None:
        raise UnsupportedModelError(
            "a GPTQ checkpoint holds quantized linears, but this build keeps them in float", hint="give --bits 4 or 8"
        )
    for matrix, part in _linears(layout):
        if matrix.scheme is not None:
            fields = _WORD_BITS // matrix.scheme.bits
            if part.in_features % fields or part.out_features % fields:
                raise UnsupportedModelError(
                    f"{part.weight.name} is {part.out_features} x {part.in_features}; a GPTQ checkpoint packs "
                    f"{fields} codes of {matrix.scheme.bits} bits into a word along both, so both must be multiples"
                )


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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the checkpoint.

    Args:
        folder: An existing, empty folder.
        data: The artifact's ``model.onnx.data``, finished; quantized with float16 scales.
        layout: Where everything lies in it.
        spec: The model.
        source: Its weights, for what stays in float.
        config: The source's ``config.json``.
        tokenizer: Name -> content of the tokenizer's files.
        format_: ``gptq`` or ``gptq_v2``.
        progress: Called with (bytes done, bytes in all).

    Raises:
        BuildError: A zero point or scale that the format cannot hold.
        NonFiniteWeightError: A float weight too large for float16.
        CheckpointError: The source cannot be read.
    """
    if spec.rope.scaling == "factors":
        raise UnsupportedModelError("config.json has no words for the rotary factors of this GGUF file")
    # A scaled model's norms are the source's no more: bfloat16's 8 bits would not hold them.
    stored = {source.rows(ref, 0, 1).dtype for ref in (spec.embedding, spec.layers[0].input_norm)}
    dtype = "BF16" if stored == {_FLOATS["BF16"]} else "F16"
    with data.open("rb", buffering=0) as artifact:
        tensors = list(_Tensors(artifact, layout, spec, source, dtype, format_).all())
        _write_safetensors(folder / SINGLE_FILE, tensors, progress)
    said = _quantize_config(layout, format_)
    kept = {key: value for key, value in config.items() if key not in (COPY_KEY, "dtype", "torch_dtype")}
    architectures = [f"{spec.model_type.capitalize()}ForCausalLM"]
    ours = {"torch_dtype": _TORCH[dtype], COPY_KEY: said}
    (folder / FILE_NAME).write_bytes(_json(said))
    for name, content in tokenizer.items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_bytes(_json({"architectures": architectures, **kept, **ours}))


def _linears(layout: DataLayout) -> Iterator[tuple[Matrix, Linear]]:
    for matrix in layout.inner_matrices():
        for part in matrix.parts:
            yield matrix, part


def _write_safetensors(path: Path, tensors: list[_Tensor], progress: Callable[[int, int], None]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        offsets = [end, end := end + tensor.size_bytes]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
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


class _Tensors:
    """Every tensor of the checkpoint, in the model's order."""

    def __init__(
        self, artifact: BinaryIO, layout: DataLayout, spec: ModelSpec, source: WeightSource, dtype: str, format_: str
    ) -> None:
        self._artifact = artifact
        self._layout = layout
        self._spec = spec
        self._source = source
        self._dtype = dtype
        self._format = format_

    def all(self) -> Iterator[_Tensor]:
        spec = self._spec
        yield self._float(spec.embedding)
        rows = {part.weight.name: (matrix, at) for matrix, part, at in self._placed()}
        for layer in spec.layers:
            yield self._float(layer.input_norm)
            yield self._float(layer.post_attention_norm)
            for linear in layer.linears:
                matrix, at = rows[linear.weight.name]
                yield from self._linear(matrix, linear, at)
        yield self._float(spec.final_norm)
        # A tied head is written as well: AutoGPTQ does not tie it again after loading, and answers token 0.
        yield replace(self._float(spec.lm_head.weight), name=LM_HEAD)

    def _placed(self) -> Iterator[tuple[Matrix, Linear, int]]:
        """Each linear with the matrix that holds it and its first row there."""
        for matrix in self._layout.inner_matrices():
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
                rows = self._source.rows(ref, start, min(start + step, ref.shape[0]))
                _write(file, offset + start * row_bytes, self._narrowed(rows, ref))

        return _Tensor(ref.name, self._dtype, ref.shape, write)

    def _narrowed(self, rows: NDArray[Any], ref: TensorRef) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            narrow = rows.astype(_FLOATS[self._dtype])
        if not np.isfinite(narrow).all():
            raise NonFiniteWeightError(f"{ref.name} holds a weight that {_TORCH[self._dtype]} cannot hold")
        return narrow

    # What the artifact holds of one linear: rows at .. at + out of its matrix

    def _rows(self, slot: Slot | None, at: int, count: int) -> NDArray[Any]:
        if slot is None:
            raise AssertionError("a quantized matrix has codes and scales")
        dtype = np.dtype(slot.dtype).newbyteorder("<")
        per_row = math.prod(slot.shape[1:])
        rows = np.empty((count, per_row), dtype)
        view = rows.view(np.uint8).reshape(-1).data
        self._artifact.seek(slot.offset + at * per_row * dtype.itemsize)
        while view:
            read = self._artifact.readinto(view)  # type: ignore[attr-defined]
            if not read:
                raise BuildError(f"the artifact's data end within {slot.name}")
            view = view[read:]
        return rows

    def _write_codes(self, file: BinaryIO, offset: int, matrix: Matrix, linear: Linear, at: int) -> None:
        """Codes of an output lie side by side in the artifact; in a qweight the outputs do, word by word."""
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
            raise BuildError(f"{linear.weight.name} has scales that float16, which a GPTQ checkpoint has, cannot hold")
        return half

    def _stored_zeros(self, matrix: Matrix, linear: Linear, at: int) -> NDArray[np.uint8]:
        """qzeros as bytes: (groups, out * bits / 8)."""
        bits, groups = _bits(matrix), matrix.scheme.blocks(linear.in_features) if matrix.scheme else 0
        if matrix.zero_points is None:
            zeros = np.full((linear.out_features, groups), 2 ** (bits - 1), np.uint8)
        else:
            zeros = unpack(self._rows(matrix.zero_points, at, linear.out_features), bits)[:, :groups]
        if self._format == V1:
            if not zeros.all():
                raise BuildError(
                    f"{linear.weight.name} has a zero point of 0, which readers of format {V1} take for another",
                    hint=f"--emit {V2}, or build with --symmetric",
                )
            zeros = zeros - np.uint8(1)
        return pack(np.ascontiguousarray(zeros.T), bits)


def _bits(matrix: Matrix) -> int:
    if matrix.scheme is None:
        raise AssertionError("a float matrix has no codes")
    return matrix.scheme.bits


def _quantize_config(layout: DataLayout, format_: str) -> dict[str, Any]:
    scheme = common_scheme(layout)
    if scheme is None:
        raise AssertionError("check_emittable refuses a model without quantized linears")
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
    """The linears that differ, in GPTQModel's words; other readers do not know them."""
    exceptions = {}
    for matrix, part in _linears(layout):
        if matrix.scheme != common:
            pattern = f"^{re.escape(part.weight.name.removesuffix('.weight'))}$"
            prefix = "-:" if matrix.scheme is None else "+:"
            exceptions[prefix + pattern] = {} if matrix.scheme is None else _numbers(matrix.scheme)
    return exceptions


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
