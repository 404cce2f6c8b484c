"""Makes ``genai_config.json``, which lets onnxruntime-genai open the artifact's folder.

onnxruntime-genai rejects unknown keys, so edgekit's own metadata is in ``edgekit.json``. Keys:
https://onnxruntime.ai/docs/genai/reference/config.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..models.spec import ModelSpec

# The names that decoder.py gives to the graph's inputs and outputs.
_INPUTS = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "past_key_names": "past_key_values.%d.key",
    "past_value_names": "past_key_values.%d.value",
}
_OUTPUTS = {"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}


def ending_ids(bos_id: int | None, eos_ids: Sequence[int], pad_id: int | None) -> tuple[list[int], int]:
    """The eos tokens and the pad token that onnxruntime-genai gets. It needs at least one of each.

    Without a pad token it pads with the first eos token. Without an eos token, onnxruntime-genai ends an answer at the
    pad token (``src/config.cpp``), which it takes for token 0 if none is given. The bos token is the best one for that:
    a model that writes it begins another document.
    """
    pad = next((i for i in (pad_id, *eos_ids, bos_id) if i is not None), 0)
    return list(eos_ids) or [pad], pad


def genai_config(
    spec: ModelSpec,
    *,
    context_length: int,
    max_length: int,
    bos_id: int | None,
    eos_ids: Sequence[int],
    pad_id: int | None,
    sampling: Mapping[str, float],
    execution_providers: Sequence[str],
) -> dict[str, Any]:
    """Make the file's content.

    Args:
        spec: The model.
        context_length: Positions that the graph's rotary tables hold.
        max_length: Default size of a generator's KV cache in tokens: the planned context.
        bos_id, eos_ids, pad_id: Special tokens; see :func:`ending_ids` for those that are missing.
        sampling: temperature, top_p, top_k, repetition_penalty.
        execution_providers: The device's execution providers, best first. Only CUDA is written; the CPU is implied.
    """
    eos, pad = ending_ids(bos_id, eos_ids, pad_id)
    model: dict[str, Any] = {
        "context_length": context_length,
        "decoder": {
            "session_options": {
                "log_id": "onnxruntime-genai",
                "provider_options": [{"cuda": {}}] if "CUDAExecutionProvider" in execution_providers else [],
            },
            "filename": "model.onnx",
            "head_size": spec.head_dim,
            "hidden_size": spec.hidden_size,
            "num_attention_heads": spec.num_heads,
            "num_hidden_layers": spec.num_layers,
            "num_key_value_heads": spec.num_kv_heads,
            "inputs": _INPUTS,
            "outputs": _OUTPUTS,
        },
        "eos_token_id": eos[0] if len(eos) == 1 else eos,
        "pad_token_id": pad,
        "type": spec.model_type,
        "vocab_size": spec.vocab_size,
    }
    if bos_id is not None:
        model["bos_token_id"] = bos_id
    search = {
        "do_sample": sampling["temperature"] > 0,
        "max_length": max_length,
        "past_present_share_buffer": True,
        "repetition_penalty": sampling["repetition_penalty"],
        "temperature": sampling["temperature"] or 1.0,
        "top_k": sampling["top_k"],
        "top_p": sampling["top_p"],
    }
    return {"model": model, "search": search}
