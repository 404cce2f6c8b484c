"""Chat templates written anew after the facts of public models, and tiny vocabularies with their special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edgekit.checkpoint.base import SpecialTokens, TokenizerFiles
from edgekit.checkpoint.chat_templates import DEFAULT, ChatTemplates
from edgekit.checkpoint.generation_config import generation_defaults

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# DeepSeek-R1's distills: January 2025 without <think> in the prompt, and as corrected in February 2025.
R1_JANUARY = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{% set content = m['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)
R1_FEBRUARY = R1_JANUARY.replace("{{ '<｜Assistant｜>' }}", "{{ '<｜Assistant｜><think>\\n' }}")
# Qwen3 thinks unless enable_thinking is false; its instruct models of July 2025 have the tokens but never think.
QWEN3 = (
    "{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'assistant' and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
NEVER_THINKS = QWEN3.replace("enable_thinking is defined and enable_thinking is false", "true")
# Vicuna's and Alpaca's kind: no token ends a turn but eos, or none at all.
VICUNA = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '### Instruction:\n' + m.content + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + m.content + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)

CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
R1_TOKENS = ("<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>")
THINK_TOKENS = ("<think>", "</think>")


def byte_tokenizer(special: Sequence[str], shown: Sequence[str] = ()) -> Tokenizer:
    """A vocabulary of special tokens (ids from 0), 256 bytes and tokens that are matched whole but shown."""
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(list(special))
    made.add_tokens([AddedToken(token, normalized=False) for token in shown])
    return made


def chat_tokenizer(
    template: str | None,
    special: Sequence[str] = CHATML_TOKENS,
    *,
    shown: Sequence[str] = (),
    bos: int | None = None,
    eos: Sequence[int] = (0,),
    settings: Mapping[str, Any] | None = None,
    generation: Mapping[str, Any] | None = None,
) -> TokenizerFiles:
    """The tokenizer of a source.

    Args:
        template: Its chat template.
        special: Its special tokens.
        shown: Added tokens that are not special.
        bos, eos: The ids that the source names.
        settings: The content of its ``tokenizer_config.json``.
        generation: The content of its ``generation_config.json``.
    """
    files = {"tokenizer.json": byte_tokenizer(special, shown).to_str().encode()}
    if settings is not None:
        files["tokenizer_config.json"] = json.dumps(settings).encode()
    return TokenizerFiles(
        files,
        SpecialTokens(bos, tuple(eos), None, add_bos=False),
        ChatTemplates({} if template is None else {DEFAULT: template}),
        generation_defaults(generation or {}, "generation_config.json"),
    )
