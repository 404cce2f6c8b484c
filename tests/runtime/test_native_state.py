"""Saved sessions: a loaded session continues exactly, and invalid files are refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from open_engine import engine, prompt
from shared_models import SharedModels

from edgekit.errors import ContextLengthError, EngineError
from edgekit.runtime.loading import load
from edgekit.runtime.native_engine import NativeEngine
from edgekit.runtime.session import Session
from edgekit.sampling import Sampling

pytestmark = pytest.mark.every_isa

GREEDY = Sampling(temperature=0)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def folder(models: SharedModels) -> Path:
    return models.artifact("qwen2", "int4 block 32")


def opened(folder: Path, kv_type: str = "float16", context: int = 600) -> Session:
    return load(folder, engine="native", threads=1, kv_type=kv_type, context=context)


def evaluated(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """A list of the ids that the session's engine evaluates."""
    calls: list[list[int]] = []
    evaluate = session.engine.evaluate
    monkeypatch.setattr(session.engine, "evaluate", lambda ids: (calls.append(list(ids)), evaluate(ids))[1])
    return calls


@pytest.mark.parametrize("kv_type", ["float16", "int8"])
@pytest.mark.parametrize("length", [1, 31, 300])  # within a block of keys, and across blocks
def test_a_loaded_engine_continues_bit_for_bit(folder: Path, tmp_path: Path, kv_type: str, length: int) -> None:
    first, second = (engine(folder, "native", threads=1, kv_type=kv_type) for _ in range(2))
    first.evaluate(prompt(length))
    first.save(tmp_path / "state")
    second.evaluate([9, 8, 7])  # is forgotten
    second.load(tmp_path / "state")
    assert second.position == length
    assert second.tokens() == prompt(length)
    third = engine(folder, "native", threads=1, kv_type=kv_type, context=length + 3)
    third.copy(first)
    for e in (second, third):
        np.testing.assert_array_equal(e.evaluate([5, 6, 7]), first.evaluate([5, 6, 7]))
        first.rewind(length)


