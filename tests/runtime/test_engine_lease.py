"""A session's engine: one answer at a time may use it, and the next prompt is prepared between answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine

from edgekit.errors import EngineError, SessionBusyError
from edgekit.runtime.engine_lease import LeasedEngine


class Resumable(ScriptedEngine):
    """Takes any file; a missing one fails after the engine has changed. Can be cancelled."""

    def save(self, path: Path) -> None:
        path.write_text(str(self.position))

    def load(self, path: Path) -> None:
        self.position = 9
        if not path.exists():
            raise EngineError("there is no such file")
        self.position = int(path.read_text())

    def tokens(self) -> list[int]:
        return list(range(self.position))

    def cancel(self) -> None:
        pass


def leased(engine_type: type[ScriptedEngine] = Resumable, *, prepares: bool = False) -> tuple[LeasedEngine, Resumable]:
    engine = engine_type(8, 64, [0] * 20)
    return LeasedEngine(engine, prepares=prepares), engine  # type: ignore[return-value]


def test_a_prompt_evaluates_what_earlier_answers_have_not() -> None:
    one, engine = leased()
    lease = one.lease()
    assert lease.prompt([1, 2, 3]).shape == (8,)
    lease.append([4])
    one.lease().prompt([1, 2, 3, 4, 5])
    assert engine.evaluated == [[1, 2, 3], [4], [5]]


@pytest.mark.parametrize("end", ["lease", "load", "close"])
def test_a_lease_ends_with_the_next_and_with_another_state(end: str, tmp_path: Path) -> None:
    one, engine = leased(prepares=True)
    lease = one.lease()
    lease.prompt([1, 2, 3])
    one.save(tmp_path / "state")
    if end == "load":
        one.load(tmp_path / "state")
    else:
        getattr(one, end)()
    for use in (lease.prompt, lease.append):
        with pytest.raises(EngineError, match="cannot be continued"):
            use([4])
    lease.prepare(lambda question: [1, 2, ord(question)])
    one.background.wait()
    assert engine.evaluated == [[1, 2, 3]]


def test_a_loaded_state_counts_as_held(tmp_path: Path) -> None:
    one, engine = leased()
    one.lease().prompt([0, 1, 2])
    one.save(tmp_path / "state")
    one, engine = leased()
    one.load(tmp_path / "state")
    one.lease().prompt([0, 1, 2, 3])
    assert engine.evaluated == [[3]]


def test_a_state_that_fails_to_load_leaves_an_empty_engine(tmp_path: Path) -> None:
    one, engine = leased()
    one.lease().prompt([0, 1, 2])
    with pytest.raises(EngineError, match="no such file"):
        one.load(tmp_path / "missing")
    assert engine.position == 0
    one.lease().prompt([0, 1])
    assert engine.evaluated[-1] == [0, 1]


def test_the_next_prompt_is_prepared() -> None:
    one, engine = leased(prepares=True)
    lease = one.lease()
    lease.prompt([1, 2, 3, 4])
    lease.prepare(lambda question: [1, 2, 5, 6, ord(question)])
    one.background.wait()
    assert engine.evaluated == [[1, 2, 3, 4], [5, 6]]
    with one.without_preparing():
        lease.prepare(lambda question: [1, 2, 7, ord(question)])
        one.background.wait()
    assert engine.evaluated[2:] == []


def test_only_an_engine_that_can_be_cancelled_prepares() -> None:
    assert leased(prepares=True)[0].prepares
    assert not leased(prepares=False)[0].prepares
    assert not leased(ScriptedEngine, prepares=True)[0].prepares
    leased(ScriptedEngine)[0].cancel()  # does nothing


def test_one_call_at_a_time(tmp_path: Path) -> None:
    class Nested(Resumable):
        def evaluate(self, ids: list[int]) -> object:  # type: ignore[override]
            with pytest.raises(SessionBusyError, match="the session is in use"):
                one.lease()
            with pytest.raises(SessionBusyError, match="the session is in use"):
                one.save(tmp_path / "state")
            return super().evaluate(ids)

    one, engine = leased(Nested)
    one.lease().prompt([1])
    assert engine.evaluated == [[1]]


class SavingFor(Resumable):
    """Saves for as long as the test wants."""

    def __init__(self, vocab_size: int, context: int, script: list[int]) -> None:
        super().__init__(vocab_size, context, script)
        self.saving, self.saved = threading.Event(), threading.Event()

    def save(self, path: Path) -> None:
        self.saving.set()
        assert self.saved.wait(60)


@pytest.mark.parametrize("end", ["", "close", "load"])
def test_an_answer_waits_while_another_thread_saves(end: str, tmp_path: Path) -> None:
    one, engine = leased(SavingFor)
    assert isinstance(engine, SavingFor)
    lease = one.lease()
    lease.prompt([1, 2])
    saver = threading.Thread(target=lambda: one.save(tmp_path / "state"))
    saver.start()
    engine.saving.wait()
    with ThreadPoolExecutor() as threads:
        token = threads.submit(lease.append, [3])
        with pytest.raises(TimeoutError):
            token.result(0.05)
        closing = threads.submit(one.close) if end == "close" else None
        if end == "load":
            one._lease = None
        if end:
            with pytest.raises(EngineError, match="cannot be continued"):
                token.result(60)
        engine.saved.set()
        saver.join()
        if not end:
            assert token.result(60).shape == (8,)
        if closing:
            closing.result(60)
    assert engine.evaluated == ([[1, 2]] if end else [[1, 2], [3]])


def test_a_signal_handler_does_not_wait_for_the_call_it_interrupts(tmp_path: Path) -> None:
    class Interrupted(Resumable):
        def save(self, path: Path) -> None:
            with pytest.raises(SessionBusyError, match="the session is in use"):
                lease.append([4])

    one, _ = leased(Interrupted)
    lease = one.lease()
    lease.prompt([1])
    one.save(tmp_path / "state")
    assert lease.append([2]).shape == (8,)


def test_an_engine_without_states_says_so(tmp_path: Path) -> None:
    one, _ = leased(ScriptedEngine)
    for call in (one.save, one.load):
        with pytest.raises(EngineError, match="the engine scripted cannot save or load"):
            call(tmp_path / "state")
