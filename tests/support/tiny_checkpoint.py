"""Writes tiny random checkpoints in Hugging Face's format, with a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from edgekit.models import spec_from_config

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": False},
    # Its query heads together are wider than the hidden states.
    "qwen3": {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": False, "head_dim": 64,
    },
}  # fmt: skip
SHAPES = {
    "hidden_size": 144, "intermediate_size": 200, "num_hidden_layers": 2, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 48, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = ("The capital of France is Paris.", "What is the capital of Italy? Rome.", "Größe, 你好, 🙂")


def tokenizer() -> Tokenizer:
    """Train a byte-level BPE tokenizer with at most 300 tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    made.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return made


def tiny_config(family: str, **changes: Any) -> dict[str, Any]:
    """The content of a config.json. ``changes`` override its keys."""
    return {**SHAPES, **CONFIGS[family], "vocab_size": tokenizer().get_vocab_size(), **changes}


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 weights for a config, by Hugging Face's names."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for ref in spec_from_config(config).tensors():
        values = rng.standard_normal(ref.shape) * (ref.shape[-1] ** -0.5 if len(ref.shape) == 2 else 0.1)
        tensors[ref.name] = (values + (1.0 if "norm" in ref.name else 0.0)).astype(np.float32)
    return tensors


def write_checkpoint(
    folder: Path, family: str = "llama", tensors: Mapping[str, np.ndarray] | None = None, **changes: Any
) -> Path:
    """Write a complete checkpoint folder and return its path."""
    config = tiny_config(family, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(dict(random_tensors(config) if tensors is None else tensors), folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|bos|>", "eos_token": "<|eos|>", "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder
