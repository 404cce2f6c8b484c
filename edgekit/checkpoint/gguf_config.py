"""Translates GGUF metadata to the keys of Hugging Face's ``config.json``.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. GGUF stores floats as float32; they are translated to
the shortest decimal number that rounds to them, so that 1e-6 stays 1e-6.
"""

from __future__ import annotations

from typing import Any

from ..errors import CheckpointError, UnsupportedModelError
from ..schema.config import CONFIG
from ..schema.fields import check_table
from .base import shortest_float
from .gguf_header import GgufHeader
from .gguf_options import check_gguf_options

ROPE_FACTORS = "rope_freqs.weight"
_WHOLE_NUMBERS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}

_YARN = "beta_fast", "beta_slow"
# Keys of the scaling whose other values edgekit does not compute, with the usual value; a negative one means the usual.
_ROPE_CONSTANTS = {"yarn_ext_factor": 1.0, "yarn_attn_factor": 1.0, "yarn_log_multiplier": 0.0}


def config_from_metadata(header: GgufHeader, factors: list[float] | None) -> dict[str, Any]:
    """Translate a GGUF header.

    Args:
        header: Metadata and tensor list.
        factors: The content of ``rope_freqs.weight`` (a divisor for each frequency), or None if the file lacks it.

    Returns:
        The keys of ``config.json`` that define a model's shape, and the special token ids.

    Raises:
        CheckpointError: A key is missing or has the wrong type.
        UnsupportedModelError: The model uses something that edgekit does not support: experts, a partial rotary
            embedding, or layers that differ.
    """
    keys = _Keys(header)
    config: dict[str, Any] = {"model_type": keys.architecture}
    for key, name in _WHOLE_NUMBERS.items():
        config[name] = keys.required(key)
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = keys.whole("attention.head_count_kv", heads)
    head_dim = keys.whole("attention.key_length")
    if head_dim is None and heads and config["hidden_size"] % heads == 0:
        head_dim = config["hidden_size"] // heads  # llama.cpp's default; a family's own may be another
    if head_dim is not None:
        config["head_dim"] = head_dim
    if (epsilon := keys.number("attention.layer_norm_rms_epsilon")) is not None:
        config["rms_norm_eps"] = epsilon
    config["rope_theta"] = keys.number("rope.freq_base", 10000.0)
    if (scaling := _rope_scaling(keys, factors)) is not None:
        config["rope_scaling"] = scaling
    config["vocab_size"] = _vocab_size(keys)
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    config["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
    config["mlp_bias"] = "blk.0.ffn_gate.bias" in header.tensors
    for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        token = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if type(token) is int:
            config[f"{role}_token_id"] = token
    check_table(config, CONFIG, str(header.path), CheckpointError)  # before anything is computed from these values
    _check_supported(keys, config)
    return config


class _Keys:
    """Reads the metadata keys of the header's architecture and checks the type of each value."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        architecture = header.metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise CheckpointError(f"{header.path} lacks the metadata key general.architecture, so it is not a model")
        self.architecture = architecture

    def get(self, key: str) -> Any:
        return self.header.metadata.get(f"{self.architecture}.{key}")

    def whole(self, key: str, default: int | None = None) -> int | None:
        value = self.get(key)
        if value is None:
            return default
        if type(value) is not int:
            found = "a list, so its layers differ" if hasattr(value, "__len__") else repr(value)
            raise UnsupportedModelError(
                f"{self.header.path}: {self.architecture}.{key} is {found}; supported: one whole number for all layers"
            )
        return value

    def required(self, key: str) -> int:
        value = self.whole(key)
        if value is None:
            raise CheckpointError(f"{self.header.path} lacks the metadata key {self.architecture}.{key}")
        return value

    def number(self, key: str, default: float | None = None) -> float | None:
        value = self.get(key)
        if value is None:
            return default
        if type(value) not in (int, float):
            raise CheckpointError(f"{self.header.path}: {self.architecture}.{key} is {value!r}; it must be a number")
        return shortest_float(value)


def _rope_scaling(keys: _Keys, factors: list[float] | None) -> dict[str, Any] | None:
    """The scaling under the keys of ``rope_scaling``, as llama.cpp reads it (``llama-model.cpp``).

    A missing type means linear, and a factor of 0 means 1. ``attn_factor`` multiplies YaRN's own attention factor.
    """
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 0.0)) or 1.0
    kind = keys.get("rope.scaling.type")
    if kind is None:
        kind = "linear"
    scaled = kind != "none" and not (kind == "linear" and factor == 1.0)
    if factors is not None:
        if scaled:
            raise UnsupportedModelError(
                f"{keys.header.path} has both rope scaling {kind!r} and {ROPE_FACTORS}; supported: one of them"
            )
        return {"rope_type": "factors", "factors": [shortest_float(f) for f in factors]}
    for key, usual in _ROPE_CONSTANTS.items():
        if (value := keys.number(f"rope.scaling.{key}", usual)) != usual and not (value is not None and value < 0):
            raise UnsupportedModelError(
                f"{keys.header.path}: {keys.architecture}.rope.scaling.{key} is {value:g}; supported: {usual:g}"
            )
    attn_factor = keys.number("rope.scaling.attn_factor", 1.0)
    if attn_factor != 1.0 and kind != "yarn":
        raise UnsupportedModelError(
            f"{keys.header.path}: {keys.architecture}.rope.scaling.attn_factor is {attn_factor:g} with rope scaling "
            f"{kind!r}; supported: with yarn"
        )
    if not scaled:
        return None
    found: dict[str, Any] = {"rope_type": kind, "factor": factor}
    if (original := keys.whole("rope.scaling.original_context_length")) is not None:
        found["original_max_position_embeddings"] = original
    if kind == "yarn":
        found |= {key: value for key in _YARN if (value := keys.number(f"rope.scaling.yarn_{key}")) is not None}
        if attn_factor != 1.0:
            found["attn_factor"] = attn_factor
    return found


def _vocab_size(keys: _Keys) -> int:
    """The number of rows of the embedding, or the vocabulary's length if the header lists no embedding."""
    embedding = keys.header.tensors.get("token_embd.weight")
    if embedding is not None:
        return embedding.shape[0]
    tokens = keys.header.metadata.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, list) else keys.required("vocab_size")


def _check_supported(keys: _Keys, config: dict[str, Any]) -> None:
    path, architecture = keys.header.path, keys.architecture
    if experts := keys.whole("expert_count"):
        raise UnsupportedModelError(f"{path}: this {architecture} model has {experts} experts; supported: dense models")
    rotated = keys.whole("rope.dimension_count")
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if head_dim < 1:
        raise CheckpointError(
            f"{path}: {architecture}.embedding_length is {config['hidden_size']}, too little for "
            f"{config['num_attention_heads']} heads, and the file lacks {architecture}.attention.key_length"
        )
    if rotated is not None and rotated != head_dim:
        raise UnsupportedModelError(
            f"{path}: {architecture}.rope.dimension_count is {rotated}, but a head has {head_dim} dimensions; "
            "supported: a rotary embedding over the whole head"
        )
    check_gguf_options(keys.header.metadata, str(path), architecture, head_dim, config["max_position_embeddings"])
    value_length = keys.whole("attention.value_length")
    if value_length is not None and value_length != head_dim:
        raise UnsupportedModelError(
            f"{path}: {architecture}.attention.value_length is {value_length}, but keys have {head_dim} dimensions; "
            "supported: keys and values of the same length"
        )
