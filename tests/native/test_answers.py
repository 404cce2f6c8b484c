"""Answers of ``ek_generate`` are those of edgekit's Python sessions, and can be cancelled at any time."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_models import SharedModels

import edgekit
from edgekit import native
from edgekit.artifact.manifest import read_manifest
from edgekit.build.text_file import FILE_NAME, text_file
from edgekit.errors import EngineError
from edgekit.native.text import ANSWER, DONE, PROMPT, THOUGHT, NativeText
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.loading import open_session
from edgekit.runtime.native_engine import NativeEngine
from edgekit.runtime.text_stream import TextStream
from edgekit.sampling import Sampling

pytestmark = pytest.mark.every_isa
CONTEXT = 96
QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]
THINKING = "{% if add_generation_prompt %}<think>\n{% endif %}"


@dataclass
class Pair:
    """The same artifact in Python and in the native library."""

    session: edgekit.Session
    text: NativeText
    engine: NativeEngine
    folder: Path

    def answer(self, prompt: Any, **options: Any) -> Any:
        return self.text.generate(self.engine._session, prompt, **options)


@pytest.fixture(scope="module", params=["answers", "thoughts"])
def pair(
    request: pytest.FixtureRequest, models: SharedModels, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    artifact, folder = models.artifact("llama"), tmp_path_factory.mktemp("artifact")
    facts = read_manifest(artifact)
    for path in artifact.iterdir():
        (folder / path.name).symlink_to(path)
    if request.param == "thoughts":
        template = folder / "chat_template.jinja"
        source = template.read_text(encoding="utf-8")
        template.unlink()
        template.write_text(source + THINKING, encoding="utf-8")
        facts.__dict__.update(reasoning=True)
        (folder / FILE_NAME).unlink()
        made = text_file(folder, facts)
        assert made.content is not None
        assert made.warnings == ()
        (folder / FILE_NAME).write_bytes(made.content)
    text = NativeText(folder)
    engine = NativeEngine(folder, CONTEXT, 1, all_logits=False)
    with open_session(folder, facts, EngineOptions(context=CONTEXT, threads=1), "native") as session:
        yield Pair(session, text, engine, folder)
    engine.close()
    text.close()


def sampling(**changes: Any) -> tuple[Sampling, native.Sampling]:
    chosen = Sampling(**changes)
    return chosen, native.Sampling(
        chosen.temperature, chosen.top_p, chosen.min_p, chosen.repetition_penalty, chosen.top_k
    )


SETTINGS = [
    {"temperature": 0},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 0.8, "repetition_penalty": 1.3, "top_k": 40},
]


@pytest.mark.parametrize("values", SETTINGS)
@pytest.mark.parametrize("chat", [False, True])
def test_an_answer_is_the_one_of_the_python_session(pair: Pair, values: dict[str, Any], chat: bool) -> None:
    chosen, given_ = sampling(**values)
    for seed in (0, 7, 2**64 - 1):
        ask = pair.session.chat if chat else pair.session.generate
        expected = ask(QUESTION if chat else "The capital", max_tokens=40, sampling=chosen, seed=seed).complete()
        found = pair.answer(QUESTION if chat else "The capital", max_tokens=40, sampling=given_, seed=seed)
        for name in ("text", "thought", "answer", "tokens", "prompt_tokens", "finish_reason"):
            assert getattr(found, name) == getattr(expected, name), name
        assert found.ttft_s > 0


def test_defaults_are_the_artifacts(pair: Pair) -> None:
    expected = pair.session.chat(QUESTION, seed=3).complete()
    found = pair.answer(QUESTION, seed=3)
    assert (found.tokens, found.finish_reason) == (expected.tokens, expected.finish_reason)
    assert pair.answer(QUESTION, max_tokens=8).prompt_tokens == expected.prompt_tokens


def test_only_new_tokens_of_a_prompt_are_evaluated(pair: Pair) -> None:
    ids = list(range(10, 30))
    pair.answer([5, 6], max_tokens=1)
    assert pair.answer(ids, max_tokens=1).reused_tokens == 0
    assert pair.answer(ids, max_tokens=1).reused_tokens == 19
    assert pair.answer([*ids, 40, 41], max_tokens=1).reused_tokens == 20


def test_the_same_calls_on_a_new_session_give_the_same_answers(pair: Pair) -> None:
    chosen = sampling(temperature=1.0)[1]
    calls = (
        QUESTION,
        QUESTION,
        list(range(10, 80)),
        "The capital",
        QUESTION,
    )  # some find their beginning in the session

    def answers() -> list[Any]:
        engine = NativeEngine(pair.folder, CONTEXT, 1, all_logits=False)
        found = [pair.text.generate(engine._session, call, max_tokens=12, sampling=chosen, seed=5) for call in calls]
        engine.close()
        return [(each.tokens, each.reused_tokens) for each in found]

    first = answers()
    assert first == answers()
    assert any(reused for _, reused in first)


def test_stops(pair: Pair) -> None:
    greedy = sampling(temperature=0)[1]
    plain = pair.answer("The capital", max_tokens=40, sampling=greedy)
    place = next(i for i, token in enumerate(plain.tokens) if token not in plain.tokens[:i] and i > 3)
    stopped = pair.answer("The capital", max_tokens=40, sampling=greedy, stop_ids=[plain.tokens[place]])
    assert stopped.tokens == plain.tokens[: place + 1]
    assert stopped.finish_reason == "stop"
    stop = plain.answer[5:8]
    stopped = pair.answer("The capital", max_tokens=40, sampling=greedy, stop_texts=["never", stop])
    assert stopped.answer == stopped.text == plain.answer[: plain.answer.index(stop)]
    assert stopped.finish_reason == "stop"
    full = pair.answer("The capital", sampling=greedy, ignore_stops=True)
    assert full.finish_reason == "context"
    assert len(full.tokens) + len(full.prompt_tokens) == CONTEXT + 1


def test_a_thought_can_be_limited(pair: Pair) -> None:
    chosen = sampling(temperature=1.0)[1]
    question = [{"role": "user", "content": "2?"}]
    found = pair.answer(question, max_thought_tokens=6, sampling=chosen, seed=1, ignore_stops=True)
    if pair.session.manifest.reasoning:
        thought, tag, _ = found.text.partition("</think>\n\n")
        assert tag
        assert thought.endswith("\n\nI have thought about this for long enough, so I will answer now.\n")
        assert found.thought_closed == "budget"
        assert found.thought == thought.strip()
        assert 6 < found.thought_tokens < len(found.tokens)
        closing = pair.text.encode(thought[len(pair.text.decode(found.tokens[:6]).decode()) :] + tag)
        assert found.tokens[6 : 6 + len(closing)] == closing
    else:
        assert found.thought_tokens == 0
        assert found.thought_closed == "model"


def test_a_thought_of_random_bytes_is_closed_in_time(pair: Pair) -> None:
    """The tiny model's tokens are often no characters; both wait for three more tokens at most."""
    chosen, given_ = sampling(temperature=3.0)
    waited, options = set[int](), EngineOptions(context=CONTEXT, threads=1)
    engine = NativeEngine(pair.folder, CONTEXT, 1, all_logits=False)
    with closing(engine), open_session(pair.folder, pair.session.manifest, options, "native") as session:
        for seed in range(24):
            expected = session.chat(QUESTION, max_tokens=60, think_tokens=6, sampling=chosen, seed=seed).complete()
            found = pair.text.generate(
                engine._session, QUESTION, max_tokens=60, max_thought_tokens=6, sampling=given_, seed=seed
            )
            assert (found.tokens, found.text) == (expected.tokens, expected.text)
            sentence = pair.text.encode("I have thought about this")
            starts = [n for n in range(6, 14) if found.tokens[n : n + len(sentence)] == sentence]
            if (
                pair.session.manifest.reasoning and "</think>" not in found.text and len(found.tokens) > 40
            ):  # neither the model's end nor a stop
                waited.add(starts[0] - 6)  # with the blank line before it
    if pair.session.manifest.reasoning:
        assert len(waited) > 1
        assert max(waited) <= 3 + 2


