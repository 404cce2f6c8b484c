"""Reads an AWQ checkpoint's configuration: ``quantization_config`` in ``config.json``, or a file of its own.

AutoAWQ, transformers  quantization_config: quant_method "awq", bits, group_size, zero_point, version,
                       modules_to_not_convert
AutoAWQ before 0.1.8   quant_config.json: w_bit, q_group_size, zero_point, version
GPTQModel              quantize_config.json: method "awq", format, bits, group_size, sym
AutoRound              quant_method "auto-round", packing_format "auto_round:auto_awq", bits, group_size, sym,
                       extra_config with the modules that are left in float
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CorruptFileError, UnsupportedModelError
from ..json_file import is_there, read_json_object
from ..schema.fields import check_table
from ..schema.quantization import AWQ
from .gptq_config import COPY_KEY, FILE_NAME, refuse_transforms

_OLD_FILE = "quant_config.json"
_SYNONYMS = {
    "w_bit": "bits", "q_group_size": "group_size", "format": "version", "checkpoint_format": "version",
    "method": "quant_method",
}  # fmt: skip
_VERSIONS = ("gemm", "gemv")
_FLOAT_BITS = 16
_AUTO_ROUND = ("auto-round", "intel/auto-round")
_CARRIED_GROUPS = 32  # a group that is a multiple of this becomes one or several blocks of an artifact


@dataclass(frozen=True)
class AwqConfig:
    """The storage format of a checkpoint's linears.

    Args:
        group_size: Number of inputs that share a scale; -1 means all of them. None if nothing says it.
        zero_point: Whether the weights have zero points other than 8.
        float_modules: Parts of the names of modules that stay in float.
        source: The file, for error messages.
        content: What it says.
    """

    group_size: int | None
    zero_point: bool
    float_modules: tuple[str, ...]
    source: str
    content: Mapping[str, Any]

    def quantizes(self, module: str) -> bool:
        """Whether a module inside the layers is quantized."""
        return not any(part in module for part in self.float_modules)


def holds_groups(in_features: int, group_size: int) -> bool:
    """Whether an artifact can hold the codes of a linear as they are; otherwise, they are quantized again."""
    return group_size >= in_features or group_size % _CARRIED_GROUPS == 0


def _left_in_float(settings: object) -> Iterator[str]:
    """The modules to which AutoRound's ``extra_config`` gives a float type."""
    for module, own in settings.items() if isinstance(settings, dict) else ():
        bits = own.get("bits") if isinstance(own, dict) else None
        if isinstance(bits, int) and bits >= _FLOAT_BITS:
            yield module


def read_awq_config(folder: Path, config: Mapping[str, Any]) -> AwqConfig:
    """Read and check an AWQ checkpoint's configuration.

    Args:
        folder: The checkpoint.
        config: The content of its ``config.json``.

    Raises:
        UnsupportedModelError: The method, width or version is not supported, or the codes alone do not make the model.
        CorruptFileError: A value has the wrong type.
    """
    files = [(str(p), read_json_object(p)) for p in (folder / _OLD_FILE, folder / FILE_NAME) if is_there(p)]
    source, content = f"{folder / 'config.json'}, {COPY_KEY}", config.get(COPY_KEY)
    if not isinstance(content, dict) or not content:
        source, content = next(iter(files), (str(folder), {}))
    values = {_SYNONYMS.get(key, key): value for key, value in content.items() if value is not None}
    check_table(values, AWQ, source, CorruptFileError)
    for where, described in ((source, values), *files):
        refuse_transforms(described, where)
    method = values.get("quant_method", "awq")
    packing = values.get("packing_format")  # AutoRound writes the layout of several methods and names it here
    is_packed = method.lower() in _AUTO_ROUND and isinstance(packing, str) and packing.lower().endswith("awq")
    if method.lower() != "awq" and not is_packed:
        raise UnsupportedModelError(
            f"{source}: quant_method is {method!r}; the tensors have AWQ's layout, for which 'awq' is supported",
            hint="another method may need more than the codes: use the float checkpoint that they were made from",
        )
    bits = values.get("bits", 4)
    if bits != 4:
        raise UnsupportedModelError(f"{source}: bits is {bits!r}; supported for AWQ: 4")
    version = values.get("version", "gemm")
    if version.lower() not in _VERSIONS:
        raise UnsupportedModelError(
            f"{source}: version is {version!r}; supported for AWQ: {', '.join(_VERSIONS)}",
            hint="the other versions are made for single kernels: use the checkpoint in version gemm, or the float one",
        )
    zero_point = values.get("zero_point", not values.get("sym", False))
    modules = (*values.get("modules_to_not_convert", ()), *_left_in_float(values.get("extra_config")))
    return AwqConfig(values.get("group_size"), zero_point, modules, source, content)
