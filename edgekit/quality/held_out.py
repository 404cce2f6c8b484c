"""The held-out texts of the quality gate: edgekit's own, of several kinds and languages, not used for calibration.

Each text is a conversation, rendered with the model's own chat template as on a device. The tokens of the answer are
scored and, for a reasoning model, those of the thought before it. A model without a template reads question and answer
as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import TokenizerError, UsageError
from ..runtime.chat import ChatTemplate, Message
from ..runtime.prompt import Prompt
from ..runtime.thought import THINK_CLOSE, THINK_OPEN, starts_inside
from ..runtime.tokenizer import Tokenizer
from .compare import Passage

TEXTS = Path(__file__).with_name("held_out.jsonl")


def entries() -> list[dict[str, str]]:
    """The shipped texts, each with the keys kind, prompt, thought and answer."""
    return [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]


def held_out(
    tokenizer: Tokenizer, template: ChatTemplate | None, reasoning: bool, context: int, tokens: int
) -> list[Passage]:
    """Make the passages to score.

    Args:
        tokenizer, template: The model's.
        reasoning: Whether the model thinks before it answers.
        context: The model's context; longer texts are cut.
        tokens: The maximum number of tokens to score, divided among the texts so that every kind is represented.

    Raises:
        UsageError: No token is left to score.
        TokenizerError: The template cannot render a question.
    """
    whole = [p for e in entries() if (p := _passage(e, tokenizer, template, reasoning, context)) is not None]
    passages = _shared(whole, tokens)
    if not passages:
        raise UsageError(
            f"a context of {context} tokens is too short for every text that quality is measured on",
            hint="use --no-gate to build without measuring the quality",
        )
    return passages


def _passage(
    entry: Mapping[str, str], tokenizer: Tokenizer, template: ChatTemplate | None, reasoning: bool, context: int
) -> Passage | None:
    if template is None:
        prompt, answer = Prompt(f"{entry['prompt']}\n\n"), entry["answer"]
    else:
        prompt, answer = template.prompt([user(entry["prompt"])]), entry["answer"]
    if reasoning:
        opening = "" if starts_inside(prompt.marked) else f"{THINK_OPEN}\n"
        answer = f"{opening}{entry['thought']}\n{THINK_CLOSE}\n\n{answer}"
    start = len(tokenizer.encode(prompt))
    ids = tokenizer.encode(prompt.followed_by(answer))[:context]
    # If a token spans the end of the prompt and the start of the answer, it is scored too.
    return Passage(ids, max(start, 1)) if len(ids) > max(start, 1) else None


def _shared(passages: list[Passage], tokens: int) -> list[Passage]:
    """Cut the passages to a total of ``tokens`` scored tokens, divided as evenly as their lengths allow."""
    lengths = [len(p.ids) - p.start for p in passages]
    left, shares = tokens, [0] * len(passages)
    for rank, i in enumerate(sorted(range(len(passages)), key=lambda i: lengths[i])):
        shares[i] = min(lengths[i], left // (len(passages) - rank))
        left -= shares[i]
    return [Passage(p.ids[: p.start + n], p.start) for p, n in zip(passages, shares, strict=True) if n > 0]


def user(text: str) -> Message:
    """Make a user message."""
    return {"role": "user", "content": text}


def bos_problem(tokenizer: Tokenizer, template: ChatTemplate | None) -> str | None:
    """Check the beginning-of-sequence token (bos) of a templated prompt.

    If the model uses a bos, a prompt must start with exactly one and contain no other. Models that start every message
    with their bos (ChatML's ``<|im_start|>``) are detected by rendering a longer conversation, which contains more.

    Returns:
        A description of the problem, or None.

    Raises:
        TokenizerError: The template cannot render a question.
    """
    bos = tokenizer.bos
    if bos is None:
        return None
    if template is None:
        return _count_problem(tokenizer.encode("a text"), bos, wanted=tokenizer.add_bos)
    first = user("a question")
    prompt = template.prompt([first])
    try:
        longer = template.prompt([first, {"role": "assistant", "content": "an answer"}, user("another question")])
    except TokenizerError:  # the template supports single questions only
        longer = prompt
    text = tokenizer.special_tokens.get("bos_token", "")
    marks_messages = bool(text) and longer.text.count(text) > prompt.text.count(text)
    ids = tokenizer.encode(prompt)
    if marks_messages:
        return None if ids[:2].count(bos) == 1 else f"the prompt starts with the ids {ids[:2]}; bos is {bos}"
    return _count_problem(ids, bos, wanted=tokenizer.add_bos or (bool(text) and text in prompt.text))


def _count_problem(ids: list[int], bos: int, wanted: bool) -> str | None:
    found = ids.count(bos)
    if found == int(wanted) and (not wanted or ids[0] == bos):
        return None
    right = "one, at its start" if wanted else "none"
    return f"a prompt has {found} beginning-of-sequence tokens (id {bos}); expected {right}"
