"""The texts the gate reads: edgekit's own, of several kinds and languages, and none of them used for calibration.

Each is a conversation through the model's own chat template, as it will see them on a device; the answer's tokens are
scored, and for a reasoning model those of the thought before it. A model without a template reads question and answer
as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import TokenizerError, UsageError
from ..runtime.chat import ChatTemplate, Message
from ..runtime.thought import THINK_CLOSE, THINK_OPEN, starts_inside
from ..runtime.tokenizer import Tokenizer
from .compare import Passage

TEXTS = Path(__file__).with_name("held_out.jsonl")


def entries() -> list[dict[str, str]]:
    """The texts as they are shipped: kind, prompt, thought, answer."""
    return [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]


def held_out(
    tokenizer: Tokenizer, template: ChatTemplate | None, reasoning: bool, context: int, tokens: int
) -> list[Passage]:
    """The texts as token ids.

    Args:
        tokenizer, template: The model's.
        reasoning: It thinks before it answers.
        context: A text is cut where the model's context ends.
        tokens: How many to score at most, shared out among the texts so that every kind is there.

    Raises:
        UsageError: Nothing is left to score.
        TokenizerError: The template fails on a plain question.
    """
    whole = [p for e in entries() if (p := _passage(e, tokenizer, template, reasoning, context)) is not None]
    passages = _shared(whole, tokens)
    if not passages:
        raise UsageError(
            f"a context of {context} tokens holds none of the texts that measure quality",
            hint="--no-gate builds without measuring",
        )
    return passages


def _passage(
    entry: Mapping[str, str], tokenizer: Tokenizer, template: ChatTemplate | None, reasoning: bool, context: int
) -> Passage | None:
    if template is None:
        prompt, answer = f"{entry['prompt']}\n\n", entry["answer"]
    else:
        prompt, answer = template.render([user(entry["prompt"])]), entry["answer"]
    if reasoning:
        opening = "" if starts_inside(prompt) else f"{THINK_OPEN}\n"
        answer = f"{opening}{entry['thought']}\n{THINK_CLOSE}\n\n{answer}"
    start = len(tokenizer.encode(prompt))
    ids = tokenizer.encode(prompt + answer)[:context]
    # Where the answer's first characters merge with the prompt's last, the first position is one of the prompt's.
    return Passage(ids, max(start, 1)) if len(ids) > max(start, 1) else None


def _shared(passages: list[Passage], tokens: int) -> list[Passage]:
    """So many predicted tokens at most, as evenly as the texts' lengths allow; the shortest texts first get theirs."""
    lengths = [len(p.ids) - p.start for p in passages]
    left, shares = tokens, [0] * len(passages)
    for rank, i in enumerate(sorted(range(len(passages)), key=lambda i: lengths[i])):
        shares[i] = min(lengths[i], left // (len(passages) - rank))
        left -= shares[i]
    return [Passage(p.ids[: p.start + n], p.start) for p, n in zip(passages, shares, strict=True) if n > 0]


def user(text: str) -> Message:
    """A message of the user's."""
    return {"role": "user", "content": text}


def bos_problem(tokenizer: Tokenizer, template: ChatTemplate | None) -> str | None:
    """What is wrong with the beginning-of-sequence token of a templated prompt; None when nothing is.

    A prompt starts with one where the model has one and wants it, never with two, and none stands inside it. Models
    that start every message with theirs (ChatML's ``<|im_start|>``) are known by a conversation holding more of them.

    Raises:
        TokenizerError: The template fails on a plain question.
    """
    bos = tokenizer.bos
    if bos is None:
        return None
    if template is None:
        return _count_problem(tokenizer.encode("a text"), bos, wanted=tokenizer.add_bos)
    first = user("a question")
    prompt = template.render([first])
    try:
        longer = template.render([first, {"role": "assistant", "content": "an answer"}, user("another question")])
    except TokenizerError:  # a template for single questions
        longer = prompt
    text = tokenizer.special_tokens.get("bos_token", "")
    marks_messages = bool(text) and longer.count(text) > prompt.count(text)
    ids = tokenizer.encode(prompt)
    if marks_messages:
        return None if ids[:2].count(bos) == 1 else f"the prompt starts with the ids {ids[:2]}; bos is {bos}"
    return _count_problem(ids, bos, wanted=tokenizer.add_bos or (bool(text) and text in prompt))


def _count_problem(ids: list[int], bos: int, wanted: bool) -> str | None:
    found = ids.count(bos)
    if found == int(wanted) and (not wanted or ids[0] == bos):
        return None
    right = "one at its start" if wanted else "none"
    return f"a templated prompt holds {found} beginning-of-sequence tokens (id {bos}); {right} is right"