@pytest.mark.parametrize("kv_type", ["float16", "int8"])
def test_a_session_continues_as_without_the_file(
    folder: Path, tmp_path: Path, kv_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt(200)
    with opened(folder, kv_type) as session:
        session.generate(ids, max_tokens=20, sampling=GREEDY).complete()
        session.save_state(tmp_path / "state")
        expected = session.generate([*ids, 3, 4], max_tokens=30, sampling=GREEDY).complete().tokens
    with opened(folder, kv_type) as session:
        session.load_state(str(tmp_path / "state"))
        calls = evaluated(session, monkeypatch)
        assert session.generate([*ids, 3, 4], max_tokens=30, sampling=GREEDY).complete().tokens == expected
        assert calls[0] == [3, 4]  # of the prompt, only what the file does not hold


def test_a_conversation_continues(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(folder) as session:
        first = session.chat(QUESTION, max_tokens=12, sampling=GREEDY).complete()
        session.save_state(tmp_path / "state")
        messages = [
            *QUESTION,
            {"role": "assistant", "content": first.answer},
            {"role": "user", "content": "And Italy?"},
        ]
        second = session.chat(messages, max_tokens=12, sampling=GREEDY).complete()
    with opened(folder) as session:
        session.load_state(tmp_path / "state")
        calls = evaluated(session, monkeypatch)
        found = session.chat(messages, max_tokens=12, sampling=GREEDY).complete()
        assert found.tokens == second.tokens
        assert len(calls[0]) < len(second.prompt_tokens) - len(first.prompt_tokens) + 1


def test_an_unfinished_answer_does_not_survive_a_load(folder: Path, tmp_path: Path) -> None:
    with opened(folder) as session:
        session.save_state(tmp_path / "empty")
        running = session.generate("Rome", sampling=GREEDY)
        next(running)
        session.load_state(tmp_path / "empty")
        assert session.engine.position == 0
        with pytest.raises(EngineError, match="cannot be continued"):
            list(running)


def bad_states(folder: Path, other: Path, tmp_path: Path) -> dict[str, tuple[Path, type[Exception], str]]:
    """Problem -> a file, the error, and part of its message."""
    paths = {name: tmp_path / name for name in ("good", "other", "int8", "long", "short", "text", "ids")}
    for name, where, kv_type, count in (
        ("good", folder, "float16", 100),
        ("other", other, "float16", 100),
        ("int8", folder, "int8", 100),
        ("long", folder, "float16", 601),
    ):
        e = engine(where, "native", threads=1, kv_type=kv_type)
        e.evaluate(prompt(count))
        e.save(paths[name])
    whole = paths["good"].read_bytes()
    paths["short"].write_bytes(whole[:-1])
    paths["text"].write_text("not a saved session, but longer than a header")
    paths["ids"].write_bytes(whole[:32] + b"\xff" * 4 + whole[36:])
    (tmp_path / "later").write_bytes(whole[:7] + b"5" + whole[8:])
    (tmp_path / "earlier").write_bytes(whole[:7] + b"3" + whole[8:])
    for name, positions in (("much", 10**6), ("huge", 2**62), ("negative", -100)):
        (tmp_path / name).write_bytes(whole[:24] + positions.to_bytes(8, "little", signed=True) + whole[32:])
    return {
        "another model": (paths["other"], EngineError, "another model"),
        "another type": (paths["int8"], EngineError, "its key-value type is 1, that of this session is 0"),
        "more than the context": (
            paths["long"],
            ContextLengthError,
            "its 601 positions do not fit into the context of 600",
        ),
        "cut off": (paths["short"], EngineError, "so it is truncated or damaged"),
        "a length above the context": (tmp_path / "much", EngineError, "truncated or damaged"),
        "a length above all": (tmp_path / "huge", EngineError, "truncated or damaged"),
        "a negative length": (tmp_path / "negative", EngineError, "truncated or damaged"),
        "no state": (paths["text"], EngineError, "is not a saved session"),
        "changed bytes": (paths["ids"], EngineError, "it is damaged, because its checksum is wrong"),
        "a later version": (tmp_path / "later", EngineError, "in format 5; this version reads format 4"),
        "an earlier version": (tmp_path / "earlier", EngineError, "in format 3; this version reads format 4"),
        "a folder": (tmp_path, EngineError, "is not a saved session"),
        "missing": (tmp_path / "missing", EngineError, "cannot open"),
    }


def test_an_invalid_file_leaves_an_empty_session_that_works(folder: Path, models: SharedModels, tmp_path: Path) -> None:
    other = models.artifact("qwen2", "int8")
    with opened(folder) as session:
        expected = session.generate(prompt(50), max_tokens=8, sampling=GREEDY).complete().tokens
        for what, (path, error, words) in bad_states(folder, other, tmp_path).items():
            with pytest.raises(error, match=words) as caught:
                session.load_state(path)
            assert caught.type is error, what
            assert session.engine.position == 0, what
            assert session.generate(prompt(50), max_tokens=8, sampling=GREEDY).complete().tokens == expected, what


@pytest.mark.parametrize("keep", [0, 1, 31, 32, 33, 431, 432, 433, 5000])
def test_a_truncated_file_is_refused(folder: Path, tmp_path: Path, keep: int) -> None:
    e = engine(folder, "native", threads=1)
    e.evaluate(prompt(100))
    e.save(tmp_path / "state")
    os.truncate(tmp_path / "state", keep)
    with pytest.raises(EngineError, match=r"is not a saved session|so it is truncated"):
        e.load(tmp_path / "state")
    assert e.position == len(e.tokens())


def test_a_file_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    with opened(folder) as session:
        session.generate(prompt(50), max_tokens=1).complete()
        for path in (tmp_path / "missing" / "state", tmp_path):
            with pytest.raises(EngineError, match="cannot open"):
                session.save_state(path)
        assert session.engine.position == 50
        if Path("/dev/full").exists():
            with pytest.raises(EngineError, match=r"cannot write /dev/full: No space left"):
                session.save_state("/dev/full")


def test_a_file_is_private_and_a_link_is_followed(folder: Path, tmp_path: Path) -> None:
    path, link = tmp_path / "state", tmp_path / "link"
    link.symlink_to(path)
    with opened(folder) as session:
        session.save_state(link)
        assert link.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o640)
        session.save_state(path)
        assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [link, path]


@pytest.mark.parametrize("kv_type", ["float16", "int8"])
def test_a_file_has_nothing_of_an_earlier_conversation(folder: Path, tmp_path: Path, kv_type: str) -> None:
    used, new = (engine(folder, "native", threads=1, kv_type=kv_type) for _ in range(2))
    used.evaluate(prompt(40)[::-1])
    used.rewind(0)
    for each, name in ((used, "used"), (new, "new")):
        each.evaluate(prompt(20))  # 12 of the 32 keys in two groups are those of nobody
        each.save(tmp_path / name)
    assert (tmp_path / "used").read_bytes() == (tmp_path / "new").read_bytes()


def test_a_file_name_that_is_not_utf_8(folder: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    with opened(folder) as session:
        session.save_state(path)
        session.load_state(path)
        assert path.is_file()


def test_an_engine_that_cannot_save_says_so(artifact: Path, tmp_path: Path) -> None:
    with load(artifact, engine="ort", threads=1) as session:
        for call in (session.save_state, session.load_state):
            with pytest.raises(EngineError, match="the engine ort cannot save or load") as caught:
                call(tmp_path / "state")
            assert "native" in caught.value.hint


def test_a_closed_session_says_so(folder: Path, tmp_path: Path) -> None:
    session = opened(folder)
    session.save_state(tmp_path / "state")
    session.close()
    for call in (session.save_state, session.load_state):
        with pytest.raises(EngineError, match="closed"):
            call(tmp_path / "state")


def test_only_sequences_of_the_same_model_can_be_copied(folder: Path, models: SharedModels) -> None:
    one = engine(folder, "native", threads=1)
    one.evaluate(prompt(100))
    small = engine(folder, "native", threads=1, context=99)
    eighth = NativeEngine(folder, 200, 1, False, "int8")
    other = engine(models.artifact("llama", "int8"), "native", threads=1)
    for target, error, words in (
        (small, ContextLengthError, "100 positions do not fit into a context of 99"),
        (eighth, EngineError, "its key-value type is 1, that of the source is 0"),
        (other, EngineError, "belongs to another model"),
    ):
        with pytest.raises(error, match=words):
            target.copy(one)
        assert target.position == 0


def test_a_pipe_without_another_end_is_refused_not_waited_for(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    e = engine(folder, "native", threads=1)
    e.evaluate(prompt(3))
    with pytest.raises(EngineError, match=r"cannot open .*pipe"):
        e.save(tmp_path / "pipe")
    with pytest.raises(EngineError, match="is a pipe, not a file"):
        e.load(tmp_path / "pipe")
    assert e.tokens() == prompt(3)


def test_names_that_no_file_has_are_refused(folder: Path, tmp_path: Path) -> None:
    e = engine(folder, "native", threads=1)
    for use in (e.save, e.load):
        with pytest.raises(EngineError, match="null character"):
            use(tmp_path / "a\0b")
        with pytest.raises(EngineError, match="the file system cannot express it"):
            use(tmp_path / "a\ud800b")
    assert list(tmp_path.iterdir()) == []
