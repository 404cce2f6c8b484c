"""Tells by its tensors in which format a folder's weights are stored. Each format leaves tensors of its own.

``config.json`` does not decide: weights that were merged or converted back to float often keep a
``quantization_config``, and MLX and others write quantized weights without one.

Sources: the named projects' own code that saves these tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .base import TensorInfo

_ORIGINAL = "use the float checkpoint that this one was quantized from"
_RESTORED = f"{_ORIGINAL}, or let transformers restore one: model.dequantize(), then model.save_pretrained(folder)"
_MLX = f"{_ORIGINAL}, or let MLX restore one: mlx_lm.convert --dequantize --hf-path FOLDER --mlx-path NEW_FOLDER"


@dataclass(frozen=True)
class StoredFormat:
    """A format of quantized weights.

    Args:
        name: The format's name for people. For a format that edgekit reads, its reader is found by this name.
        tensors: A regular expression; a tensor whose name it matches at the end is a mark of the format.
        dtypes: Types in the file; a matrix of weights in one of them is a mark of the format.
        hint: The next step for a format that edgekit does not read.
    """

    name: str
    tensors: str = ""
    dtypes: tuple[str, ...] = ()
    hint: str = _ORIGINAL


# The first format with a mark among the tensors is the one: the formats whose marks also appear in others come last.
FORMATS = (
    StoredFormat("EXL3", r"\.(trellis|suh|svh)"),
    StoredFormat("EXL2", r"\.(q_weight|q_invperm|q_scale_max)"),
    StoredFormat(
        "bitsandbytes, 4 bits",
        r"\.(quant_state\.bitsandbytes__\w+|absmax|quant_map|nested_absmax|nested_quant_map)",
        hint=_RESTORED,
    ),
    StoredFormat("bitsandbytes, 8 bits", r"\.(SCB|weight_format)", hint=_RESTORED),
    StoredFormat("MLX", r"\.biases", hint=_MLX),
    StoredFormat("compressed-tensors", r"\.(weight_packed|weight_shape|weight_global_scale|weight_zero_point)"),
    StoredFormat("NVFP4", r"\.weight_scale_2"),
    StoredFormat("MXFP4", r"(_|\.)blocks", ("F4", "F8_E8M0")),
    StoredFormat("AQLM", r"\.codebooks"),
    StoredFormat("HQQ", r"\.(W_q|nbits)"),
    StoredFormat("quanto", r"\.weight\._(data|scale|shift|zeropoint|packed)(\._data)?"),
    StoredFormat(
        "torchao", r"(\._weight_|:_?(weight_)?)(qdata|scale|zero_point|int_data|(tensor_impl|layout_tensor).*)"
    ),
    StoredFormat("VPTQ", r"\.(centroids|res_centroids)(\.weight)?"),
    StoredFormat("QuIP#", r"\.(Qidxs(_\d)?|SU|SV)"),
    StoredFormat("SqueezeLLM", r"\.lookup_table"),
    StoredFormat("SpQR", r"\.(dense_weights|row_offsets)"),
    StoredFormat("HIGGS", r"\.tables2?"),
    StoredFormat("EETQ", r"\.weight_scales"),
    StoredFormat("Marlin", r"\.(B|B_24|B_meta|workspace)"),
    StoredFormat("fp8", dtypes=("F8_E4M3", "F8_E5M2")),
    StoredFormat("fp8 FNUZ", dtypes=("F8_E4M3FNUZ", "F8_E5M2FNUZ")),
    StoredFormat("8-bit integers", dtypes=("I8",)),
    StoredFormat("AWQ", r"\.qweight"),
    StoredFormat("GPTQ", r"\.qweight"),
    StoredFormat("integers", dtypes=("U8", "U16", "U32", "I16", "I32", "U64", "I64")),
)
_BY_NAME = {found.name: found for found in FORMATS}


def stored_format(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> StoredFormat | None:
    """Find the format of a checkpoint's weights.

    Args:
        tensors: Every tensor of the checkpoint.
        config: The content of ``config.json``; it tells formats with the same tensors from each other.

    Returns:
        The format, or None for float weights.
    """
    for format_ in FORMATS:
        if mark_of(format_, tensors.values()) is not None:
            return _awq_or_gptq(tensors, config) if format_.tensors == _BY_NAME["GPTQ"].tensors else format_
    return None


def mark_of(format_: StoredFormat, tensors: Iterable[TensorInfo]) -> TensorInfo | None:
    """The first tensor that is a mark of a format, or None."""
    pattern = re.compile(rf".*(?:{format_.tensors})" if format_.tensors else r"(?!)", re.DOTALL)
    for info in tensors:
        if pattern.fullmatch(info.name) or (info.dtype in format_.dtypes and _is_weight(info)):
            return info
    return None


def _is_weight(info: TensorInfo) -> bool:
    return len(info.shape) >= 2 and info.name.endswith("weight")


def _awq_or_gptq(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> StoredFormat:
    """Tell AWQ from GPTQ: AWQ packs the codes of a word along the outputs, GPTQ along the inputs."""
    settings = config.get("quantization_config")
    method = str(settings.get("quant_method")).lower() if isinstance(settings, dict) else ""
    if method in ("awq", "gptq"):
        return _BY_NAME[method.upper()]
    for name, info in tensors.items():
        scales = tensors.get(f"{name.removesuffix('.qweight')}.scales")
        if name.endswith(".qweight") and scales is not None and len(scales.shape) == len(info.shape) == 2:
            return _BY_NAME["GPTQ" if scales.shape[1] == info.shape[1] else "AWQ"]
    return _BY_NAME["GPTQ"]
