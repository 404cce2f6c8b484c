"""The common interface of all checkpoints: a config, tensors that are read in pieces, and a tokenizer.

This is the first step of a build: source -> **Checkpoint** -> ModelSpec -> Plan -> quantize -> export. No tensor is
loaded whole: opening a checkpoint reads only headers, and :meth:`Checkpoint.rows` reads only the requested rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, TensorMismatchError, nearest
from ..tokenizer_file import load_tokenizer
from .chat_templates import NO_TEMPLATES, ChatTemplates
from .generation_config import NO_DEFAULTS, GenerationDefaults

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CheckpointFormat = Literal["huggingface", "gguf", "fp8", "gptq", "awq"]
_Opened = TypeVar("_Opened", bound="Checkpoint")


@dataclass(frozen=True)
class TensorInfo:
    """The location and storage type of a tensor.

    Args:
        name: The tensor's name in the container.
        dtype: ``float32``, ``float16``, ``bfloat16``, a GGUF block type such as ``Q4_1``, or another name from the
            container. Tensors of other types are listed but cannot be read.
        shape: Rows first: (out, in) or (size,).
        path: The file.
        offset: Offset of the first byte in the file.
        size_bytes: Length in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True, eq=False)
class QuantizedFormat:
    """The storage format of a weight that is already quantized.

    Args:
        bits: Width of a code, 4 or 8.
        symmetric: Whether every zero point is ``2**(bits-1)``.
        groups: int32 (in): the group of each input feature. A group has one scale and one zero point per output.
    """

    bits: int
    symmetric: bool
    groups: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class QuantizedRows:
    """Rows of a weight that is already quantized: ``w[n, k] = scales[n, g] * (code[n, k] - zeros[n, g])``.

    Args:
        format: Width and groups; g = groups[k].
        codes: uint8 (n, in * bits / 8), lowest bits first.
        scales: (n, groups) in the stored float type.
        zeros: uint8 (n, groups), not packed.
    """

    format: QuantizedFormat
    codes: NDArray[np.uint8]
    scales: NDArray[Any]
    zeros: NDArray[np.uint8]

    def dequantize(self) -> NDArray[np.float32]:
        """Compute the weight: float32 (n, in)."""
        codes = self.codes
        if self.format.bits == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), 2 * codes.shape[1])
        groups = self.format.groups
        zeros, scales = self.zeros.astype(np.float32), self.scales.astype(np.float32)
        result: NDArray[np.float32] = (codes.astype(np.float32) - zeros[:, groups]) * scales[:, groups]
        return result


@dataclass(frozen=True)
class SpecialTokens:
    """The token ids that generation needs.

    Args:
        bos_id: Beginning of sequence, or None if the tokenizer has no such token.
        eos_ids: Any of these ends an answer. The tokenizer's eos token is one of them.
        pad_id: Padding, or None.
        add_bos: Whether raw text is encoded with ``bos_id`` first. Chat templates write bos themselves, so rendered
            text is encoded without it. A prompt starts with exactly one bos either way.
    """

    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None
    add_bos: bool

    def __post_init__(self) -> None:
        if self.add_bos and self.bos_id is None:
            raise ValueError("add_bos is true but there is no bos_id")


