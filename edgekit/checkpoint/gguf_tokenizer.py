"""Converts ``tokenizer.ggml.*`` of a GGUF file to a ``tokenizer.json`` that encodes like the original.

Supports only byte-level BPE (``tokenizer.ggml.model`` = ``gpt2``), which all DeepSeek-R1 distills, Llama 3, Qwen and
SmolLM use. A GGUF file does not say how text is split before BPE; it only names a pretokenizer in
``tokenizer.ggml.pre``. `PRETOKENIZERS` defines these names from two sources that agree: ``llama-vocab.cpp`` of
llama.cpp (``llm_tokenizer_bpe``) and the ``tokenizer.json`` files of Qwen2, DeepSeek-R1-Distill-Qwen, SmolLM2, Llama 3
and GPT-2 on the Hugging Face hub.

Pitfalls:

* Token ids are exactly those of the file. Padding entries (type 5, ``[PAD151665]`` ...) are left out: a tokenizer that
  counted them would give a token added later an id past the model's last row, and could encode text to an untrained
  row.
* Control tokens are special and hidden when decoding. User-defined tokens (``<think>``) are matched whole but shown.
* ``tokenizer.json`` gets no post-processor, so encoding never adds bos. The chat template writes bos; for raw text,
  :attr:`SpecialTokens.add_bos` says whether to put it first. Hugging Face's R1-Distill-Qwen adds it in a
  post-processor, so its own chat template results in two (DeepSeek-R1#151).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import TokenizerError
from ..tokenizer_file import load_tokenizer
from .base import SpecialTokens, TokenizerFiles, shortest_float
from .chat_templates import DEFAULT, ChatTemplates, unused_templates
from .generation_config import generation_defaults
from .gguf_vocabulary import UNUSED, USER_DEFINED, Vocabulary, read_vocabulary, with_control_tokens
from .tokenizer_files import usable_ids

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Pretokenizer:
    """How text is split into the words that BPE works on.

    Args:
        patterns: Regular expressions, each applied to the pieces that the previous one left. A match becomes a
            separate piece.
        nfc: Whether text is first normalized to Unicode's composed form (NFC).
        ignore_merges: Whether a word that is in the vocabulary becomes one token without applying merges.
        add_bos: The default for files without ``tokenizer.ggml.add_bos_token``.
    """

    patterns: tuple[str, ...]
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False


_QWEN2 = Pretokenizer((_CL100K % r"\p{N}",), nfc=True)
# SmolLM2's own tokenizer.json uses Digits and ByteLevel's built-in pattern instead of these two patterns. The result is
# the same, but the tokenizer of onnxruntime-genai 0.18 then recognizes only ASCII digits.
PRETOKENIZERS: dict[str, Pretokenizer] = {
    "gpt-2": Pretokenizer((_GPT2,)),
    "smollm": Pretokenizer((r"\p{N}", _GPT2)),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "llama-bpe": Pretokenizer((_CL100K % r"\p{N}{1,3}",), ignore_merges=True, add_bos=True),
    # llama.cpp's default: punctuation first, then GPT-2's pattern, then digits in groups of three from the left.
    "default": Pretokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
}


# The sampling settings that converters copy from generation_config.json.
_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}


def tokenizer_from_metadata(metadata: Mapping[str, Any], config: Mapping[str, Any], what: str) -> TokenizerFiles:
    """Build a tokenizer's files from a GGUF file's metadata.

    Args:
        metadata: The header's keys and values.
        config: The model's config. ``vocab_size`` limits the ids, ``max_position_embeddings`` the length of a text.
        what: The file, for error messages.

    Returns:
        ``tokenizer.json``, ``tokenizer_config.json`` and ``generation_config.json``, and what they say.

    Raises:
        TokenizerError: The tokenizer's type is not supported, or the metadata is not consistent.
    """
    templates = _templates(metadata, what)
    vocabulary, retyped = with_control_tokens(read_vocabulary(metadata, what), metadata, templates.named.values())
    pre = _pretokenizer(metadata, what)
    named, unused = _special_tokens(metadata, vocabulary, pre, what)
    special, dropped = usable_ids(named, config.get("vocab_size"), what)
    content = _dump(_tokenizer_json(vocabulary, pre))
    tokenizer = load_tokenizer(content, f"the tokenizer of {what}")
    for token in vocabulary.added:
        if tokenizer.token_to_id(vocabulary.tokens[token]) != token:
            raise TokenizerError(
                f"{what}: converting the tokenizer changed the id {token} of token {vocabulary.tokens[token]!r}"
            )
    files = {
        "tokenizer.json": content,
        "tokenizer_config.json": _dump(_tokenizer_config(vocabulary, special, config)),
        "generation_config.json": _dump(_generation_config(special)),
    }
    sampling = {name: _decimal(metadata[key]) for key, name in _SAMPLING.items() if key in metadata}
    defaults = generation_defaults(sampling, f"the metadata of {what}")
    return TokenizerFiles(files, special, templates, defaults, (*retyped, *unused, *dropped))


def _templates(metadata: Mapping[str, Any], what: str) -> ChatTemplates:
    """``tokenizer.chat_template``, and ``tokenizer.chat_template.NAME`` for further templates."""
    prefix = "tokenizer.chat_template"
    named = {
        key.removeprefix(prefix).removeprefix(".") or DEFAULT: value
        for key, value in metadata.items()
        if (key == prefix or key.startswith(f"{prefix}.")) and isinstance(value, str) and value
    }
    found = ChatTemplates(named, what)
    return replace(found, notes=unused_templates(found))


def _pretokenizer(metadata: Mapping[str, Any], what: str) -> Pretokenizer:
    name = metadata.get("tokenizer.ggml.pre")
    found = PRETOKENIZERS.get(name) if isinstance(name, str) else None
    if found is None:
        problem = "is missing" if name is None else f"is {name!r}"
        raise TokenizerError(
            f"{what}: tokenizer.ggml.pre {problem}; supported: {', '.join(PRETOKENIZERS)}",
            hint="" if name else "an old converter wrote this file; use a newer file of the same model",
        )
    return found


def _special_tokens(
    metadata: Mapping[str, Any], vocabulary: Vocabulary, pre: Pretokenizer, what: str
) -> tuple[SpecialTokens, tuple[str, ...]]:
    """The ids, and notes on what is not used."""

    def usable(value: Any) -> bool:
        return type(value) is int and 0 <= value < len(vocabulary.tokens) and vocabulary.types[value] != UNUSED

    def token(role: str) -> int | None:
        key = f"tokenizer.ggml.{role}_token_id"
        value = metadata.get(key)
        if value is not None and not usable(value):
            raise TokenizerError(
                f"{what}: {key} is {value!r}, which is not one of the {len(vocabulary.tokens)} token ids"
            )
        return value

    # eot and eom end a turn (Llama 3), eos ends the text. All of them end an answer.
    eos = dict.fromkeys(t for t in map(token, ("eos", "eot", "eom")) if t is not None)
    bos = token("bos")
    add_bos = metadata.get("tokenizer.ggml.add_bos_token", pre.add_bos)
    if not isinstance(add_bos, bool):
        raise TokenizerError(f"{what}: tokenizer.ggml.add_bos_token is {add_bos!r}; it must be true or false")
    notes: tuple[str, ...] = ()
    pad = metadata.get("tokenizer.ggml.padding_token_id")
    if pad is not None and not usable(pad):
        notes = (f"the padding token has id {pad}, which is outside the vocabulary; it is not used",)
        pad = None
    return SpecialTokens(bos, tuple(eos), pad, add_bos and bos is not None), notes


def _tokenizer_json(vocabulary: Vocabulary, pre: Pretokenizer) -> dict[str, Any]:
    """The content of ``tokenizer.json``. Added tokens are also in the vocabulary, which fixes their ids."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in pre.patterns
    ]
    added = [
        {
            "id": i,
            "content": vocabulary.tokens[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": vocabulary.types[i] != USER_DEFINED,
        }
        for i in vocabulary.added
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre.ignore_merges,
            "vocab": {t: i for i, t in enumerate(vocabulary.tokens) if vocabulary.types[i] != UNUSED},
            "merges": vocabulary.merges,
        },
    }


def _tokenizer_config(vocabulary: Vocabulary, special: SpecialTokens, config: Mapping[str, Any]) -> dict[str, Any]:
    def text(token: int | None) -> str | None:
        return None if token is None else vocabulary.tokens[token]

    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text(special.bos_id),
        "eos_token": text(special.eos_ids[0]) if special.eos_ids else None,
        "pad_token": text(special.pad_id),
        "add_bos_token": special.add_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    if "max_position_embeddings" in config:
        settings["model_max_length"] = config["max_position_embeddings"]
    return settings


def _generation_config(special: SpecialTokens) -> dict[str, Any]:
    eos: int | list[int] | None = list(special.eos_ids)
    if len(special.eos_ids) < 2:
        eos = special.eos_ids[0] if special.eos_ids else None
    ids = {"bos_token_id": special.bos_id, "eos_token_id": eos, "pad_token_id": special.pad_id}
    return {key: value for key, value in ids.items() if value is not None}


def _decimal(value: Any) -> Any:
    """The decimal number that a float32 stands for: 0.6, not 0.60000002384."""
    return shortest_float(value) if isinstance(value, float) else value


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=None if "model" in value else 2).encode("utf-8")
