"""Sessions: generating, what ends an answer, reuse of the KV cache, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_engine import GREEDY, QUESTION, scripted
from tiny_artifact import BOS, EOS, rewrite_manifest, write_tiny_artifact

from edgekit.errors import ContextLengthError, EngineError, TokenRangeError
from edgekit.runtime.loading import load
from edgekit.runtime.prefix_cache import common_prefix
from edgekit.runtime.session import Piece, Session
from edgekit.sampling import Sampling


@pytest.fixture
def session(artifact: Path) -> Iterator[Session]:
    with load(artifact, engine="ort", threads=1) as opened:
        yield opened


def test_greedy_text_is_the_golden_continuation(session: Session) -> None:
    golden = session.manifest.golden
    assert golden is not None
    count = len(golden["continuation_ids"])
    completion = session.generate(golden["prompt_ids"], max_tokens=count, sampling=GREEDY).complete()
    assert completion.tokens == golden["continuation_ids"]
    assert completion.prompt_tokens == golden["prompt_ids"]
    assert completion.text == session.tokenizer.decode(completion.tokens)
    assert completion.finish_reason == "length"
    assert completion.ttft_s > 0
    assert completion.decode_tok_s is not None
    assert completion.decode_tok_s > 0


def test_a_text_and_its_ids_give_the_same_answer(session: Session) -> None:
    text = "The capital of Italy"
    by_text = session.generate(text, max_tokens=9, sampling=GREEDY).complete()
    assert by_text.prompt_tokens[0] == BOS
    by_ids = session.generate(session.tokenizer.encode(text), max_tokens=9, sampling=GREEDY).complete()
    assert by_text.tokens == by_ids.tokens


def test_the_pieces_add_up_to_the_text(session: Session) -> None:
    generation = session.generate("Größe", max_tokens=60, sampling=Sampling(temperature=2.0), seed=5)
    pieces = list(generation)
    assert "".join(piece.text for piece in pieces) == generation.completion.text
    assert all(piece.text and not piece.thought for piece in pieces)
    assert generation.completion.answer == generation.completion.text


def test_a_seed_repeats_an_answer(session: Session) -> None:
    def answer(seed: int) -> list[int]:
        sampling = Sampling(temperature=1.5)
        return session.generate("Rome", max_tokens=20, sampling=sampling, seed=seed).complete().tokens

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


def test_the_artifacts_sampling_is_the_default(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    rewrite_manifest(folder, sampling={"temperature": 1.7, "top_p": 0.9})
    with load(folder, threads=1) as session:
        sampling = Sampling(temperature=1.7, top_p=0.9)
        assert session.sampling == sampling
        default = session.generate("Rome", max_tokens=20, seed=3).complete().tokens
        assert default == session.generate("Rome", max_tokens=20, sampling=sampling, seed=3).complete().tokens
        assert default != session.generate("Rome", max_tokens=20, sampling=GREEDY).complete().tokens


def test_the_repetition_penalty_counts_the_prompts_tokens(artifact: Path) -> None:
    session, _ = scripted(artifact, "a")
    letter = session.tokenizer.token_id("a")
    assert letter is not None
    sampling = Sampling(temperature=0, repetition_penalty=2.0)
    vocabulary = list(range(4, 200))
    assert session.generate([5, letter], max_tokens=1, sampling=sampling).complete().tokens == [letter]  # 0.5 against 0
    session.engine.evaluate = lambda ids: np.ones((1, session.engine.vocab_size), np.float32)  # type: ignore[method-assign]
    found = session.generate([0, 1, 2, 3, *vocabulary], max_tokens=1, sampling=sampling).complete()
    assert found.tokens == [200]  # the first id that is not in the prompt


def test_a_stop_token_ends_the_answer_and_is_not_printed(artifact: Path) -> None:
    session, engine = scripted(artifact, "Paris.")
    completion = session.chat(QUESTION).complete()
    assert (completion.text, completion.finish_reason) == ("Paris.", "stop")
    assert completion.tokens[-1] == EOS
    assert engine.script == []
    assert [EOS] not in engine.evaluated


def test_more_stop_ids_can_be_given(artifact: Path) -> None:
    session, _ = scripted(artifact, "abc", end=[])
    letter = session.tokenizer.token_id("b")
    assert letter is not None
    completion = session.generate("x", stop_ids=[letter]).complete()
    assert completion.finish_reason == "stop"
    assert completion.tokens[-1] == letter


@pytest.mark.parametrize("messages", [None, "x", b"x", 5, {"role": "user", "content": "x"}])
def test_messages_that_are_no_list_are_refused(artifact: Path, messages: Any) -> None:
    session, _ = scripted(artifact, "abc")
    with pytest.raises(ValueError, match="messages must be a list of dictionaries"):
        session.chat(messages)


def test_stop_texts_end_one_answer(artifact: Path) -> None:
    for stop, expected in (("cd", "ab"), (["x", "e"], "abcd"), ((), "abcdef")):
        session, _ = scripted(artifact, "abcdef")
        done = session.generate("x", stop=stop).complete()
        assert (done.text, done.finish_reason) == (expected, "stop")


def test_single_settings_replace_those_of_the_sampling(artifact: Path) -> None:
    hot = Sampling(temperature=5.0, top_k=7)
    session, _ = scripted(artifact, "abcdef")
    assert session.generate("x", sampling=hot, temperature=0.0).complete().text == "abcdef"
    session, _ = scripted(artifact, "abcdef")
    assert session.chat(QUESTION, sampling=hot, top_k=1).complete().text == "abcdef"


def test_log_probabilities_are_those_of_the_model(session: Session) -> None:
    ids = session.tokenizer.encode("ab")
    generation = session.generate(ids, max_tokens=4, temperature=3.0, seed=1, logprobs=2)
    done = generation.complete()
    assert done.logprobs is not None
    assert [found.token for found in done.logprobs] == done.tokens
    logits = session.engine.evaluate(done.tokens[-1:])[-1].astype(np.float64)  # after the whole answer
    session.engine.rewind(len(ids) + 1)
    logits = session.engine.evaluate(done.tokens[1:2])[-1].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum())
    third = done.logprobs[2]
    assert third.logprob == pytest.approx(expected[third.token], abs=1e-4)
    assert [other.logprob for other in third.top] == pytest.approx(np.sort(expected)[:-3:-1], abs=1e-4)
    assert session.generate("x", max_tokens=1).complete().logprobs is None


def test_max_tokens_limits_the_answer(artifact: Path) -> None:
    session, engine = scripted(artifact, "abcdef")
    completion = session.generate("x", max_tokens=3).complete()
    assert (len(completion.tokens), completion.finish_reason) == (3, "length")
    assert len(engine.evaluated) == 3  # the third token is not evaluated


def test_held_back_bytes_are_shown_at_the_end(artifact: Path) -> None:
    session, _ = scripted(artifact, "x")
    lead = session.tokenizer.token_id("ð")
    assert lead is not None
    session, _ = scripted(artifact, "x", end=[lead, EOS])
    generation = session.generate("x")
    assert [piece.text for piece in generation] == ["x", "\N{REPLACEMENT CHARACTER}"]
    assert generation.completion.text == "x\N{REPLACEMENT CHARACTER}"


def test_a_full_context_ends_the_answer(session: Session, artifact: Path) -> None:
    with load(artifact, context=16, threads=1) as small:
        prompt = list(range(20, 30))
        completion = small.generate(prompt, sampling=GREEDY).complete()
        assert completion.finish_reason == "context"
        assert (
            len(completion.tokens) == 7
        )  # after ten prompt tokens, six more fit; the seventh is generated but not evaluated
        assert completion.tokens == session.generate(prompt, max_tokens=7, sampling=GREEDY).complete().tokens
        full = small.generate(range(20, 36), sampling=GREEDY).complete()
        assert (len(full.tokens), full.finish_reason) == (1, "context")
        with pytest.raises(ContextLengthError, match=r"17 tokens; the context holds 16") as raised:
            small.generate(range(20, 37))
        longest = small.manifest.model["context_length"]
        assert raised.value.hint.endswith(f"allows up to {longest} tokens)")
        small.manifest.model["context_length"] = 16
        with pytest.raises(ContextLengthError) as raised:
            small.generate(range(20, 37))
        assert raised.value.hint == "shorten the prompt"


def test_cached_tokens_are_not_evaluated_again(artifact: Path) -> None:
    session, engine = scripted(artifact, "Paris.")
    first = session.chat(QUESTION).complete()
    messages = [*QUESTION, {"role": "assistant", "content": first.answer}, {"role": "user", "content": "And Italy?"}]
    engine.script = [EOS]
    engine.evaluated = []
    second = session.chat(messages).complete()
    shared = common_prefix(first.prompt_tokens + first.tokens[:-1], second.prompt_tokens)
    assert shared >= len(first.prompt_tokens)
    assert engine.evaluated == [second.prompt_tokens[shared:]]


def test_the_same_prompt_again_evaluates_one_token(artifact: Path) -> None:
    session, engine = scripted(artifact, "abc", end=[EOS, EOS])
    session.generate("Rome").complete()
    engine.evaluated = []
    prompt = session.generate("Rome").complete().prompt_tokens
    assert engine.evaluated == [prompt[-1:]]


def test_reusing_the_cache_does_not_change_answers(session: Session, artifact: Path) -> None:
    prompts = ["The capital of France is", "The capital of Italy", "The", "The capital of France is Paris", "你好"]
    for prompt in prompts:
        warm = session.generate(prompt, max_tokens=12, sampling=GREEDY).complete()
        with load(artifact, threads=1) as fresh:
            assert fresh.generate(prompt, max_tokens=12, sampling=GREEDY).complete().tokens == warm.tokens


def test_a_failed_evaluation_leaves_the_session_usable(session: Session) -> None:
    expected = session.generate("Rome", max_tokens=6, sampling=GREEDY).complete().tokens
    with pytest.raises(TokenRangeError):
        session.generate([5, 10**6], max_tokens=1).complete()
    assert session.generate("Rome", max_tokens=6, sampling=GREEDY).complete().tokens == expected


def test_an_answer_can_be_stopped_and_read(artifact: Path) -> None:
    session, _ = scripted(artifact, "abcdef")
    generation = session.generate("x")
    assert next(generation) == Piece("a")
    completion = generation.stop()
    assert (completion.text, completion.finish_reason) == ("a", "interrupted")
    assert list(generation) == []


def test_a_new_answer_supersedes_the_old_one(session: Session) -> None:
    old = session.generate("Rome", sampling=GREEDY)
    next(old)
    new = session.generate("Paris", max_tokens=4, sampling=GREEDY)
    with pytest.raises(EngineError, match="cannot be continued"):
        list(old)
    assert len(new.complete().tokens) == 4


def test_a_closed_session_generates_nothing(artifact: Path) -> None:
    session = load(artifact, threads=1)
    running = session.generate("Rome")
    session.close()
    session.close()
    with pytest.raises(EngineError, match="cannot be continued"):
        next(running)
    with pytest.raises(EngineError, match="closed"):
        next(session.generate("Rome"))


def test_a_closed_answer_ends(artifact: Path) -> None:
    session, _ = scripted(artifact, "abcdef")
    with closing(session.generate("x")) as generation:
        next(generation)
    assert list(generation) == []


@pytest.mark.parametrize(("prompt", "max_tokens", "message"), [("x", 0, "max_tokens is 0"), ([], 1, "prompt is empty")])
def test_invalid_requests_are_refused(session: Session, prompt: Any, max_tokens: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        session.generate(prompt, max_tokens=max_tokens)