class TokenizerFiles(Mapping[str, bytes]):
    """The tokenizer's files (name -> content), what they say, and the special token ids.

    ``tokenizer.json`` is always there; ``tokenizer_config.json`` and ``generation_config.json`` are there if the
    checkpoint has them.

    Args:
        files: The files.
        special: The ids that generation needs.
        templates: The chat templates.
        generation: What the source says about sampling and stop texts.
        notes: What was decided when the files were read, as in :attr:`Checkpoint.notes`.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        special: SpecialTokens,
        templates: ChatTemplates = NO_TEMPLATES,
        generation: GenerationDefaults = NO_DEFAULTS,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._files = dict(files)
        self.special = special
        self.generation = generation
        self.notes = (*notes, *templates.notes, *generation.notes)
        self._templates = templates

    def __getitem__(self, name: str) -> bytes:
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def chat_template(self) -> str | None:
        """The jinja source of the chat template, or None.

        Raises:
            TokenizerError: There are several templates, and none is the default.
        """
        return self._templates.chosen()

    @cached_property
    def backend(self) -> Tokenizer:
        """``tokenizer.json``, loaded with the tokenizers library.

        Raises:
            TokenizerError: The library rejects it.
        """
        return load_tokenizer(self._files["tokenizer.json"], "tokenizer.json")


class Checkpoint(ABC):
    """An open checkpoint. Use it as a context manager; reading is safe from several threads at once."""

    format: CheckpointFormat
    config: dict[str, Any]
    """The keys of Hugging Face's ``config.json``. GGUF metadata is translated to these keys."""
    tensors: Mapping[str, TensorInfo]
    """Every tensor by its name in the container (Hugging Face's or GGUF's)."""
    files: tuple[Path, ...]
    """The weight files, sorted by name."""
    names: tuple[str, ...] = ()
    """What the source calls the model, for instance ``general.name`` of a GGUF file; a hint, not a fact."""
    notes: tuple[str, ...] = ()
    """Decisions that the user should know of: one sentence each, without a full stop. ``edgekit build`` and ``plan``
    print them, and the manifest keeps them."""
    quantization: Mapping[str, Any] = MappingProxyType({})
    """How the checkpoint describes the quantization of its weights, for the manifest; empty for float weights."""
    holds_codes: bool = False
    """Whether some weights are quantized and their codes can be copied: they have a :meth:`quantized_format`."""

    @property
    @abstractmethod
    def tokenizer(self) -> TokenizerFiles:
        """The tokenizer's files and special ids, read on first use.

        Raises:
            TokenizerError: The tokenizer is missing or cannot be used.
        """

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read some rows of a matrix, or some elements of a vector.

        Args:
            name: A key of :attr:`tensors`.
            start: First row.
            stop: One past the last row.

        Returns:
            A new array of shape (stop - start, in) or (stop - start,). Safetensors files give the stored type: float32,
            float16 or ml_dtypes.bfloat16. GGUF tensors and GPTQ weights are float32. GGUF's interleaved q and k rows
            are returned as stored: only the model family knows which tensors are interleaved.

        Raises:
            TensorMismatchError: There is no tensor with that name.
            CheckpointError: The tensor's type or the file cannot be read.
            TruncatedFileError: The file has become shorter since it was opened.
            ValueError: The rows are outside the tensor, or the checkpoint is closed.
        """
        info = self.tensors.get(name)
        if info is None:
            where = self.files[0] if len(self.files) == 1 else self.files[0].parent
            suggestion = nearest(name, self.tensors)
            raise TensorMismatchError(
                f"{where} has no tensor {name!r}; it has {len(self.tensors)} others",
                hint="" if suggestion.startswith("known") else suggestion,  # a list of all names fills the screen
            )
        if len(info.shape) not in (1, 2):
            raise CheckpointError(
                f"{info.path}: tensor {name!r} has shape {info.shape}; only matrices and vectors can be read"
            )
        if not 0 <= start <= stop <= info.shape[0]:
            raise ValueError(f"cannot read rows {start} to {stop} of tensor {name!r}; it has {info.shape[0]} rows")
        self.check_readable(info)
        return self._read(info, start, stop)

    def quantized_format(self, name: str) -> QuantizedFormat | None:
        """The format of a weight whose codes can be copied without change; None for every other tensor.

        Raises:
            CheckpointError: The file's description of the weight is not consistent.
        """
        return None

    def quantized_rows(self, name: str, start: int, stop: int) -> QuantizedRows | None:
        """The codes of rows start..stop of a weight that has a :meth:`quantized_format`; None for every other tensor.

        Raises:
            CheckpointError: The file's description of the weight is not consistent, or the file cannot be read.
            ValueError: The rows are outside the weight, or the checkpoint is closed.
        """
        return None

    def check_readable(self, info: TensorInfo) -> None:
        """Check that the values of a tensor can be read, without reading them.

        Raises:
            CheckpointError: The tensor has a type that edgekit does not read.
        """
        return

    @abstractmethod
    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        """Implement :meth:`rows`; the arguments have been checked."""

    @abstractmethod
    def close(self) -> None:
        """Close the files. Closing twice is allowed."""

    def __enter__(self: _Opened) -> _Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def shortest_float(value: float) -> float:
    """The shortest decimal number that rounds to this float32: 9.99999997e-07 (GGUF's 1e-6) -> 1e-06."""
    return float(str(np.float32(value)))
