"""``edgekit.json``, the manifest of an artifact. ``artifact/manifest.py`` says what each field means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArtifactError, EdgekitError
from .config import CONFIG, ROPE
from .fields import Either, Field, FileName, Items, Number, Optional, Table, Text, Truth, Whole, check_table

_NAME = Text(longest=10_000)
_SENTENCES = Items(_NAME, most=10_000)
_SHA256 = Text(longest=64)
_SIZE = Whole(0, 2**62)
_ID = Whole(0)
_LOGIT = Number(-3.5e38, 3.5e38)  # any finite float32
_POSITIVE = Number(0, 1e30, above=True)
_INTERVAL = Table({"low": _POSITIVE, "mid": _POSITIVE, "high": _POSITIVE}, required=("low", "mid", "high"))
_FORMAT = Table(
    {"bits": Whole(2, 8), "block_size": Whole(1, 1 << 20), "symmetric": Truth()},
    required=("bits", "block_size", "symmetric"),
)
FILE = Table({"sha256": _SHA256, "size_bytes": _SIZE}, required=("sha256", "size_bytes"))
_GOLDEN = Table(
    {
        "prompt_ids": Items(_ID, least=1),
        "continuation_ids": Items(_ID),
        "top_logits": Items(Table({"id": _ID, "logit": _LOGIT}, required=("id", "logit"))),
    },
    required=("prompt_ids", "continuation_ids", "top_logits"),
)
_ENGINE_PLAN = Table(
    {
        "engine": _NAME,
        "kv_type": Optional(_NAME),
        "memory_bytes": Table({}, others=Whole(0, 2**62)),
        "ttft_s": Optional(_INTERVAL),
        "decode_tok_s": Optional(_INTERVAL),
    },
    required=("engine",),
)
_PLAN = Table(
    {
        "model": _NAME,
        "device": Optional(_NAME),
        "engine": Optional(_NAME),
        "context": Whole(),
        "prompt_tokens": Whole(),
        "kv_type": Optional(_NAME),
        "power_mode": Optional(_NAME),
        "activation_type": _NAME,
        "fits": Truth(),
        "memory_bytes": Table({}, others=Whole(0, 2**62)),
        "engine_bytes": Table({}, others=Optional(Whole(0, 2**62))),
        "engines": Items(_ENGINE_PLAN, most=100),
        "file_bytes": _SIZE,
        "decode_tok_s": Optional(_INTERVAL),
        "ttft_s": Optional(_INTERVAL),
        "sustained_tok_s": Optional(_INTERVAL),
        "decode_full_tok_s": Optional(_INTERVAL),
    }
)

MANIFEST: dict[str, Field] = {
    "name": FileName(),
    "edgekit_version": _NAME,
    "created": _NAME,
    "model": Table(
        {
            "model_type": _NAME,
            "parameters": Whole(1, 2**62),
            "vocab_size": CONFIG["vocab_size"],
            "num_layers": CONFIG["num_hidden_layers"],
            "context_length": CONFIG["max_position_embeddings"],
            "rope": Table({"type": _NAME, "theta": ROPE["rope_theta"], "attention_factor": ROPE["attention_factor"]}),
        },
        required=("model_type", "vocab_size", "num_layers", "context_length"),
    ),
    "source": Table(
        {
            "kind": _NAME,
            "files": Table({}, others=FILE),
            "format": _NAME,
            "quantize_config": Table({}),
            "adapters": Items(Table({}), most=1000),
            **dict.fromkeys(("repository", "revision", "package", "version", "member"), Optional(_NAME)),
            "sha256": Optional(_SHA256),
        }
    ),
    "recipe": Table({"name": _NAME, "title": _NAME, "licence": _NAME}),
    "device": Table({"name": _NAME, "title": _NAME}),
    "plan": _PLAN,
    "quantization": Table(
        {
            "method": _NAME,
            "linear": Optional(_FORMAT),
            "embedding": Optional(_FORMAT),
            "lm_head": Optional(_FORMAT),
            "matrices": Table({}, others=Optional(_FORMAT)),
            "rotate": Truth(),
            "scale": Truth(),
            "mean_bits": Optional(Number(0, 32, above=True)),
            "activation_scale": Table({}),
        }
    ),
    "activation_type": Text(("float32", "float16")),
    "reasoning": Truth(),
    "reasoning_signs": _SENTENCES,
    "sampling": Table({}),
    "tokens": Table(
        {"bos": Optional(_ID), "eos": Items(_ID, most=10_000), "pad": Optional(_ID), "add_bos": Truth()},
        required=("eos",),
    ),
    "stop_texts": Items(_NAME, most=10_000),
    "bits_per_weight": Number(0, 64),
    "quality": Optional(Table({})),
    "golden": Optional(_GOLDEN),
    "files": Table({}, others=FILE),
    "notes": _SENTENCES,
    "format": _NAME,
    "digest": Optional(_SHA256),
    "format_version": Either(Whole(0), _NAME),
}


def check_manifest(content: Mapping[str, Any], what: str, error: type[EdgekitError] = ArtifactError) -> None:
    """Check the types and ranges of a manifest's fields, and of the values that engines and sessions use.

    Args:
        content: The file's content.
        what: The file, for messages.
        error: What to raise.

    Raises:
        ArtifactError: A value has the wrong type or is out of range.
    """
    check_table(content, Table(MANIFEST), what, error)
