"""The texts a model is calibrated on: its own answers to the prompts edgekit ships, or a file.

A file is plain text, cut into pieces, or JSON Lines (``.jsonl``): ``{"messages": [{"role", "content"}, ...]}`` a line,
through the model's chat template, or ``{"text": "..."}``.

The model's own answers are what it will see on a device: its template, its way to reason, its languages. They are
sampled from a draft of it, rounded to nearest and run by the native core, with the recipe's settings and fixed seeds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest
from ..errors import EdgekitError, UsageError
from ..models.spec import ModelSpec
from ..runtime.chat import ChatTemplate
from ..runtime.engine import EngineOptions
from ..runtime.native_engine import NativeEngine
from ..runtime.sampler import SamplingConfig
from ..runtime.session import Session
from ..runtime.tokenizer import Tokenizer
from ..scheme import QuantizationConfig, QuantizationScheme
from .model import export_model
from .weights import WeightSource

PROMPTS = Path(__file__).parents[1] / "quantize" / "calibration" / "prompts.jsonl"
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
    texts = _first(pieces, tokens)
    found = sum(map(len, texts))
    if found < min(MIN_TOKENS, tokens):
        raise UsageError(
            f"the calibration text {path} has {found} tokens; at least {MIN_TOKENS} are needed",
            hint="some ten thousand, of what the model will be used for, are a good number",
        )
    return texts


def prompt_texts(tokenizer: Tokenizer, tokens: int) -> Texts:
    """The prompts alone, as one text of at most so many tokens: for what needs little text, and no answers."""
    bos = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos is not None else []
    return [(bos + tokenizer.encode("\n\n".join(_prompts()), add_bos=False))[:tokens]]


def own_texts(
    folder: Path,
    spec: ModelSpec,
    source: WeightSource,
    files: Mapping[str, bytes],
    manifest: Manifest,
    tokens: int,
    threads: int,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Texts:
    """Let the model answer the prompts, again and again with other seeds, until there is enough.

    Args:
        folder: An empty one, for the draft.
        spec: The model.
        source: Its weights.
        files: Its tokenizer and configuration files.
        manifest: What the artifact will say of itself.
        tokens: How many are wanted, prompts included.
        threads: For everything.
        progress: Called with (tokens done, tokens in all).

    Raises:
        EdgekitError: The draft cannot be made or run.
    """
    wide = QuantizationScheme(8, 32, True)
    narrow = wide if spec.parameters < _EIGHT_BIT_PARAMETERS else QuantizationScheme(4, 32, False)
    context = min(TEXT_TOKENS, spec.context_length)
    export_model(
        folder, spec, source, QuantizationConfig(narrow, narrow, wide),
        activation_type="float32", max_context=context, threads=threads,
    )  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    draft = dataclasses.replace(
        manifest, activation_type="float32", model={**manifest.model, "context_length": context}
    )
    tokenizer = Tokenizer.open(folder, draft)
    template = ChatTemplate.open(folder, tokenizer)
    engine = NativeEngine.open(folder, draft, EngineOptions(context=context, threads=threads))
    texts: Texts = []
    done = 0
    with Session(engine, tokenizer, template, draft) as session:
        for seed, prompt in enumerate(_prompts_forever()):
            if done >= tokens:
                return texts
            sampling = dataclasses.replace(session.sampling, seed=seed)
            texts.append(_answer(session, prompt, sampling, min(context, tokens - done)))
            done += len(texts[-1])
            progress(min(done, tokens), tokens)
    raise AssertionError("the prompts never end")


def _answer(session: Session, prompt: str, sampling: SamplingConfig, most: int) -> list[int]:
    """A prompt and what the model makes of it, at most so many ids."""
    text = session.render([{"role": "user", "content": prompt}]) if session.has_chat_template else prompt
    ids = session.tokenizer.encode(text)[:most]
    if len(ids) == most:
        return ids
    answer = session.generate(ids, max_tokens=most - len(ids), sampling=sampling).complete()
    return [*ids, *answer.tokens]


def _prompts() -> list[str]:
    return [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]


def _prompts_forever() -> Iterator[str]:
    prompts = _prompts()
    while True:
        yield from prompts


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


def _first(pieces: Texts, tokens: int) -> Texts:
    """Whole texts, and the beginning of one, up to so many tokens."""
    texts: Texts = []
    for piece in pieces:
        if tokens > 0 and piece:
            texts.append(piece[:tokens])
            tokens -= len(texts[-1])
    return texts
