"""A checkpoint on the hub before its weights are fetched: its configuration and its tokenizer, for the plan.

Of a Hugging Face repository the small files are fetched, of a GGUF file its header. As in a folder, the tensors decide
whether weights that are described as quantized are (``hub_tensors.py``). Later, the build reads the real checkpoint
and compares it with what was planned.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, TruncatedFileError
from ..json_file import read_json_object
from ..leftovers import locked_folder
from ..progress import Progress, no_progress, phase
from ..schema.config import check_config
from ..units import format_bytes
from .awq_config import holds_groups, read_awq_config
from .base import Checkpoint, CheckpointFormat, QuantizedFormat, TensorInfo, TokenizerFiles
from .files import WeightFile
from .gguf_config import ROPE_FACTORS, config_from_metadata
from .gguf_header import GgufHeader, parse_header
from .gguf_tokenizer import tokenizer_from_metadata
from .gptq_config import COPY_KEY, FILE_NAME, read_gptq_config
from .hub import fetch_hub_bytes, fetch_hub_description
from .hub_tensors import hub_tensors
from .marks import stored_format
from .stored import check_supported, leftover_note
from .tokenizer_files import read_tokenizer_files

_FIRST_BYTES = 4 << 20  # the header of a GGUF file with 32 000 tokens; it doubles until the header is whole
_MOST_BYTES = 1 << 30  # thirty times the longest header of a public model
_KINDS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj")  # linears with each number of inputs
_PART = re.compile(r"-00001-of-(\d{5})\.gguf$")


class Preview(Checkpoint):
    """A checkpoint without tensors.

    Args:
        config: The keys of ``config.json``.
        tokenizer: The tokenizer.
        format_: The checkpoint's format.
        folder: Of the small files, for a GPTQ or AWQ configuration; None for a GGUF file.
        names: What the source calls the model.
        notes: What was decided about the weights.
    """

    def __init__(
        self,
        config: dict[str, Any],
        tokenizer: TokenizerFiles,
        format_: CheckpointFormat,
        folder: Path | None = None,
        names: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        self.format = format_
        self.config = config
        self.tensors = {}
        self.files = ()
        self.names, self.notes = names, notes
        self._tokenizer = tokenizer
        self._gptq, self._awq = None, None
        if folder is not None and format_ == "gptq":
            self._gptq = read_gptq_config(folder, config)
            self.quantization, self.holds_codes = self._gptq.content, True
        if folder is not None and format_ == "awq":
            self._awq = read_awq_config(folder, config)
            self.quantization = self._awq.content
            layers = range(config.get("num_hidden_layers") or 0)
            self.holds_codes = any(
                self.quantized_format(f"model.layers.{i}.{part}.weight") for i in layers for part in _KINDS
            )

    @property
    def tokenizer(self) -> TokenizerFiles:
        return self._tokenizer

    def quantized_format(self, name: str) -> QuantizedFormat | None:
        """What the configuration says of a weight; see :meth:`Checkpoint.quantized_format`."""
        module = name.removesuffix(".weight")
        inside, size = module.endswith("_proj"), self._in_features(module)
        if self._awq is not None and inside and self._awq.quantizes(module):
            group_size = self._awq.group_size or size
            carried = holds_groups(size, size if group_size == -1 else group_size)
            return _format(4, not self._awq.zero_point, group_size, size) if carried else None
        if self._gptq is None or not (inside or (module == "lm_head" and self.quantization.get("lm_head"))):
            return None
        found = self._gptq.for_module(module)
        return None if found is None else _format(found.bits, found.symmetric, found.group_size, size)

    def _in_features(self, module: str) -> int:
        hidden, heads = self.config["hidden_size"], self.config["num_attention_heads"]
        if module.endswith("o_proj"):
            return int(heads * (self.config.get("head_dim") or hidden // heads))
        return int(self.config["intermediate_size"] if module.endswith("down_proj") else hidden)

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        raise CheckpointError(f"{info.name} has not been fetched")

    def close(self) -> None:
        """There is nothing to close."""


def _format(bits: int, symmetric: bool, group_size: int, in_features: int) -> QuantizedFormat:
    groups = np.arange(in_features) // (in_features if group_size == -1 else group_size)
    return QuantizedFormat(bits, symmetric, groups.astype(np.int32))


def preview_hub(repository: str, commit: str, file: str = "", progress: Progress = no_progress) -> Preview:
    """Fetch what describes a model on the hub, and no weights.

    Args:
        repository: ``owner/name``.
        commit: The revision.
        file: A GGUF file of the repository; empty for safetensors.
        progress: Called with the bytes of the small files.

    Raises:
        SourceError: The repository cannot be fetched.
        CheckpointError: The configuration or the header cannot be used.
        TokenizerError: The tokenizer cannot be used.
    """
    if file:
        return _preview_gguf(repository, commit, file, progress)
    folder = fetch_hub_description(repository, commit, progress)
    config = read_json_object(folder / "config.json")
    check_config(config, f"config.json of {repository}")
    format_, notes = _stored_as(repository, commit, folder, config)
    return Preview(config, read_tokenizer_files(folder, config), format_, folder, (repository,), notes)


def _stored_as(
    repository: str, commit: str, folder: Path, config: Mapping[str, Any]
) -> tuple[CheckpointFormat, tuple[str, ...]]:
    """The format of the weights, and notes about it. Only weights that are described as quantized are looked at."""
    if not config.get(COPY_KEY) and not (folder / FILE_NAME).is_file():
        return "huggingface", ()
    tensors = hub_tensors(repository, commit, folder)
    found = stored_format(tensors, config)
    check_supported(found, tensors, config, repository)
    if found is None:
        return "huggingface", (leftover_note(folder, config),)
    formats: dict[str, CheckpointFormat] = {"GPTQ": "gptq", "AWQ": "awq"}
    return formats.get(found.name, "huggingface"), ()


def _preview_gguf(repository: str, commit: str, file: str, progress: Progress) -> Preview:
    report = phase(progress, f"reading the header of {file}")
    with locked_folder(Path(tempfile.gettempdir()), "edgekit-header-") as scratch:
        path = scratch / Path(file).name
        header = _fetch_header(repository, commit, file, path)
        names = _parts(file)
        holder = file  # of the rotary factors
        for i, part in enumerate(names[1:], 1):  # tensors that tell the model's options may be in any part
            report(i, len(names))
            more = _fetch_header(repository, commit, part, path)
            if ROPE_FACTORS not in header.tensors and ROPE_FACTORS in more.tensors:
                holder = part
            header = replace(header, tensors={**more.tensors, **header.tensors})
    factors = None
    if (info := header.tensors.get(ROPE_FACTORS)) is not None and info.dtype == "float32":
        raw = fetch_hub_bytes(repository, commit, holder, info.offset, info.offset + info.size_bytes)
        factors = np.frombuffer(raw, "<f4").tolist()
    config = config_from_metadata(header, factors)
    tokenizer = tokenizer_from_metadata(header.metadata, config, f"{repository}, {file}")
    return Preview(config, tokenizer, "gguf", names=(repository, file))


def _parts(file: str) -> Sequence[str]:
    match = _PART.search(file)
    if match is None:
        return [file]
    return [f"{file[: match.start()]}-{i:05}-of-{match[1]}.gguf" for i in range(1, int(match[1]) + 1)]


def _fetch_header(repository: str, commit: str, file: str, path: Path) -> GgufHeader:
    """Fetch more of a file's beginning until it holds the whole header."""
    path.write_bytes(b"")
    wanted = _FIRST_BYTES
    while True:
        have = path.stat().st_size
        with path.open("ab") as opened:
            opened.write(fetch_hub_bytes(repository, commit, file, have, wanted))
        opened_file = WeightFile(path)
        try:
            return parse_header(opened_file)
        except TruncatedFileError:
            if path.stat().st_size < wanted:  # this is the whole file
                raise
        finally:
            opened_file.close()
        wanted *= 2
        if wanted > _MOST_BYTES:
            raise CheckpointError(f"{repository}, {file}: its header is longer than {format_bytes(_MOST_BYTES // 2)}")
