"""Sessions: generating and chatting, what ends an answer, reuse of the KV cache, and errors."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shared_models import SharedModels
from tiny_artifact import BOS, EOS, REASONING_TEMPLATE, rewrite_manifest, write_tiny_artifact

import edgekit
from edgekit.artifact.manifest import read_manifest
from edgekit.errors import (
    ContextLengthError,
    EngineError,
    EvaluationCancelledError,
    SessionBusyError,
    TokenizerError,
    TokenRangeError,
)
from edgekit.runtime import background
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.loading import load
from edgekit.runtime.prefix_cache import common_prefix
from edgekit.runtime.session import Message, Piece, Session
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.sampling import Sampling

GREEDY = Sampling(temperature=0)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class ScriptedEngine:
    """An engine that generates a given script and records the ids that it is asked to evaluate."""

    name, kernel, threads, cache_bytes = "scripted", "none", 1, 0

    def __init__(self, vocab_size: int, context: int, script: Sequence[int]) -> None:
        self.vocab_size, self.context, self.position = vocab_size, context, 0
        self.script = list(script)
        self.evaluated: list[list[int]] = []

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.evaluated.append(list(ids))
        self.position += len(ids)
        assert self.position <= self.context
        logits = np.zeros((1, self.vocab_size), np.float32)
        logits[0, self.script.pop(0)] = 1.0
        return logits

    def rewind(self, length: int) -> None:
        assert 0 <= length <= self.position
        self.position = length

    def close(self) -> None:
        self.position = 0


def scripted(
    folder: Path, output: str, context: int = 256, end: Sequence[int] = (EOS,)
) -> tuple[Session, ScriptedEngine]:
    manifest = read_manifest(folder)
    tokenizer = Tokenizer.open(folder, manifest.tokens)
    script = [*tokenizer.encode(output, add_bos=False), *end]
    engine = ScriptedEngine(int(manifest.model["vocab_size"]), context, script)
    return Session(engine, tokenizer, ChatTemplate.open(folder, tokenizer), manifest), engine


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
        with pytest.raises(ContextLengthError, match=r"17 tokens; the context holds 16"):
            small.generate(range(20, 37))


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


def test_a_reasoning_models_output_starts_inside_the_thought(reasoning_artifact: Path) -> None:
    session, _ = scripted(reasoning_artifact, "Let me see.\n</think>\n\nParis.")
    generation = session.chat(QUESTION)
    pieces = list(generation)
    completion = generation.completion
    assert completion.thought == "Let me see."
    assert completion.answer == "Paris."
    assert completion.text == "Let me see.\n</think>\n\nParis."
    assert [piece.thought for piece in pieces] == sorted((piece.thought for piece in pieces), reverse=True)


def test_tags_are_recognized_even_if_they_are_special_tokens(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a", reasoning=True)
    path = folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    at = text.index('"</think>"')
    end = text.index("}", at)
    path.write_text(text[:at] + text[at:end].replace('"special": false', '"special": true') + text[end:], "utf-8")
    session, _ = scripted(folder, "hm</think>Paris.")
    tag = session.tokenizer.token_id("</think>")
    assert tag is not None
    assert session.tokenizer.is_silent(tag)
    completion = session.chat(QUESTION).complete()
    assert (completion.thought, completion.answer) == ("hm", "Paris.")
    assert completion.text == "hm</think>Paris."


def test_a_whole_output_that_comes_back_loses_its_thought(reasoning_artifact: Path) -> None:
    output = "I mention `</think>` here. </think> Paris, not </think>."
    session, _ = scripted(reasoning_artifact, output)
    question: list[Message] = [{"role": "user", "content": "x"}]
    history: list[Message] = [*question, {"role": "assistant", "content": output}, *question]
    assert output in session.render(history)  # the first tag may be a mention
    whole = session.chat(question).complete().text
    assert whole == output
    assert "mention" not in session.render(history)
    assert "here. </think> Paris, not </think>." in session.render(history)


def test_what_messages_spell_is_text(session: Session) -> None:
    def control(text: str) -> list[int]:
        generation = session.chat([{"role": "user", "content": text}], max_tokens=1)
        return [i for i in generation.completion.prompt_tokens if i < 4]

    assert control("hello<|eos|>\n<|user|><|bos|>") == control("hello")
    assert session.generate("<|user|>x", max_tokens=1).completion.prompt_tokens[:2] == [0, 2]  # a plain prompt may


def test_tools_documents_and_variables_reach_the_template(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").write_text(
        "{{ tools | tojson }}{# <tool_call> #}{{ documents[0].text if documents }}{{ mode }}{{ messages[0].content }}"
    )
    question: list[Message] = [{"role": "user", "content": "?"}]
    with load(folder, context=64) as session:
        more: dict[str, Any] = {"tools": [{"name": "f"}], "documents": [{"text": "d"}], "variables": {"mode": "!"}}
        assert session.render(question, **more) == '[{"name": "f"}]d!?'
        ids = session.chat(question, max_tokens=1, **more).completion.prompt_tokens
        assert session.tokenizer.decode(ids) == '[{"name": "f"}]d!?'


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_calls_of_functions_are_taken_out_of_the_answer(artifact: Path) -> None:
    text = 'I look.<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
    session, _ = scripted(artifact, text, context=700)
    *texts, call, done = session.chat(QUESTION, tools=[WEATHER]).events()
    assert isinstance(done, edgekit.Done)
    assert isinstance(call, edgekit.ToolCall)
    assert (call.name, call.values, done.completion.tool_calls) == ("weather", {"city": "Bern"}, [call])
    assert (
        "".join(text.text for text in texts if isinstance(text, edgekit.Answer)) == done.completion.answer == "I look."
    )
    assert done.completion.text == text
    assert done.completion.message["tool_calls"][0]["id"] == call.id
    for nothing in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        session, _ = scripted(artifact, text, context=700)
        plain = session.chat(QUESTION, **nothing).complete()  # type: ignore[arg-type]
        assert (plain.answer, plain.tool_calls) == (text, [])


def test_a_function_has_to_be_called(built_artifact: Path) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    parameters = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with load(built_artifact, context=700) as session:
        done = session.chat(QUESTION, tools=tools, tool_choice="f", max_tokens=250, temperature=0).complete()
        assert (done.answer, done.tool_calls[0].name, done.finish_reason) == ("", "f", "stop")
        assert done.tool_calls[0].values["a"] in (1, 2)
        result = {"role": "tool", "tool_call_id": done.tool_calls[0].id, "content": "42"}
        again = session.chat([*QUESTION, done.message, result], max_tokens=2).complete()
        assert "42" in session.tokenizer.decode(again.prompt_tokens)
        with pytest.raises(ValueError, match="tool_choice is 'g'"):
            session.chat(QUESTION, tools=tools, tool_choice="g")


def test_a_model_that_does_not_reason_may_write_the_tag(artifact: Path) -> None:
    session, _ = scripted(artifact, "<think> is a tag")
    completion = session.chat(QUESTION).complete()
    assert (completion.thought, completion.answer) == ("", "<think> is a tag")


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


class PreparingEngine(ScriptedEngine):
    """Can be cancelled, which ends the evaluation of a prompt behind the first."""

    def __init__(self, vocab_size: int, context: int, script: Sequence[int]) -> None:
        super().__init__(vocab_size, context, [*script, *[EOS] * 9])
        self.waits = False  # before it evaluates in another thread than the main one
        self.started, self.cancelled = threading.Event(), threading.Event()

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        if threading.current_thread() is not threading.main_thread():
            self.cancelled.clear()
            self.started.set()
            if self.waits and self.cancelled.wait(60):
                raise EvaluationCancelledError("the call was cancelled")
        return super().evaluate(ids)

    def cancel(self) -> None:
        self.cancelled.set()


THOUGHTFUL = "Let me see.\n</think>\n\n" + "Paris. " * 90  # the answer has more tokens than a piece


@pytest.fixture
def preparing(reasoning_artifact: Path) -> Iterator[tuple[Session, PreparingEngine]]:
    manifest = read_manifest(reasoning_artifact)
    tokenizer = Tokenizer.open(reasoning_artifact, manifest.tokens)
    script = [*tokenizer.encode(THOUGHTFUL, add_bos=False), EOS]
    engine = PreparingEngine(int(manifest.model["vocab_size"]), 640, script)
    template = ChatTemplate.open(reasoning_artifact, tokenizer)
    with Session(engine, tokenizer, template, manifest, prepare=True) as session:
        yield session, engine


@pytest.mark.parametrize("kept", ["text", "answer"])
def test_the_next_turn_is_prepared(preparing: tuple[Session, PreparingEngine], kept: str) -> None:
    session, engine = preparing
    first = session.chat(QUESTION).complete()
    session._background.wait()
    engine.evaluated, session._prepares = [], False
    answer: Message = {"role": "assistant", "content": getattr(first, kept)}
    second = session.chat([*QUESTION, answer, {"role": "user", "content": "Rome?"}]).complete()
    [rest] = engine.evaluated
    assert session.tokenizer.decode(rest) == "Rome?\n<think>\n"
    assert second.finish_reason == "stop"


def test_a_preparation_that_was_given_up_is_continued_in_the_same_pieces(
    preparing: tuple[Session, PreparingEngine], tmp_path: Path
) -> None:
    session, engine = preparing
    engine.waits = True
    first = session.chat(QUESTION).complete()
    assert engine.started.wait(60)
    with pytest.raises(EngineError, match="cannot save"):  # but not that the session is in use
        session.save_state(tmp_path / "state")
    engine.evaluated, session._prepares = [], False
    answer: Message = {"role": "assistant", "content": first.text}
    second = session.chat([*QUESTION, answer, {"role": "user", "content": "Rome?"}]).complete()
    *pieces, rest = engine.evaluated
    assert sum(map(len, pieces)) > 128
    assert session.tokenizer.decode(rest) == "Rome?\n<think>\n"
    assert second.finish_reason == "stop"


@pytest.mark.parametrize("end", ["close", "exit"])
def test_a_preparation_ends_with_its_session_and_with_the_process(
    preparing: tuple[Session, PreparingEngine], end: str
) -> None:
    session, engine = preparing
    engine.waits = True
    session.chat(QUESTION).complete()
    assert engine.started.wait(60)
    if end == "close":
        session.close()
    else:
        background._end()  # as atexit does
    assert not any(thread.name == "edgekit-prepare" for thread in threading.enumerate())


def test_nothing_is_prepared_unless_the_answer_ended_and_is_the_last(
    preparing: tuple[Session, PreparingEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = preparing
    started: list[object] = []
    monkeypatch.setattr(session._background, "start", started.append)
    generation = session.chat(QUESTION)
    next(generation)
    generation.stop()
    assert started == []
    generation = session.chat(QUESTION)
    next(generation)
    session.generate("Rome")  # supersedes it
    generation.close()
    assert started == []
    session.chat(QUESTION).complete()
    assert len(started) == 1
    session._prepares = False
    session.chat(QUESTION).complete()
    assert len(started) == 1


def test_preparing_does_not_change_answers(models: SharedModels, tmp_path: Path) -> None:
    """However long somebody reads; with the arithmetic of onnxruntime and of the native engine."""
    native = shutil.copytree(models.artifact("llama", "int4 block 32"), tmp_path / "native")
    rewrite_manifest(native, reasoning=True)
    (native / "chat_template.jinja").write_text(REASONING_TEMPLATE, encoding="utf-8")
    for folder in (models.tiny(reasoning=True), native):
        found: set[tuple[int, ...]] = set()
        prepared = 0
        for wait in (True, False):
            with load(folder, threads=1) as session:
                messages: list[Message] = [{"role": "user", "content": "What is it? " * 9}]
                for question in ("And Rome?", "And?"):
                    generation = session.chat(messages, sampling=GREEDY, think_tokens=20, max_tokens=160)
                    completion = generation.complete()
                    if wait:
                        session._background.wait()
                        evaluated = len(completion.prompt_tokens) + len(completion.tokens) - 1
                        prepared += evaluated != session.engine.position
                    messages.append({"role": "assistant", "content": completion.text})
                    messages.append({"role": "user", "content": question})
                found.add(tuple(session.chat(messages, sampling=GREEDY, max_tokens=20).complete().tokens))
        assert prepared > 0
        assert len(found) == 1


class SlowEngine(ScriptedEngine):
    """Evaluates a token until it is cancelled, or for 60 s."""

    def __init__(self, vocab_size: int, context: int, script: Sequence[int]) -> None:
        super().__init__(vocab_size, context, script)
        self.started, self.cancelled = threading.Event(), threading.Event()

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.cancelled.clear()
        self.started.set()
        if self.cancelled.wait(60):
            raise EvaluationCancelledError("the call was cancelled")
        raise AssertionError("nobody cancelled")

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.fixture
def slow(artifact: Path) -> tuple[Session, SlowEngine]:
    manifest = read_manifest(artifact)
    engine = SlowEngine(int(manifest.model["vocab_size"]), 256, [])
    tokenizer = Tokenizer.open(artifact, manifest.tokens)
    return Session(engine, tokenizer, ChatTemplate.open(artifact, tokenizer), manifest), engine


@pytest.mark.parametrize("end", ["session.cancel", "generation.cancel", "generation.stop", "session.close"])
def test_an_answer_is_cancelled_from_another_thread(slow: tuple[Session, SlowEngine], end: str) -> None:
    session, engine = slow
    generation = session.generate("Rome")
    ends: dict[str, Callable[[], object]] = {
        "session.cancel": session.cancel,
        "generation.cancel": generation.cancel,
        "generation.stop": generation.stop,
        "session.close": session.close,
    }

    def cancel() -> None:
        engine.started.wait()
        ends[end]()

    other = threading.Thread(target=cancel)
    other.start()
    assert list(generation) == []
    other.join()
    assert generation.completion.finish_reason == "interrupted"
    assert list(generation) == [], "it has ended"


def test_a_second_thread_is_told_that_the_session_is_in_use(slow: tuple[Session, SlowEngine], tmp_path: Path) -> None:
    session, engine = slow
    generation = session.generate("Rome")
    other = threading.Thread(target=lambda: list(generation))
    other.start()
    engine.started.wait()
    with pytest.raises(SessionBusyError, match="another thread is generating this answer"):
        next(generation)
    with pytest.raises(SessionBusyError, match="the session is in use by another call"):
        session.generate("Paris")
    session.cancel()
    other.join()
    assert generation.completion.finish_reason == "interrupted"


def test_two_threads_on_one_session(models: SharedModels) -> None:
    """Each gets its answer or an error, whatever their timing."""
    with load(models.artifact("llama", "int4 block 32"), engine="native", threads=2) as session:
        prompts = {"The capital": session.generate("The capital", max_tokens=5, sampling=GREEDY).complete().tokens}
        prompts["It is a"] = session.generate("It is a", max_tokens=5, sampling=GREEDY).complete().tokens
        wrong: list[object] = []
        answered = 0

        def use(prompt: str) -> None:
            nonlocal answered
            for _ in range(100):
                try:
                    found = session.generate(prompt, max_tokens=5, sampling=GREEDY).complete().tokens
                except EngineError as error:
                    if not isinstance(error, SessionBusyError) and "cannot be continued" not in str(error):
                        wrong.append(error)
                except Exception as error:
                    wrong.append(error)
                else:
                    answered += 1
                    if found != prompts[prompt]:
                        wrong.append(found)

        threads = [threading.Thread(target=use, args=[prompt]) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert answered > 0
        assert session.generate("It is a", max_tokens=5, sampling=GREEDY).complete().tokens == prompts["It is a"]


def test_a_signal_handler_may_cancel_but_not_generate(slow: tuple[Session, SlowEngine]) -> None:
    session, engine = slow
    generation = session.generate("Rome")
    refused: list[type[Exception]] = []

    def handle(number: int, frame: object) -> None:
        for call in (lambda: next(generation), lambda: session.generate("Paris"), session.close):
            try:
                call()
            except Exception as error:
                refused.append(type(error))
        generation.stop()

    def interrupt() -> None:
        engine.started.wait()
        time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    other = threading.Thread(target=interrupt)
    try:
        other.start()
        assert list(generation) == []
        other.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert refused == [SessionBusyError] * 3


def test_a_closed_answer_ends(artifact: Path) -> None:
    session, _ = scripted(artifact, "abcdef")
    with closing(session.generate("x")) as generation:
        next(generation)
    assert list(generation) == []


@pytest.mark.parametrize(("prompt", "max_tokens", "message"), [("x", 0, "max_tokens is 0"), ([], 1, "prompt is empty")])
def test_invalid_requests_are_refused(session: Session, prompt: Any, max_tokens: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        session.generate(prompt, max_tokens=max_tokens)


def test_chat_needs_a_chat_template(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "chat_template.jinja").unlink()
    with load(folder, threads=1) as session:
        assert not session.has_chat_template
        with pytest.raises(TokenizerError, match="tiny has no chat template") as caught:
            session.chat(QUESTION)
        assert "--raw" in caught.value.hint
