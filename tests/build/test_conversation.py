"""How an artifact converses: the request over the recipe over the source over edgekit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from chat_templates import ALPACA, CHATML, R1_JANUARY, R1_TOKENS, chat_tokenizer

from edgekit.build.conversation import Conversation, plan_conversation, requested_template
from edgekit.build.request import BuildRequest
from edgekit.checkpoint.base import Checkpoint, TokenizerFiles
from edgekit.errors import TokenizerError, UsageError
from edgekit.recipes import load_recipe
from edgekit.sampling import Sampling, SamplingOverrides

RECIPE = replace(load_recipe("smollm2-135m"), sampling=SamplingOverrides())


class Source:
    """The part of a checkpoint that a conversation is planned from."""

    def __init__(self, tokenizer: TokenizerFiles, vocab_size: int) -> None:
        self.tokenizer = tokenizer
        self.config = {"vocab_size": vocab_size}


def planned(
    tokenizer: TokenizerFiles,
    *,
    recipe: Mapping[str, Any] | None = None,
    vocab_size: int = 1000,
    stop: Sequence[str] = (),
    template: Path | None = None,
) -> Conversation:
    request = BuildRequest(stop=tuple(stop), chat_template=template)
    source = cast("Checkpoint", Source(tokenizer, vocab_size))
    return plan_conversation(request, replace(RECIPE, **(recipe or {})), source)


def test_what_ends_a_turn_ends_an_answer() -> None:
    found = planned(chat_tokenizer(CHATML, eos=(0,)))
    assert found.special.eos_ids == (0, 2)
    assert found.stop_texts == ()
    (note,) = found.notes
    assert note == (
        "<|im_end|> (2) ends a turn in the chat template, so it also ends an answer; "
        "end-of-sequence tokens of the source: <|endoftext|> (0)"
    )
    known = planned(chat_tokenizer(CHATML, eos=(2, 0)))
    assert known.special.eos_ids == (2, 0)
    assert known.notes == ()


def test_a_text_that_ends_a_turn_is_a_stop_text() -> None:
    found = planned(chat_tokenizer(ALPACA, ("</s>",)))
    assert found.special.eos_ids == (0,)
    assert found.stop_texts == ("\n### Instruction:",)
    assert found.notes == (
        r"the text '\n### Instruction:' ends a turn in the chat template, so it also ends an answer",
    )


def test_requested_stops_are_texts_or_if_they_are_special_tokens_ids() -> None:
    found = planned(chat_tokenizer(CHATML, eos=(2,)), stop=("User:", "<|endoftext|>", "User:"))
    assert found.special.eos_ids == (2, 0)
    assert found.stop_texts == ("User:",)
    of_source = planned(chat_tokenizer(CHATML, eos=(2,), generation={"stop_strings": ["END", "<|im_start|>"]}))
    assert of_source.special.eos_ids == (2, 1)
    assert of_source.stop_texts == ("END",)
    with pytest.raises(UsageError, match="it must be text and not empty"):
        BuildRequest(stop=("x", ""))


def test_nothing_that_ends_an_answer_is_noted() -> None:
    found = planned(chat_tokenizer(None, eos=()))
    assert found.special.eos_ids == ()
    assert found.special.pad_id is None
    first, second = found.notes
    assert first == "the source does not say what ends an answer; --stop TEXT can name it"
    assert second.startswith(
        "the model has no end-of-sequence token; onnxruntime-genai, which needs one, ends an answer"
    )
    assert second.endswith("<|endoftext|> (0)")
    (note,) = planned(chat_tokenizer(None, eos=()), stop=["User:"]).notes
    assert note == second
    assert planned(chat_tokenizer(None, eos=()), stop=["<|im_end|>"]).notes == ()


def test_sampling_of_the_recipe_over_the_source_over_edgekit() -> None:
    tokenizer = chat_tokenizer(CHATML, generation={"temperature": 0.7, "top_k": 20})
    assert planned(tokenizer).sampling == Sampling(0.7, 1.0, 20)
    assert planned(tokenizer, recipe={"reasoning": True}).sampling == Sampling(0.7, 0.95, 20)
    stated = {"sampling": SamplingOverrides(temperature=0.2, top_p=0.9)}
    assert planned(tokenizer, recipe=stated).sampling == Sampling(0.2, 0.9, 20)
    silent = chat_tokenizer(CHATML)
    assert planned(silent).sampling == Sampling()
    assert planned(silent, recipe={"reasoning": True}).sampling == Sampling(0.6, 0.95)


def test_a_setting_that_genai_lacks_is_noted() -> None:
    found = planned(chat_tokenizer(CHATML, eos=(2,), generation={"min_p": 0.05}))
    assert found.sampling.min_p == 0.05
    assert found.notes == ("min_p 0.05 is used by edgekit and transformers; onnxruntime-genai has no min_p",)


def test_an_artifact_pads_with_eos_if_the_source_has_no_padding_token() -> None:
    assert planned(chat_tokenizer(CHATML, eos=(2, 0))).special.pad_id == 2
    tokenizer = chat_tokenizer(CHATML, eos=(2,))
    padded = TokenizerFiles(dict(tokenizer), replace(tokenizer.special, pad_id=0))
    assert planned(padded).special.pad_id == 0


def test_added_tokens_without_a_row_are_noted() -> None:
    found = planned(chat_tokenizer(CHATML, eos=(2,), shown=("[PAD]",)), vocab_size=259)
    assert found.notes == ("added tokens past the embedding's last row are left out of tokenizer.json: [PAD] (259)",)


def test_a_requested_template_replaces_the_sources(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text(R1_JANUARY, encoding="utf-8")
    found = planned(chat_tokenizer(CHATML, R1_TOKENS, bos=3, eos=(3,)), template=mine)
    assert found.template == R1_JANUARY
    assert found.special.eos_ids == (3, 0)
    mine.write_text("{% if %}")
    with pytest.raises(TokenizerError, match=r"mine\.jinja is not valid jinja2"):
        requested_template(BuildRequest(chat_template=mine))
    assert requested_template(BuildRequest()) is None
