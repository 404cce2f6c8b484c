"""Tells whether a model thinks between ``<think>`` and ``</think>`` before it answers, and by which signs.

The chat template decides where it shows something: what it writes at the end of a prompt, and whether it knows the tags
at all. A template without them is believed, unless the model is called an R1 and its vocabulary has the tags; then
somebody has replaced the template. The tokens alone are no sign: Qwen3's instruct models have them and do not think.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..checkpoint.base import TokenizerFiles
from ..errors import TokenizerError
from ..runtime.chat import ChatTemplate
from ..runtime.thought import THINK_CLOSE, THINK_OPEN, starts_inside
from .turns import special_tokens

# DeepSeek-R1 and its distills, QwQ, and models that say in their name what they are for.
_NAME = re.compile(
    r"(?<![a-z])(deepseek[-_ ]?r1|r1[-_ ]distill|qwq|thinking|reasoning|reasoner)(?![a-z])", re.IGNORECASE
)
_DENIAL = re.compile(r"(?<![a-z])(no|non|not|without)[-_ ]?(thinking|reasoning)", re.IGNORECASE)


@dataclass(frozen=True)
class Reasoning:
    """Whether a model thinks before it answers, and why that is assumed.

    Args:
        thinks: Whether it does.
        signs: What speaks for it or, if it does not think, against it.
    """

    thinks: bool
    signs: tuple[str, ...]


def find_reasoning(tokenizer: TokenizerFiles, template: str | None, names: Sequence[str] = ()) -> Reasoning:
    """Look for the signs of a reasoning model.

    Args:
        tokenizer: The tokenizer's files.
        template: The chat template to be used, or None.
        names: What the source calls the model.

    Raises:
        TokenizerError: The tokenizer or the template cannot be used.
    """
    tags = f"{THINK_OPEN} and {THINK_CLOSE}"
    added = {token.content for token in tokenizer.backend.get_added_tokens_decoder().values()}
    in_vocabulary = {THINK_OPEN, THINK_CLOSE} <= added
    called = next((n for n in names if _NAME.search(n) and not _DENIAL.search(n)), None)
    more = [f"the vocabulary has {tags}"] * in_vocabulary + [f"the model is called {called!r}"] * (called is not None)
    source = _without_comments(template or "")
    if template is not None and (THINK_OPEN in source or THINK_CLOSE in source):
        prompt = _prompt(tokenizer, template)
        if prompt.rstrip().endswith(THINK_CLOSE):
            return Reasoning(
                False, (f"the chat template ends the prompt with {THINK_CLOSE}, so that there is no thought",)
            )
        if starts_inside(prompt):
            sign = f"the chat template ends the prompt with {THINK_OPEN}"
        else:
            seen = [tag for tag in (THINK_OPEN, THINK_CLOSE) if tag in source]
            sign = f"the chat template knows {' and '.join(seen)}"
        if "enable_thinking" in source:
            more.insert(0, "the chat template has the switch enable_thinking")
        return Reasoning(True, (sign, *more))
    if called is not None and in_vocabulary:
        return Reasoning(True, tuple(more))
    if not in_vocabulary:
        return Reasoning(False, (f"neither the vocabulary nor the chat template has {tags}",))
    why = "there is no chat template" if template is None else "the chat template does not use them"
    return Reasoning(False, (f"the vocabulary has {tags}, but {why}",))


def _prompt(tokenizer: TokenizerFiles, template: str) -> str:
    """A prompt as the template writes it; empty if it does not accept a question alone."""
    try:
        return ChatTemplate(template, special_tokens(tokenizer)).render([{"role": "user", "content": "Hello"}])
    except TokenizerError:
        return ""


def _without_comments(template: str) -> str:
    """A template without ``{# ... #}``. One that does not end makes the template invalid."""
    first, *others = template.split("{#")
    return first + "".join(part.partition("#}")[2] for part in others)
