"""Decides how an artifact converses: one set of values, from which all its files are written.

the request   --chat-template, --stop, --reasoning
the recipe    reasoning, sampling                            over
the source    generation_config.json, the template, the ids  over
edgekit       its defaults
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoint.base import Checkpoint, SpecialTokens, TokenizerFiles
from ..checkpoint.chat_templates import read_template_file
from ..export.genai_config import ending_ids
from ..recipes.recipe import Recipe
from ..runtime.chat import ChatTemplate
from ..sampling import REASONING_SAMPLING, Sampling
from .request import BuildRequest
from .turns import TurnEnd, added_past, check_vocabulary, find_turn_end, special_tokens


@dataclass(frozen=True)
class Conversation:
    """How an artifact converses.

    Args:
        reasoning: Whether the model thinks before it answers.
        signs: Why that is assumed.
        sampling: The default sampling settings.
        special: The special ids. An artifact without a padding token of its own pads with its first eos token.
        stop_texts: Texts that end an answer.
        template: The chat template's jinja source, or None.
        names: The tokens that the template may name, with their text: ``{"eos_token": "<|im_end|>", ...}``.
        notes: Decisions that the user should know of.
    """

    reasoning: bool
    signs: tuple[str, ...]
    sampling: Sampling
    special: SpecialTokens
    stop_texts: tuple[str, ...]
    template: str | None
    names: dict[str, str]
    notes: tuple[str, ...] = ()


def requested_template(request: BuildRequest) -> str | None:
    """The template of the file that the request names, or None.

    Raises:
        TokenizerError: The file holds no template, or one that is not valid jinja2.
    """
    if request.chat_template is None:
        return None
    source = read_template_file(Path(request.chat_template))
    ChatTemplate(source, {}, str(request.chat_template))
    return source


def plan_conversation(request: BuildRequest, recipe: Recipe, checkpoint: Checkpoint) -> Conversation:
    """Decide how an artifact converses.

    Args:
        request: What was requested.
        recipe: The model; its ``reasoning`` is final.
        checkpoint: The open checkpoint.

    Raises:
        TokenizerError: The tokenizer or a template cannot be used.
    """
    tokenizer = checkpoint.tokenizer
    requested = requested_template(request)
    template = tokenizer.chat_template if requested is None else requested
    end = TurnEnd() if template is None else find_turn_end(tokenizer, template)
    special, notes = _ending(tokenizer, end)
    stop_texts = list(tokenizer.generation.stop_texts)
    if end.is_text:
        stop_texts.append(end.text)
    eos_ids, stop_texts = _requested_stops(request.stop, special.eos_ids, stop_texts, tokenizer)
    if not eos_ids and not stop_texts:
        notes.append("the source does not say what ends an answer; --stop TEXT can name it")
    if not eos_ids:
        (ends,), _ = ending_ids(special.bos_id, (), special.pad_id)
        token = tokenizer.backend.id_to_token(ends)
        notes.append(
            "the model has no end-of-sequence token; onnxruntime-genai, which needs one, ends an answer at "
            f"{token} ({ends})"
        )
    check_vocabulary(tokenizer, checkpoint.config["vocab_size"])
    if past := added_past(tokenizer, checkpoint.config["vocab_size"]):
        named = ", ".join(f"{text} ({i})" for i, text in past.items())
        notes.append(f"added tokens past the embedding's last row are left out of tokenizer.json: {named}")
    pad = next(iter(eos_ids), None) if special.pad_id is None else special.pad_id
    defaults = REASONING_SAMPLING if recipe.reasoning else Sampling()
    sampling = recipe.sampling.applied_to(tokenizer.generation.sampling.applied_to(defaults))
    if sampling.min_p > 0:
        notes.append(f"min_p {sampling.min_p:g} is used by edgekit and transformers; onnxruntime-genai has no min_p")
    return Conversation(
        reasoning=recipe.reasoning,
        signs=recipe.reasoning_signs,
        sampling=sampling,
        special=replace(special, eos_ids=eos_ids, pad_id=pad),
        stop_texts=tuple(stop_texts),
        template=template,
        names=special_tokens(tokenizer),
        notes=tuple(notes),
    )


def _ending(tokenizer: TokenizerFiles, end: TurnEnd) -> tuple[SpecialTokens, list[str]]:
    """The special ids with the token that ends a turn, and notes about what was added."""
    special = tokenizer.special
    notes = []
    if end.token_id is not None and end.token_id not in special.eos_ids:
        known = ", ".join(f"{tokenizer.backend.id_to_token(i)} ({i})" for i in special.eos_ids) or "none"
        notes.append(
            f"{end.text} ({end.token_id}) ends a turn in the chat template, so it also ends an answer; "
            f"end-of-sequence tokens of the source: {known}"
        )
        special = replace(special, eos_ids=(*special.eos_ids, end.token_id))
    if end.is_text:
        notes.append(f"the text {end.text!r} ends a turn in the chat template, so it also ends an answer")
    return special, notes


def _requested_stops(
    requested: Sequence[str], eos_ids: tuple[int, ...], stop_texts: Sequence[str], tokenizer: TokenizerFiles
) -> tuple[tuple[int, ...], list[str]]:
    """Add the requested stops: one that is a special token becomes an eos id, because special tokens are not text."""
    added = {token.content: i for i, token in tokenizer.backend.get_added_tokens_decoder().items()}
    every = dict.fromkeys((*stop_texts, *requested))
    ids = dict.fromkeys((*eos_ids, *(added[text] for text in every if text in added)))
    return tuple(ids), [text for text in every if text not in added]
