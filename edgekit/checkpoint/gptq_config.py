"""Reads a GPTQ checkpoint's configuration: ``quantize_config.json`` and its copy in ``config.json``.

AutoGPTQ, GPTQModel and optimum write both; transformers writes only the copy. GPTQModel uses the names ``method`` and
``format`` for ``quant_method`` and ``checkpoint_format``; a file may have either name or both.

Some keys say that the codes alone do not make the model: a rotation of activations that is computed at run time, or a
low-rank correction. :func:`refuse_transforms` refuses them, for every format of weights that edgekit reads.

Source: GPTQModel (https://github.com/ModelCloud/GPTQModel), ``quantization/config.py``, and ``models/loader.py``, which
attaches the Hadamard transform of ``rotation`` to the inputs of ``down_proj``; compressed-tensors
(https://github.com/vllm-project/compressed-tensors), ``transform/transform_config.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CorruptFileError, TensorMismatchError, UnsupportedModelError
from ..json_file import is_there, read_json_object
from ..schema.fields import Table, check_table, shown
from ..schema.quantization import GPTQ
from .module_pattern import check_patterns, matches_start

FILE_NAME = "quantize_config.json"
COPY_KEY = "quantization_config"

V1, V2 = "gptq", "gptq_v2"
BITS = (4, 8)
_SYNONYMS = {"method": "quant_method", "format": "checkpoint_format"}
_Value = TypeVar("_Value")
# Keys that change what the stored weights compute, and what they stand for.
_TRANSFORMS = {
    "rotation": "the inputs of down_proj have to be rotated by a Hadamard matrix at run time",
    "transform_config": "activations have to be transformed at run time",
    "adapter": "a low-rank adapter corrects the errors of the codes",
}
_COMPARED = ("quant_method", "bits", "group_size", "desc_act", "sym", "checkpoint_format", "pack_dtype")


@dataclass(frozen=True)
class GptqConfig:
    """The storage format of a checkpoint's linears.

    Args:
        bits: 4 or 8.
        group_size: Number of input features that share a scale; -1 means all of them.
        desc_act: Whether columns were quantized in activation order. Their groups may then be scattered.
        symmetric: Whether every zero point is ``2**(bits-1)``.
        label: ``gptq`` (zero points are stored minus one), ``gptq_v2`` (stored unchanged), or None if the file has no
            label.
        dynamic: GPTQModel's per-module exceptions: a regular expression for module names -> overriding values. An
            expression that begins with ``-:`` selects modules that stay in float.
        source: The file, for error messages.
        content: The file's content.
    """

    bits: int
    group_size: int
    desc_act: bool
    symmetric: bool
    label: str | None
    dynamic: Mapping[str, Mapping[str, Any]]
    source: str
    content: Mapping[str, Any]

    def for_module(self, module: str) -> GptqConfig | None:
        """The configuration of one module with its exceptions applied; None if the module stays in float.

        The first pattern that matches the beginning of the name applies, as in GPTQModel's ``dynamic_get``.
        """
        for pattern, overrides in self.dynamic.items():
            if not matches_start(_expression(pattern), module):
                continue
            if pattern.startswith("-:"):
                return None
            where = f"{self.source}, dynamic {pattern!r}"
            return replace(
                self,
                bits=_bits(_or(overrides.get("bits"), self.bits), where),
                group_size=_or(overrides.get("group_size"), self.group_size),
                desc_act=_or(overrides.get("desc_act"), self.desc_act),
                symmetric=_or(overrides.get("sym"), self.symmetric),
            )
        return self


def read_gptq_config(folder: Path, config: Mapping[str, Any]) -> GptqConfig:
    """Read and check a GPTQ checkpoint's configuration.

    Args:
        folder: The checkpoint.
        config: The content of its ``config.json``.

    Raises:
        TensorMismatchError: The two files contradict each other; the message names both.
        UnsupportedModelError: Nothing describes the weights, or the width, method or format is not supported.
        CorruptFileError: A value is missing or has the wrong type.
    """
    path, copy = folder / FILE_NAME, config.get(COPY_KEY)
    descriptions = [(str(path), read_json_object(path))] if is_there(path) else []
    if isinstance(copy, dict) and copy:
        descriptions.append((f"{folder / 'config.json'}, {COPY_KEY}", copy))
    if not descriptions:
        raise UnsupportedModelError(
            f"the weights in {folder} are in GPTQ format, but {FILE_NAME} is missing and config.json has no {COPY_KEY}",
            hint=f"fetch {FILE_NAME} from where the weights are from: width and group size are not in the weights",
        )
    for where, described in descriptions:
        refuse_transforms(described, where)
    (source, content), *others = descriptions
    values = _canonical(content)
    for other_source, other_content in others:
        other_values = _canonical(other_content)
        _compare(source, values, other_source, other_values)
        values = {**other_values, **values}  # each may have keys that the other lacks
    return _parse(source, values, content)


def refuse_transforms(values: Mapping[str, Any], source: str) -> None:
    """Refuse weights that make the model only together with something that edgekit does not compute.

    Args:
        values: A description of quantized weights.
        source: Where it is from, for the message.

    Raises:
        UnsupportedModelError: A key says so.
    """
    for key, what in _TRANSFORMS.items():
        if values.get(key) not in (None, False, "", {}, []):
            raise UnsupportedModelError(
                f"{source}: {key} is {shown(values[key])}: {what}, which edgekit does not compute",
                hint="use the float checkpoint that the weights were quantized from, or one quantized without "
                f"{key}; edgekit build --rotate rotates float weights",
            )


def _canonical(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the older key names and without null values."""
    values = {_SYNONYMS.get(key, key): value for key, value in content.items() if value is not None}
    values |= {key: content[key] for key in _SYNONYMS.values() if content.get(key) is not None}
    for key in _SYNONYMS.values():
        if isinstance(values.get(key), str):
            values[key] = values[key].lower()
    return values


