"""The texts a model is calibrated on: a file, or the model's own answers to the prompts that edgekit ships.

A file is plain text, which is cut into pieces, or JSON Lines (``.jsonl``): on each line
``{"messages": [{"role", "content"}, ...]}``, which the model's chat template renders, or ``{"text": "..."}``.

``own_answers.py`` makes the model's own answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..errors import EdgekitError, UsageError
from ..json_file import MAX_TEXT_BYTES, parse_json_object, read_bounded
from ..runtime.chat import ChatTemplate
from ..runtime.prompt import Prompt
from ..runtime.tokenizer import Tokenizer

PROMPTS = Path(__file__).with_name("prompts.jsonl")
TEXT_TOKENS = 1024  # longest text
MIN_TOKENS = 128  # fewer tokens do not represent a model's activations

Texts = list[list[int]]


def read_texts(
    path: Path, tokenizer: Tokenizer, template: ChatTemplate | None, tokens: int, text_tokens: int = TEXT_TOKENS
) -> Texts:
    """Read a calibration file.

    Args:
        path: Plain text, or JSON Lines if the name ends in ``.jsonl``; UTF-8.
        tokenizer: The model's tokenizer.
        template: The model's chat template, or None.
        tokens: Stop after this many tokens.
        text_tokens: Cut longer texts to this many tokens.

    Raises:
        UsageError: The file cannot be read, is not UTF-8, has a line that is not a conversation, or is too short.
    """
    try:
        content = read_bounded(path, MAX_TEXT_BYTES, UsageError).decode("utf-8")
    except UnicodeDecodeError as error:
        found = error.object[error.start]
        raise UsageError(
            f"the calibration text {path} is not UTF-8: byte {error.start} is {found:#04x}",
            hint="--calibration takes plain text or JSON Lines",
        ) from None
    if not content.strip():
        raise UsageError(f"the calibration text {path} is empty")
    if path.suffix == ".jsonl":
        pieces = [ids[:text_tokens] for ids in _lines(path, content, tokenizer, template)]
    else:
        bos = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos is not None else []
        ids, size = tokenizer.encode(content, add_bos=False), text_tokens - len(bos)
        pieces = [bos + ids[i : i + size] for i in range(0, len(ids), size)]
    texts = first_texts(pieces, tokens)
    found = sum(map(len, texts))
    if found < min(MIN_TOKENS, tokens):
        raise UsageError(
            f"the calibration text {path} has {found} tokens; at least {MIN_TOKENS} are needed",
            hint="about ten thousand tokens of what the model will be used for work well",
        )
    return texts


def sample_texts(folder: Path, facts: RuntimeFacts, file: Path | None, tokens: int) -> Texts:
    """Texts for a measurement that needs few tokens.

    Args:
        folder: Holds the tokenizer's files.
        facts: What the artifact's manifest will say.
        file: A calibration file; None for edgekit's prompts.
        tokens: Tokens at most; the model's context is another limit.

    Raises:
        UsageError: The file cannot be used.
    """
    tokenizer = Tokenizer.open(folder, facts.tokens)
    tokens = min(tokens, facts.model["context_length"])
    if file is None:
        return prompt_texts(tokenizer, tokens)
    return read_texts(file, tokenizer, ChatTemplate.open(folder, tokenizer, reasoning=facts.reasoning), tokens)


def tokens_digest(texts: Texts) -> str:
    """SHA-256 of the token ids, in hexadecimal."""
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def prompt_texts(tokenizer: Tokenizer, tokens: int) -> Texts:
    """The shipped prompts without answers, as a single text of at most ``tokens`` tokens."""
    bos = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos is not None else []
    return [(bos + tokenizer.encode("\n\n".join(shipped_prompts()), add_bos=False))[:tokens]]


def shipped_prompts() -> list[str]:
    """The prompts that edgekit ships."""
    return [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]


def _lines(path: Path, content: str, tokenizer: Tokenizer, template: ChatTemplate | None) -> Iterator[list[int]]:
    """The token ids of each line of a JSON Lines file."""
    for number, line in enumerate(content.split("\n"), 1):  # str.splitlines also splits inside of JSON's texts
        if not line.strip():
            continue
        where = f"the calibration text {path}, line {number}"
        entry = parse_json_object(line.encode(), where, UsageError)
        try:
            yield tokenizer.encode(_text(entry, template))
        except (ValueError, EdgekitError) as error:
            raise UsageError(f"{where}: {error}") from None


def _text(entry: dict[str, Any], template: ChatTemplate | None) -> str | Prompt:
    if isinstance(entry.get("text"), str):
        text: str = entry["text"]
        return text
    if not isinstance(entry.get("messages"), list):
        raise ValueError('expected {"messages": [...]} or {"text": "..."}')
    if template is None:
        raise ValueError("this line is a conversation, but the model has no chat template")
    return template.prompt(entry["messages"], add_generation_prompt=False)


def first_texts(pieces: Texts, tokens: int) -> Texts:
    """The first texts, the last one cut, up to ``tokens`` tokens in all."""
    texts: Texts = []
    for piece in pieces:
        if tokens > 0 and piece:
            texts.append(piece[:tokens])
            tokens -= len(texts[-1])
    return texts