def test_the_loop_guard_is_checked(pair: Pair) -> None:
    greedy = sampling(temperature=0)[1]
    for guard in (0, 1, 2):  # a context of 96 tokens is too short for a loop
        found = pair.answer("The capital", sampling=greedy, ignore_stops=True, loop_guard=guard)
        assert (found.loops, found.finish_reason) == (0, "context")
    with pytest.raises(EngineError, match="the loop guard is 3"):
        pair.answer("The capital", loop_guard=3)


def test_a_callback_cancels(pair: Pair) -> None:
    for last in (PROMPT, ANSWER, THOUGHT):
        seen: list[int] = []

        def on_event(kind: int, text: str, seen: list[int] = seen, last: int = last) -> bool:
            seen.append(kind)
            return kind == last

        found = pair.answer(list(range(10, 90)), max_tokens=5, on_event=on_event, ignore_stops=True)
        assert seen[-1] == DONE
        if last in seen:
            assert found.finish_reason == "interrupted"
            assert seen.index(last) == len(seen) - 2
            assert (found.tokens == []) == (last == PROMPT)
        else:
            assert found.finish_reason == "length"


def test_another_thread_cancels(pair: Pair) -> None:
    started = threading.Event()

    def cancel() -> None:
        started.wait()
        native.library().ek_session_cancel(pair.engine._session)

    thread = threading.Thread(target=cancel)
    thread.start()
    answers = []
    while True:
        answers.append(pair.answer("The capital", ignore_stops=True, on_event=lambda kind, text: started.set()))
        if answers[-1].finish_reason == "interrupted" or not thread.is_alive():
            break
    thread.join()
    assert {answer.finish_reason for answer in answers} <= {"interrupted", "context"}
    assert pair.answer("The capital", max_tokens=2, ignore_stops=True).finish_reason == "length", (
        "a cancel is for one answer"
    )