def _compare(source: str, values: Mapping[str, Any], other_source: str, other_values: Mapping[str, Any]) -> None:
    for key in _COMPARED:
        if key in values and key in other_values and values[key] != other_values[key]:
            raise TensorMismatchError(
                f"{source} says {key} = {values[key]!r}, but {other_source} says {other_values[key]!r}",
                hint="both describe the same weights: find out which one is right and correct the other",
            )


def _parse(source: str, values: Mapping[str, Any], content: Mapping[str, Any]) -> GptqConfig:
    check_table(values, Table(GPTQ, required=("bits", "group_size")), source, CorruptFileError)
    dynamic = {key: _canonical(value or {}) for key, value in values.get("dynamic", {}).items()}
    check_patterns(map(_expression, dynamic), f"{source}: dynamic")
    label = values.get("checkpoint_format")
    _check_format(values, (V1, V2), source)
    for pattern, overrides in dynamic.items():
        if not pattern.startswith("-:"):
            where = f"{source}, dynamic {pattern!r}"
            check_table(overrides, GPTQ, where, CorruptFileError)
            refuse_transforms(overrides, where)
            _check_format(overrides, (V1, V2) if label is None else (label,), where)
    return GptqConfig(
        bits=_bits(values["bits"], source),
        group_size=values["group_size"],
        desc_act=values.get("desc_act", False),
        symmetric=values.get("sym", True),
        label=label,
        dynamic=dynamic,
        source=source,
        content=content,
    )


def _check_format(values: Mapping[str, Any], labels: Sequence[str], where: str) -> None:
    """Refuse codes that are stored in another way than GPTQ's."""
    method = values.get("quant_method", "gptq")  # AutoGPTQ before 0.6 did not write it
    if method != "gptq":
        raise UnsupportedModelError(f"{where}: quant_method is {method!r}; supported: 'gptq'")
    label = "marlin" if values.get("is_marlin_format") else values.get("checkpoint_format")
    if label is not None and label not in labels:
        raise UnsupportedModelError(
            f"{where}: checkpoint_format is {label!r}; supported: {', '.join(map(repr, labels))}",
            hint="kernel-specific formats (marlin, bitblas) are made from a gptq checkpoint; use that checkpoint",
        )
    pack_dtype = values.get("pack_dtype", "int32")
    if pack_dtype != "int32":
        raise UnsupportedModelError(f"{where}: pack_dtype is {pack_dtype!r}; supported: 'int32'")


def _expression(pattern: str) -> str:
    return pattern.removeprefix("-:").removeprefix("+:")


def _or(value: _Value | None, default: _Value) -> _Value:
    return default if value is None else value


def _bits(value: int, where: str) -> int:
    if value not in BITS:
        raise UnsupportedModelError(f"{where}: bits is {value}; supported: {', '.join(map(str, BITS))}")
    return value
