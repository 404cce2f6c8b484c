"""Small byte-level vocabularies with every pre-tokenizer that the native library implements, and their tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from text_corpus import texts
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from edgekit.artifact.manifest import RuntimeFacts
from edgekit.build.text_file import FILE_NAME, text_file
from edgekit.checkpoint.gguf_tokenizer import PRETOKENIZERS
from edgekit.native.text import NativeText

SPECIAL = ("<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>", "<｜User｜>", "<｜Assistant｜>")
ADDED = ("<think>", "</think>", "<tool_call>", "  ", "\n\n", "edgekit")
TOKENS = 1200


def _splitter(kind: str) -> Any:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind in ("gpt2", "digits"))
    if kind == "gpt2":
        return byte_level
    if kind == "digits":  # as SmolLM2's own tokenizer.json
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    patterns = PRETOKENIZERS[kind].patterns
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*splits, byte_level])


KINDS = ("gpt2", "digits", "gpt-2", "smollm", "qwen2", "llama-bpe")


@cache
def vocabulary(kind: str, *, whole_alphabet: bool = True) -> Tokenizer:
    """A tokenizer with this pre-tokenizer, trained on random texts.

    Args:
        kind: One of :data:`KINDS`.
        whole_alphabet: Whether every byte has a token.
    """
    found = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    found.normalizer = normalizers.NFC() if kind == "qwen2" else None
    found.pre_tokenizer = _splitter(kind)
    found.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if whole_alphabet else []
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS, initial_alphabet=alphabet, limit_alphabet=256 if whole_alphabet else 60, show_progress=False
    )
    found.train_from_iterator(list(texts(1500, seed=5)), trainer)
    normalized = kind == "qwen2"
    found.add_special_tokens([AddedToken(token, normalized=normalized) for token in SPECIAL])
    found.add_tokens([AddedToken(token, normalized=normalized) for token in ADDED])
    found.add_tokens(
        [
            AddedToken("<left>", lstrip=True),
            AddedToken("<right>", rstrip=True),
            AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("alone", single_word=True),
            AddedToken("cafe\u0301", normalized=True),
        ]
    )
    return found


def facts(**changes: Any) -> RuntimeFacts:
    """The facts of an artifact that text tables need."""
    fields: dict[str, Any] = {
        "name": "text", "model": {}, "plan": {}, "quantization": {}, "activation_type": "float32", "reasoning": False,
        "sampling": {"temperature": 0}, "tokens": {"bos": None, "eos": [0], "pad": None, "add_bos": False},
    }  # fmt: skip
    return RuntimeFacts(**(fields | changes))


def native_text(folder: Path, backend: Tokenizer, described: RuntimeFacts | None = None) -> NativeText:
    """Write a tokenizer and its tables to a folder, and open the tables."""
    backend.save(str(folder / "tokenizer.json"))
    made = text_file(folder, described or facts())
    assert made.content is not None, made.warnings
    (folder / FILE_NAME).write_bytes(made.content)
    return NativeText(folder)
