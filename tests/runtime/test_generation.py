"""One generation, with logits from a script: pieces, the completion, why it ended, and timings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_artifact import BOS, EOS
from tiny_checkpoint import tokenizer as tiny_tokenizer

from edgekit.errors import EngineError, EvaluationCancelledError, SessionBusyError
from edgekit.runtime.generation import Generation, superseded
from edgekit.runtime.sampler import Sampler
from edgekit.runtime.thought import Piece, ThoughtSplitter
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.runtime.watch import Watch, closing
from edgekit.sampling import Sampling

TOKENIZER = Tokenizer(tiny_tokenizer(), bos=BOS, add_bos=True)
VOCABULARY = 400
PROMPT = [BOS, 10, 11]


class Script:
    """Logits that make a greedy sampler choose the tokens of a text; records the ids that it was given."""

    def __init__(self, text: str, end: Sequence[int] = (EOS,)) -> None:
        self.left = [*TOKENIZER.encode(text, add_bos=False), *end]
        self.evaluated: list[list[int]] = []

    def __call__(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.evaluated.append(list(ids))
        logits = np.zeros(VOCABULARY, np.float32)
        logits[self.left.pop(0)] = 1.0
        return logits


def generation(
    evaluate: Callable[[Sequence[int]], NDArray[np.float32]],
    *,
    room: Callable[[], int] = lambda: 100,
    max_tokens: int | None = None,
    splitter: ThoughtSplitter | None = None,
    prepare_s: float = 0.0,
    stops: frozenset[int] = frozenset({EOS}),
    stop_texts: Sequence[str] = (),
    watch: Watch | None = None,
    is_current: Callable[[], bool] = lambda: True,
) -> Generation:
    return Generation(
        evaluate=evaluate,
        room=room,
        tokenizer=TOKENIZER,
        sampler=Sampler(Sampling(temperature=0), VOCABULARY),
        prompt=PROMPT,
        stops=stops,
        stop_texts=stop_texts,
        max_tokens=max_tokens,
        splitter=splitter,
        watch=watch,
        prepare_s=prepare_s,
        is_current=is_current,
    )


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it() -> None:
    script = Script("a b\nUser: c")
    running = generation(script, stop_texts=["\nUser:", "never"])
    assert "".join(piece.text for piece in running) == "a b"
    done = running.completion
    assert (done.text, done.answer, done.finish_reason) == ("a b", "a b", "stop")
    assert TOKENIZER.decode(done.tokens) == "a b\nUser:", "the tokens are those that were generated"
    assert len(script.left) == len(TOKENIZER.encode(" c", add_bos=False)) + 1


def test_the_beginning_of_a_stop_text_is_text() -> None:
    done = generation(Script("a\nUse"), stop_texts=["\nUser:"]).complete()
    assert (done.text, done.finish_reason) == ("a\nUse", "stop")
    cut = generation(Script("a\nUse"), stop_texts=["\nUser:"], max_tokens=4).complete()
    assert (cut.text, cut.finish_reason) == ("a\nUs", "length")


def test_a_stop_text_within_a_thought_ends_the_answer() -> None:
    done = generation(Script("Hm END</think>42"), stop_texts=["END"], splitter=ThoughtSplitter(inside=True)).complete()
    assert (done.thought, done.answer, done.finish_reason) == ("Hm", "", "stop")


def test_a_stop_token_that_is_ordinary_text_is_not_shown() -> None:
    (letter,) = TOKENIZER.encode("z", add_bos=False)
    done = generation(Script("abz"), stops=frozenset({letter})).complete()
    assert (done.text, done.finish_reason) == ("ab", "stop")
    assert done.tokens[-1] == letter


def test_the_prompt_is_evaluated_once_and_then_each_token() -> None:
    script = Script("abc")
    done = generation(script).complete()
    a, b, c = TOKENIZER.encode("abc", add_bos=False)
    assert script.evaluated == [PROMPT, [a], [b], [c]]  # the stop token is not evaluated
    assert done.tokens == [a, b, c, EOS]
    assert done.prompt_tokens == PROMPT
    assert (done.text, done.answer, done.thought, done.finish_reason) == ("abc", "abc", "", "stop")


def test_nothing_is_evaluated_before_the_first_piece() -> None:
    script = Script("abc")
    running = generation(script)
    assert script.evaluated == []
    assert next(running) == Piece("a")
    assert script.evaluated == [PROMPT]
    assert (running.completion.text, running.completion.finish_reason) == ("a", "interrupted")


@pytest.mark.parametrize(
    ("max_tokens", "room", "count", "reason"),
    [
        (2, 100, 2, "length"),
        (3, 100, 3, "length"),
        (4, 100, 4, "stop"),  # the stop token is the fourth: it decides
        (None, 2, 3, "context"),  # two tokens fit after the prompt; a third is generated but cannot be evaluated
        (None, 0, 1, "context"),
        (1, 0, 1, "length"),  # both limits are reached
        (None, 3, 4, "stop"),
    ],
)
def test_the_reason_for_the_end(max_tokens: int | None, room: int, count: int, reason: str) -> None:
    script = Script("abc")
    left = room + 1  # the prompt's evaluation is counted, too

    def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
        nonlocal left
        left -= 1
        return script(ids)

    done = generation(evaluate, room=lambda: left, max_tokens=max_tokens).complete()
    assert (len(done.tokens), done.finish_reason) == (count, reason)


def test_a_stopped_generation_ends_there() -> None:
    script = Script("abc")
    running = generation(script)
    next(running)
    assert running.stop().text == "a"
    assert list(running) == []
    assert running.complete().finish_reason == "interrupted"
    assert len(script.evaluated) == 1


def test_a_generation_can_be_stopped_before_it_begins() -> None:
    done = generation(Script("abc")).stop()
    assert (done.text, done.tokens, done.decode_tok_s) == ("", [], None)


def test_a_thought_is_separated_and_its_tags_stay_in_the_text() -> None:
    running = generation(Script("hm\n</think>\n\nParis."), splitter=ThoughtSplitter(inside=True))
    pieces = list(running)
    assert "".join(p.text for p in pieces if p.thought) == running.completion.thought == "hm"
    assert "".join(p.text for p in pieces if not p.thought) == running.completion.answer == "Paris."
    assert running.completion.text == "hm\n</think>\n\nParis."


def test_held_back_text_comes_with_the_end() -> None:
    running = generation(Script("hm </thi", end=(EOS,)), splitter=ThoughtSplitter(inside=True))
    list(running)
    assert running.completion.thought == "hm </thi"
    assert running.completion.finish_reason == "stop"


def test_an_error_ends_the_generation_and_keeps_the_text_so_far() -> None:
    script = Script("ab", end=())

    def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
        if not script.left:
            raise superseded()
        return script(ids)

    running = generation(evaluate)
    assert [next(running).text, next(running).text] == ["a", "b"]
    with pytest.raises(EngineError, match="cannot be continued") as caught:
        next(running)
    assert "open a session for each" in caught.value.hint
    assert (running.completion.text, running.completion.finish_reason) == ("ab", "interrupted")
    assert list(running) == []


def test_times_count_evaluation_and_not_the_callers_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    script = Script("abc")

    def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
        nonlocal now
        now += 0.25 if len(ids) > 1 else 0.125
        return script(ids)

    running = generation(evaluate, prepare_s=5.0)
    for _ in running:
        now += 100
    assert running.completion.ttft_s == 5.25
    assert running.completion.decode_tok_s == 8.0  # 3 tokens after the first, 0.125 s each


def test_one_token_has_no_decode_speed() -> None:
    assert generation(Script("a"), max_tokens=1).complete().decode_tok_s is None


def test_a_thought_is_closed_when_its_budget_is_spent() -> None:
    script = Script("one two three four five six seven eight and so the answer is 4.", ())
    thought = TOKENIZER.encode("one two three", add_bos=False)
    answer = TOKENIZER.encode("It is 4.", add_bos=False)
    script.left[len(thought) :] = [*answer, EOS]
    made = generation(script, splitter=ThoughtSplitter(True), watch=Watch(len(thought), inside=True))
    done = made.complete()
    closed = closing("close spent", "one two three")
    assert done.text == f"one two three{closed}It is 4."
    assert done.thought == f"one two three{closed.partition('</think>')[0].rstrip()}"
    assert (done.answer, done.finish_reason) == ("It is 4.", "stop")
    assert (done.thought_closed, done.loops) == ("budget", 0)
    forced = TOKENIZER.encode(closed, add_bos=False)
    assert done.tokens == [*thought, *forced, *answer, EOS]
    assert script.evaluated == [PROMPT, *([t] for t in thought[:-1]), [thought[-1], *forced], *([t] for t in answer)]
    assert len(thought) < done.thought_tokens <= len(thought) + len(forced)


def test_a_thought_that_loops_is_closed() -> None:
    again = "wait, that is not right. "
    script = Script(again * 300, ())
    left = generation(script, room=lambda: 10000, splitter=ThoughtSplitter(True), watch=Watch(inside=True))
    text = ""
    for piece in left:
        text += piece.text
        if left.completion.thought_closed:
            break
    done = left.stop()
    assert (done.thought_closed, done.loops) == ("loop", 2)
    assert closing("close loop", "x") in done.text
    assert done.thought.startswith(again)


def test_an_answer_that_loops_ends_on_request() -> None:
    script = Script("no, no, wait. " * 500, ())
    done = generation(script, room=lambda: 10000, watch=Watch(loop_guard="all")).complete()
    assert (done.finish_reason, done.thought_closed, done.loops) == ("loop", None, 2)
    assert script.left


def test_what_closed_a_thought_is_told() -> None:
    watch = Watch(inside=True)
    ended = generation(Script("so</think>\n\n4"), splitter=ThoughtSplitter(True), watch=watch).complete()
    assert ended.thought_closed == "model"
    assert 0 < ended.thought_tokens < len(ended.tokens)
    is_open = generation(Script("so"), splitter=ThoughtSplitter(True)).complete()
    assert (is_open.thought_closed, is_open.thought_tokens) == (None, len(is_open.tokens))


@pytest.mark.parametrize(
    ("text", "options", "last"),
    [
        ("a b c d", {"splitter": ThoughtSplitter(True), "watch": Watch(3, inside=True)}, " b"),  # then forced tokens
        ("ab</think>cd", {"splitter": ThoughtSplitter(True)}, "b"),
        ("abc", {"max_tokens": 1}, "a"),
        ("abc", {}, "c"),
        ("of the", {"stop_texts": ["the end"], "max_tokens": 2}, " "),  # "the" comes with the end
    ],
)
def test_a_cancelled_answer_has_no_further_pieces(text: str, options: dict[str, Any], last: str) -> None:
    running = generation(Script(text), **options)
    pieces = []
    for piece in running:
        pieces.append(piece)
        if piece.text == last:
            running.cancel()
    done = running.completion
    assert (pieces[-1].text, done.finish_reason) == (last, "interrupted")
    assert done.thought + done.answer == "".join(piece.text for piece in pieces)


def test_no_piece_of_a_token_follows_a_cancellation() -> None:
    running = generation(Script("abc"))
    found = running._record([Piece("a"), Piece("b")])
    assert next(found) == Piece("a")
    running.cancel()
    assert list(found) == []


def test_an_answer_that_was_whole_stays_so() -> None:
    running = generation(Script("ab"))
    assert running.complete().finish_reason == "stop"
    running.cancel()
    assert running.completion.finish_reason == "stop"


def test_a_cancellation_that_was_meant_for_another_answer_changes_nothing() -> None:
    script = Script("abc")
    late = [False, True, False, True, True]

    def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
        if late and late.pop(0):
            raise EvaluationCancelledError("the call was cancelled")
        return script(ids)

    done = generation(evaluate).complete()
    a, b, c = TOKENIZER.encode("abc", add_bos=False)
    assert (done.text, done.finish_reason) == ("abc", "stop")
    assert script.evaluated == [PROMPT, [a], [b], [c]]


def test_an_answer_whose_session_was_closed_is_interrupted() -> None:
    def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
        raise EvaluationCancelledError("the call was cancelled")

    running = generation(evaluate, is_current=lambda: False)
    assert running.complete().finish_reason == "interrupted"


def test_an_answer_goes_on_after_its_session_was_in_use() -> None:
    script = Script("abc")
    busy = [False, True, True, False, False, True]

    def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
        if busy and busy.pop(0):
            raise SessionBusyError("the session is in use")
        return script(ids)

    running = generation(evaluate)
    refused = 0
    text = ""
    while True:
        try:
            text += next(running).text
        except SessionBusyError:
            refused += 1
        except StopIteration:
            break
    assert (text, refused, running.completion.finish_reason) == ("abc", 3, "stop")
