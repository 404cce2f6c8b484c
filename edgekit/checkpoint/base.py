"""What every checkpoint offers, whatever container holds it: a config, tensors read in pieces, a tokenizer.

First stop of the flow: source -> **Checkpoint** -> ModelSpec -> Plan -> quantize -> export. Nothing is loaded whole:
opening reads headers only, :meth:`Checkpoint.rows` reads the rows asked for and no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, TensorMismatchError, nearest

_Opened = TypeVar("_Opened", bound="Checkpoint")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and how it is stored.

    Args:
        name: The container's own name for it.
        dtype: ``float32``, ``float16``, ``bfloat16``, a GGUF block type such as ``Q4_1``, or whatever else the
            container says (listed, but an error when read).
        shape: Rows first: (out, in) or (size,).
        path: The file.
        offset: First byte in the file.
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
    """How a weight that is quantized already is stored.

    Args:
        bits: Width of a code, 4 or 8.
        symmetric: Every zero point is ``2**(bits-1)``.
        groups: int32 (in): the group of each input feature; a group has one scale and zero point per output.
    """

    bits: int
    symmetric: bool
    groups: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class QuantizedRows:
    """Rows of a weight that is quantized already: ``w[n, k] = scales[n, g] * (code[n, k] - zeros[n, g])``.

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
        """The weight as float32 (n, in)."""
        codes = self.codes
        if self.format.bits == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), 2 * codes.shape[1])
        groups = self.format.groups
        zeros, scales = self.zeros.astype(np.float32), self.scales.astype(np.float32)
        result: NDArray[np.float32] = (codes.astype(np.float32) - zeros[:, groups]) * scales[:, groups]
        return result


@dataclass(frozen=True)
class SpecialTokens:
    """The ids generation needs.

    Args:
        bos_id: Begin of sequence, or None where the tokenizer has none.
        eos_ids: Any of these ends an answer; the tokenizer's own eos is among them.
        pad_id: Padding, or None.
        add_bos: Encoding raw text puts ``bos_id`` first. A chat template writes bos itself, so text that a template
            rendered is encoded without; either way there is exactly one.
    """

    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None
    add_bos: bool

    def __post_init__(self) -> None:
        if self.add_bos and self.bos_id is None:
            raise ValueError("add_bos is true but there is no bos_id")


class TokenizerFiles(Mapping[str, bytes]):
    """The tokenizer as files of an artifact: name -> content, and the ids that go with it.

    Names: ``tokenizer.json`` always; ``tokenizer_config.json``, ``chat_template.jinja``, ``generation_config.json``
    where the checkpoint has them.
    """

    def __init__(self, files: Mapping[str, bytes], special: SpecialTokens) -> None:
        self._files = dict(files)
        self.special = special

    def __getitem__(self, name: str) -> bytes:
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def chat_template(self) -> str | None:
        """The jinja source of the chat template, or None."""
        content = self._files.get("chat_template.jinja")
        return None if content is None else content.decode("utf-8")


class Checkpoint(ABC):
    """An open checkpoint. Use it as a context manager; reading is safe from several threads at once."""

    format: Literal["huggingface", "gguf", "gptq"]
    config: dict[str, Any]
    """The keys of Hugging Face's ``config.json``; for GGUF translated to them."""
    tensors: Mapping[str, TensorInfo]
    """Every tensor under the container's own name (Hugging Face's or GGUF's)."""
    files: tuple[Path, ...]
    """The weight files, in the order of their names: what a manifest hashes."""

    @property
    @abstractmethod
    def tokenizer(self) -> TokenizerFiles:
        """Tokenizer files and special ids, read at first use.

        Raises:
            TokenizerError: There is none, or it cannot be used.
        """

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read some rows of a matrix, or some elements of a vector.

        Args:
            name: A key of :attr:`tensors`.
            start: First row.
            stop: One past the last row.

        Returns:
            (stop - start, in) or (stop - start,), a fresh array. From safetensors in the stored type: float32, float16
            or ml_dtypes.bfloat16. From GGUF always float32, and so are weights that GPTQ quantized. GGUF's interleaved
            q and k rows come as they are stored: only a model family knows which tensors those are.

        Raises:
            TensorMismatchError: No tensor of that name.
            CheckpointError: A type that cannot be read, or the file could not be read.
            TruncatedFileError: The file became shorter since it was opened.
            ValueError: Rows outside the tensor, or the checkpoint is closed.
        """
        info = self.tensors.get(name)
        if info is None:
            where = self.files[0] if len(self.files) == 1 else self.files[0].parent
            close = nearest(name, self.tensors)
            raise TensorMismatchError(
                f"{where} has no tensor {name!r}, but {len(self.tensors)} others",
                hint="" if close.startswith("known") else close,  # all their names would fill the screen
            )
        if len(info.shape) not in (1, 2):
            raise CheckpointError(
                f"{info.path}: tensor {name!r} has shape {info.shape}; only matrices and vectors can be read"
            )
        if not 0 <= start <= stop <= info.shape[0]:
            raise ValueError(f"rows {start} to {stop} of tensor {name!r}, which has {info.shape[0]}")
        return self._read(info, start, stop)

    def quantized_format(self, name: str) -> QuantizedFormat | None:
        """How a weight is stored whose codes can be taken over as they are; None for every other tensor.

        Raises:
            CheckpointError: What the file says of it makes no sense.
        """
        return None

    def quantized_rows(self, name: str, start: int, stop: int) -> QuantizedRows | None:
        """Rows start..stop of such a weight as codes; None for every other tensor.

        Raises:
            CheckpointError: What the file says of it makes no sense, or it could not be read.
            ValueError: Rows outside the weight, or the checkpoint is closed.
        """
        return None

    @abstractmethod
    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        """Do the work of :meth:`rows` with arguments known to be good."""

    @abstractmethod
    def close(self) -> None:
        """Close the files; harmless when done twice."""

    def __enter__(self: _Opened) -> _Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def shortest_float(value: float) -> float:
    """The shortest decimal that is this float32: 9.99999997e-07 (how GGUF stores 1e-6) -> 1e-06."""
    return float(str(np.float32(value)))
