"""What a GPTQ checkpoint says of itself: ``quantize_config.json``, and its copy in ``config.json``.

Writers: AutoGPTQ, GPTQModel, optimum, transformers (the copy alone). ``method`` and ``format`` are GPTQModel's names
for what the others call ``quant_method`` and ``checkpoint_format``; files hold either or both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CorruptFileError, TensorMismatchError, UnsupportedModelError
from .files import read_json_object

FILE_NAME = "quantize_config.json"
COPY_KEY = "quantization_config"
COPY_NAME = f"config.json's {COPY_KEY}"
V1, V2 = "gptq", "gptq_v2"
BITS = (4, 8)
_SYNONYMS = {"method": "quant_method", "format": "checkpoint_format"}
_COMPARED = ("quant_method", "bits", "group_size", "desc_act", "sym", "checkpoint_format", "pack_dtype")


@dataclass(frozen=True)
class GptqConfig:
    """How the linears of a checkpoint are stored, as far as reading them goes.

    Args:
        bits: 4 or 8.
        group_size: Input features that share a scale; -1: all of them.
        desc_act: Whether columns were quantized in order of activation; then groups may be scattered over the columns.
        symmetric: Every zero point is ``2**(bits-1)``.
        label: ``gptq`` (zero points stored less one), ``gptq_v2`` (as they are), or None where the file does not say.
        dynamic: GPTQModel's exceptions: a regular expression of module names -> overriding values; one that begins
            with ``-:`` names modules left in float.
        source: Which file says so, for messages.
        content: The file as it is.
    """

    bits: int
    group_size: int
    desc_act: bool
    symmetric: bool
    label: str | None
    dynamic: Mapping[str, Mapping[str, Any]]
    source: str
    content: Mapping[str, Any]

    def of(self, module: str) -> GptqConfig | None:
        """What holds for one module, its exceptions applied; None when it is left in float.

        The first pattern that matches the beginning of the name decides, as GPTQModel's ``dynamic_get`` has it.
        """
        for pattern, overrides in self.dynamic.items():
            if re.match(pattern.removeprefix("-:").removeprefix("+:"), module) is None:
                continue
            if pattern.startswith("-:"):
                return None
            where = f"{self.source}, dynamic {pattern!r}"
            return replace(
                self,
                bits=_bits(overrides.get("bits", self.bits), where),
                group_size=_group_size(overrides.get("group_size", self.group_size), where),
                desc_act=_flag(overrides.get("desc_act", self.desc_act), "desc_act", where),
                symmetric=_flag(overrides.get("sym", self.symmetric), "sym", where),
            )
        return self


def is_gptq(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a folder's files say that its weights are in GPTQ's format.

    Args:
        folder: The checkpoint.
        config: The content of its ``config.json``.
    """
    copy = config.get(COPY_KEY)
    if isinstance(copy, dict) and copy:
        return _canonical(copy).get("quant_method") == "gptq"
    return (folder / FILE_NAME).is_file()


def read_gptq_config(folder: Path, config: Mapping[str, Any]) -> GptqConfig:
    """Read and check what a GPTQ checkpoint says of itself.

    Args:
        folder: The checkpoint.
        config: The content of its ``config.json``.

    Raises:
        TensorMismatchError: The two files contradict each other; names both.
        UnsupportedModelError: A width, method or format edgekit does not read.
        CorruptFileError: A value is missing or of the wrong kind.
    """
    path, copy = folder / FILE_NAME, config.get(COPY_KEY)
    said = [(str(path), read_json_object(path))] if path.is_file() else []
    if isinstance(copy, dict) and copy:
        said.append((f"{folder / 'config.json'}, {COPY_KEY}", copy))
    (source, content), *others = said
    values = _canonical(content)
    for other, found in others:
        _compare(source, values, other, _canonical(found))
        values = {**_canonical(found), **values}  # what one leaves out the other may say
    return _parse(source, values, content)


def _canonical(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content under the older names, which every writer still writes, without what is null."""
    values = {_SYNONYMS.get(key, key): value for key, value in content.items() if value is not None}
    values |= {key: content[key] for key in _SYNONYMS.values() if content.get(key) is not None}
    for key in _SYNONYMS.values():
        if isinstance(values.get(key), str):
            values[key] = values[key].lower()
    return values


def _compare(source: str, values: Mapping[str, Any], other: str, found: Mapping[str, Any]) -> None:
    for key in _COMPARED:
        if key in values and key in found and values[key] != found[key]:
            raise TensorMismatchError(
                f"{source} says {key} = {values[key]!r}, but {other} says {found[key]!r}",
                hint="the two describe the same weights: find out which is right and correct the other",
            )


def _parse(source: str, values: Mapping[str, Any], content: Mapping[str, Any]) -> GptqConfig:
    method = values.get("quant_method", "gptq")  # AutoGPTQ before 0.6 did not write it
    if method != "gptq":
        raise UnsupportedModelError(f"{source}: quant_method is {method!r}; supported: 'gptq'")
    label = values.get("checkpoint_format")
    if label not in (None, V1, V2):
        raise UnsupportedModelError(
            f"{source}: checkpoint_format is {label!r}; supported: {V1!r}, {V2!r}",
            hint="formats for one kernel (marlin, bitblas) are made from a gptq checkpoint: use that",
        )
    pack_dtype = values.get("pack_dtype", "int32")
    if pack_dtype != "int32":
        raise UnsupportedModelError(f"{source}: pack_dtype is {pack_dtype!r}; supported: 'int32'")
    return GptqConfig(
        bits=_bits(_needed(values, "bits", source), source),
        group_size=_group_size(_needed(values, "group_size", source), source),
        desc_act=_flag(values.get("desc_act", False), "desc_act", source),
        symmetric=_flag(values.get("sym", True), "sym", source),
        label=label,
        dynamic=_dynamic(values.get("dynamic", {}), source),
        source=source,
        content=content,
    )


def _needed(values: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in values:
        raise CorruptFileError(f"{where} lacks {key}")
    return values[key]


def _bits(value: Any, where: str) -> int:
    if type(value) is not int:
        raise CorruptFileError(f"{where}: bits is {value!r}; it must be a whole number")
    if value not in BITS:
        raise UnsupportedModelError(f"{where}: bits is {value}; supported: {', '.join(map(str, BITS))}")
    return value


def _group_size(value: Any, where: str) -> int:
    if type(value) is not int or (value < 1 and value != -1):
        raise CorruptFileError(f"{where}: group_size is {value!r}; it must be a whole number of at least 1, or -1")
    return value


def _flag(value: Any, key: str, where: str) -> bool:
    if not isinstance(value, bool):
        raise CorruptFileError(f"{where}: {key} is {value!r}; it must be true or false")
    return value


def _dynamic(value: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise CorruptFileError(f"{where}: dynamic must be a table of tables")
    for pattern in value:
        try:
            re.compile(pattern.removeprefix("-:").removeprefix("+:"))
        except re.error as error:
            raise CorruptFileError(f"{where}: dynamic: {pattern!r} is no regular expression: {error}") from None
    return value