def test_a_session_answers_one_request_at_a_time(pair: Pair) -> None:
    def on_event(kind: int, text: str) -> bool:
        pair.answer("x", max_tokens=1)
        return False

    with pytest.raises(EngineError, match="another call uses this session"):
        pair.answer("The capital", max_tokens=5, on_event=on_event, ignore_stops=True)
    assert len(pair.answer("The capital", max_tokens=5, ignore_stops=True).tokens) == 5


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "the prompt is empty; the model needs at least one token"),
        ([1] * (CONTEXT + 1), {}, rf"the prompt has {CONTEXT + 1} tokens; the context holds {CONTEXT}"),
        ([10**6], {}, "token id 1000000 is outside the vocabulary"),
        ("x", {"max_tokens": -1}, "max_tokens is -1"),
        ([{"role": "tool", "content": ""}], {}, "has the role 'tool'"),
    ],
)
def test_wrong_requests(pair: Pair, prompt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        pair.answer(prompt, **options)


def test_a_stream_returns_the_pieces_of_the_python_stream(pair: Pair) -> None:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.integers(-1, 320), max_size=40))
    def check(ids: list[int]) -> None:
        stream = TextStream(pair.session.tokenizer)
        assert pair.text.pieces(ids) == [*(stream.push(i) if i >= 0 else "" for i in ids), stream.flush()]

    check()


def test_null_handles_are_errors() -> None:
    library = native.library()
    assert library.ek_generate(None, None, None, None, None) == native.BAD_ARGUMENT
    assert library.ek_text_open(None, None) == native.BAD_ARGUMENT
    library.ek_session_cancel(None)
    library.ek_stream_free(None)
    library.ek_text_close(ctypes.c_void_p())


def test_a_folder_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no edgekit_text.bin"):
        NativeText(tmp_path)


THROWS = r"""
#include <edgekit.hpp>
#include <cstdio>
int main(int, char **arguments) {
  edgekit::Session session(std::make_shared<edgekit::Model>(arguments[1]), {64, 1});
  edgekit::Request request;
  request.prompt = "The capital";
  request.ignore_stops = true;
  int events = 0;
  try {
    session.generate(request, [&](const ek_event &) -> bool {
      if (++events == 3) throw std::runtime_error("the window is closed");
      return true;
    });
  } catch (const std::runtime_error &error) {
    std::puts(error.what());
  }
  const auto answer = session.generate(request, [](const ek_event &event) { return event.kind != EK_EVENT_ANSWER; });
  std::printf("%d events, then %d\n", events, answer.finish);
}
"""


def test_a_callback_of_cpp_may_throw(models: SharedModels, tmp_path: Path) -> None:
    """The program has another C++ runtime than the library, which links its own."""
    library = Path(native.library()._name)
    include = Path(native.__file__).parent / "include"
    source, program = tmp_path / "throws.cpp", tmp_path / "throws"
    source.write_text(THROWS, encoding="utf-8")
    flags = [
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-I",
        include,
        "-o",
        program,
        library,
        f"-Wl,-rpath,{library.parent}",
    ]
    subprocess.run(["c++", source, *flags], check=True)
    found = subprocess.run([program, models.artifact("llama")], capture_output=True, text=True, check=True)
    assert found.stdout == "the window is closed\n3 events, then 3\n"
