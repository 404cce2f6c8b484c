"""Metadata keys of GGUF files that change what a model computes. A value that the decoder does not compute is refused.

Source: https://github.com/ggml-org/llama.cpp, ``llama-model.cpp``, where 0 means that an option is off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedModelError

# Key after the architecture's name -> the values with which the common decoder computes the model.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.causal": (True,),
    "attention.kv_lora_rank": (0,),
    "attention.q_lora_rank": (0,),
    "attention.shared_kv_layers": (0,),
    "attention.temperature_scale": (0, 1),
    "attention.temperature_length": (0,),
    "use_parallel_residual": (False,),
    "pooling_type": (0,),
    "expert_used_count": (0,),
    "rope.dimension_sections": (),
    "swin_norm": (False,),
}


def check_gguf_options(metadata: Mapping[str, Any], where: str, architecture: str, head_dim: int, context: int) -> None:
    """Check that the common decoder computes the model.

    Args:
        metadata: The file's.
        where: The file, for error messages.
        architecture: Its architecture.
        head_dim: Size of a head.
        context: ``context_length``.

    Raises:
        UnsupportedModelError: A key has a value that changes what the model computes.
    """
    allowed = {**_ALLOWED, "attention.scale": (0, head_dim**-0.5)}
    for key, values in allowed.items():
        found = metadata.get(f"{architecture}.{key}")
        if found is None or any(_same(found, value) for value in values):
            continue
        supported = ", ".join(f"{value:.6g}" if isinstance(value, float) else repr(value) for value in values)
        raise UnsupportedModelError(
            f"{where}: {architecture}.{key} is {found!r}, which edgekit does not compute; supported: "
            f"{supported or 'no such key'}"
        )
    window = metadata.get(f"{architecture}.attention.sliding_window")
    if window is not None and not (type(window) is int and (window == 0 or window >= context)):
        raise UnsupportedModelError(
            f"{where}: {architecture}.attention.sliding_window is {window!r}; supported: layers that attend to the "
            f"whole context of {context} tokens"
        )


def _same(found: Any, value: Any) -> bool:
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return isinstance(found, (int, float)) and math.isclose(found, value, rel_tol=1e-6)
