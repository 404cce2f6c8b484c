"""The texts a model is calibrated on: its own answers to the prompts edgekit ships, or a file.

A file is plain text, cut into pieces, or JSON Lines (``.jsonl``): ``{"messages": [{"role", "content"}, ...]}`` a line,
through the model's chat template, or ``{"text": "..."}``.

The model's own answers are ``own_answers.py``'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest
from ..errors import EdgekitError, UsageError
from ..runtime.chat import ChatTemplate
from ..runtime.tokenizer import Tokenizer

PROMPTS = Path(__file__).with_name("prompts.jsonl")
TEXT_TOKENS = 1024  # of a text at most; what stands at its end has seen as many before it
MIN_TOKENS = 128  # fewer say nothing of a model's activations
_EIGHT_BIT_PARAMETERS = 10**9  # above, the draft has 4 bits: what it costs is reading its weights, once a token

Texts = list[list[int]]


def read_texts(
    path: Path, tokenizer: Tokenizer, template: ChatTemplate | None, tokens: int, text_tokens: int = TEXT_TOKENS
) -> Texts:
    """Read a calibration file.

    Args:
        path: Plain text, or JSON Lines when its name ends in ``.jsonl``; UTF-8.
        tokenizer, template: The model's.
        tokens: Stop after so many.
        text_tokens: Of a text at most; longer ones are cut.

    Raises:
        UsageError: It cannot be read, is not UTF-8, has a line that is no conversation, or is too short.
    """
    try:
        content = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the calibration text {path}: {error.strerror}") from None
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
            hint="some ten thousand, of what the model will be used for, are a good number",
        )
    return texts


def sample_texts(folder: Path, manifest: Manifest, text: Path | None, tokens: int) -> Texts:
    """Texts for a measurement that needs few tokens.

    Args:
        folder: With the tokenizer's files.
        manifest: The artifact's, as far as it is known.
        text: A calibration file; None: edgekit's prompts.
        tokens: At most so many, and no more than the model's context.

    Raises:
        UsageError: The file cannot be used.
    """
    tokenizer = Tokenizer.open(folder, manifest)
    tokens = min(tokens, manifest.model["context_length"])
    if text is None:
        return prompt_texts(tokenizer, tokens)
    return read_texts(text, tokenizer, ChatTemplate.open(folder, tokenizer), tokens)


def tokens_digest(texts: Texts) -> str:
    """SHA-256 of the ids, in hexadecimal."""
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def prompt_texts(tokenizer: Tokenizer, tokens: int) -> Texts:
    """The prompts alone, as one text of at most so many tokens: for what needs little text, and no answers."""
    bos = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos is not None else []
    return [(bos + tokenizer.encode("\n\n".join(shipped_prompts()), add_bos=False))[:tokens]]


def shipped_prompts() -> list[str]:
    """The prompts edgekit ships."""
    return [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]


def _lines(path: Path, content: str, tokenizer: Tokenizer, template: ChatTemplate | None) -> Iterator[list[int]]:
    """The ids of each line of a JSON Lines file."""
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield tokenizer.encode(_text(json.loads(line), template))
        except json.JSONDecodeError as error:
            raise UsageError(f"the calibration text {path}, line {number} is not JSON: {error}") from None
        except (ValueError, EdgekitError) as error:
            raise UsageError(f"the calibration text {path}, line {number}: {error}") from None


def _text(entry: Any, template: ChatTemplate | None) -> str:
    if isinstance(entry, dict) and isinstance(entry.get("text"), str):
        text: str = entry["text"]
        return text
    if not isinstance(entry, dict) or not isinstance(entry.get("messages"), list):
        raise ValueError('this is neither {"messages": [...]} nor {"text": "..."}')
    if template is None:
        raise ValueError("this is a conversation, and the model has no chat template")
    return template.render(entry["messages"], add_generation_prompt=False)


def first_texts(pieces: Texts, tokens: int) -> Texts:
    """Whole texts, and the beginning of one, up to so many tokens."""
    texts: Texts = []
    for piece in pieces:
        if tokens > 0 and piece:
            texts.append(piece[:tokens])
            tokens -= len(texts[-1])
    return texts
