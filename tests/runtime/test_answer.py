"""One answer driven step by step, as a scheduler does. Generations are tested in test_generation.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from chat_templates import byte_tokenizer
from tiny_artifact import BOS, EOS
from tiny_checkpoint import tokenizer as tiny_tokenizer

from edgekit.errors import EngineError
from edgekit.runtime.answer import Answer
from edgekit.runtime.sampler import Sampler
from edgekit.runtime.thought import Piece, ThoughtSplitter
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.runtime.tool_calls import HERMES, R1, CallForm, CallReader
from edgekit.runtime.watch import Watch, closing
from edgekit.sampling import Sampling

TOKENIZER = Tokenizer(tiny_tokenizer(), bos=BOS, add_bos=True)
VOCABULARY = 400
PROMPT = [BOS, 10, 11]


def answer(
    *,
    splitter: ThoughtSplitter | None = None,
    watch: Watch | None = None,
    max_tokens: int | None = None,
    stop_texts: Sequence[str] = (),
) -> Answer:
    return Answer(
        tokenizer=TOKENIZER,
        sampler=Sampler(Sampling(temperature=0), VOCABULARY),
        prompt=PROMPT,
        stops=frozenset({EOS}),
        stop_texts=stop_texts,
        max_tokens=max_tokens,
        splitter=splitter,
        watch=watch,
    )


def choose(running: Answer, token: int) -> None:
    logits = np.zeros(VOCABULARY, np.float32)
    logits[token] = 1.0
    running.choose(logits)


def test_a_thought_that_repeats_half_a_character_is_closed() -> None:
    running = answer(splitter=ThoughtSplitter(True), watch=Watch(8, "thought", inside=True), max_tokens=200)
    broken = TOKENIZER.encode("é", add_bos=False)[0]
    while True:
        if not running.force():
            choose(running, broken)
        running.read()
        if running.ends(1000):
            break
    running.flush()
    assert running.thought_closed == "budget"
    assert running.tokens[: 8 + 3] == [broken] * 11
    assert running.tokens[11] != broken


def test_pending_ids_are_first_the_prompt_and_then_each_token() -> None:
    running = answer(max_tokens=2)
    a, b = TOKENIZER.encode("ab", add_bos=False)
    assert running.pending == PROMPT
    choose(running, a)
    assert (running.pending, running.tokens, running.read()) == ([a], [a], [Piece("a")])
    assert not running.ends(100)
    choose(running, b)
    assert (running.read(), running.ends(100), running.finish) == ([Piece("b")], True, "interrupted")
    assert (running.flush(), running.finish, running.tokens) == ([], "length", [a, b])


def test_an_answer_ends_where_the_context_has_no_room_for_what_is_pending() -> None:
    running = answer()
    choose(running, TOKENIZER.encode("a", add_bos=False)[0])
    running.read()
    assert not running.ends(1)
    assert running.ends(0)
    running.flush()
    assert running.finish == "context"


def test_a_closed_thought_forces_tokens_without_logits() -> None:
    thought = TOKENIZER.encode("one two", add_bos=False)
    running = answer(splitter=ThoughtSplitter(True), watch=Watch(len(thought), inside=True))
    assert not running.force()
    for token in thought:
        choose(running, token)
        running.read()
        assert not running.ends(100)
    forced = TOKENIZER.encode(closing("close spent", "one two"), add_bos=False)
    while running.force():
        running.read()
        assert not running.ends(100)
    assert running.pending == [thought[-1], *forced]
    assert (running.thought_closed, running.loops) == ("budget", 0)
    assert 0 < running.thought_tokens <= len(running.tokens)


def test_logits_that_are_not_numbers_are_an_error() -> None:
    with pytest.raises(EngineError):
        answer().choose(np.full(VOCABULARY, np.nan, np.float32))


@pytest.mark.parametrize("inside", [True, False])
def test_a_thought_ends_with_its_tag_even_if_a_stop_text_may_begin_there(inside: bool) -> None:
    found = []
    for stop_texts in ([], [">>>"]):
        constraint = Recorder()
        running = answer(splitter=ThoughtSplitter(inside), stop_texts=stop_texts)
        running._constraint = constraint  # type: ignore[assignment]
        for token in TOKENIZER.encode("hm</think>4" if inside else "<think>hm</think>4", add_bos=False):
            choose(running, token)
            running.read()
        assert running.thought_closed == "model"
        found.append((constraint.accepted, running.thought_tokens))
    assert found[0] == found[1]
    assert found[0][0] == TOKENIZER.encode("4", add_bos=False)


class Recorder:
    """A constraint that allows everything."""

    is_complete = False

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def apply(self, logits: object, also: Sequence[int] = ()) -> None:
        pass

    def accept(self, token: int) -> None:
        self.accepted.append(token)


@pytest.mark.parametrize("form", [HERMES, R1], ids=lambda form: form.name)
def test_calls_are_found_even_if_their_tags_are_special_tokens(form: CallForm) -> None:
    tokenizer = Tokenizer(byte_tokenizer(["<eos>", *form.tags], []), bos=None, add_bos=False)
    assert all(tokenizer.is_silent(tokenizer.token_id(tag) or 0) for tag in form.tags)
    calls = [("f", '{"a": 1}'), ("g", "{}")]
    running = Answer(
        tokenizer=tokenizer,
        sampler=Sampler(Sampling(temperature=0), VOCABULARY),
        prompt=[1],
        stops=frozenset({0}),
        max_tokens=None,
        splitter=None,
        calls=CallReader(form, ["f", "g"]),
    )
    written = "I look.\n" + form.written(calls)
    pieces: list[Piece] = []
    for token in tokenizer.encode(written):
        choose(running, token)
        pieces += running.read()
        assert not running.ends(100)
    pieces += running.flush()
    assert "".join(piece.text for piece in pieces) == "I look."
    assert [(call.name, call.arguments) for call in running.tool_calls] == calls
    assert "".join(running.text) == written


@pytest.mark.parametrize(
    ("inside", "text", "stop"),
    [
        (None, "Paris, é🙂.", ""),
        (None, "one two three", "two"),
        (None, "on on one", "on one"),
        (None, "one tw", "two"),
        (None, "two", "two"),
        (True, "hm\n</think>\n\nParis é", ""),
        (True, "hm</think>Paris, 🙂 two", "two"),
        (True, "still thinking", ""),
        (True, "hm</think>\n\n", ""),
        (True, "hm two</think>Paris", "two"),
        (False, "<think>\nhm\n</think>\n\nParis.", ""),
        (False, "\n<think>hm two</think>\n\nParis two", "Paris two"),
        (False, "<think>hm", ""),
        (False, " Paris", ""),
        (False, "<thi", ""),
        (False, "<thin ice", ""),
    ],
)
@pytest.mark.parametrize("ends", [True, False])
def test_the_tokens_of_the_answer_spell_its_text(inside: bool | None, text: str, stop: str, ends: bool) -> None:
    running = answer(splitter=None if inside is None else ThoughtSplitter(inside), stop_texts=[stop])
    pieces: list[Piece] = []
    known = range(0)
    for token in [*TOKENIZER.encode(text, add_bos=False), *([EOS] if ends else [])]:
        choose(running, token)
        pieces += running.read()
        before, known = known, running.answer_tokens
        assert known.stop >= before.stop
        assert not before or before.start == known.start
        if running.ends(100):
            break
    pieces += running.flush()
    told = running.tokens[known.start : known.stop]
    assert "".join(piece.text for piece in pieces if not piece.thought).startswith(TOKENIZER.decode(told))
    spelled = TOKENIZER.decode([running.tokens[i] for i in running.answer_tokens])
    assert spelled == "".join(piece.text for piece in pieces if not piece.thought)


def test_a_token_that_is_only_partly_text_of_the_answer_belongs_to_it() -> None:
    close, line, space_pa, ris = TOKENIZER.encode("</think>\n Paris", add_bos=False)
    running = answer(splitter=ThoughtSplitter(True), stop_texts=["aris"])
    pieces: list[Piece] = []
    for token in (close, line, space_pa, ris):
        choose(running, token)
        pieces += running.read()
    assert pieces + running.flush() == [Piece("P")]
    assert running.answer_tokens == range(2, 3)
