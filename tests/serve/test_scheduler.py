"""The scheduler with a tiny model. What is generated is scripted where it must not depend on rounding."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from open_engine import engine, order_tolerance, prompt
from scripted_jobs import Scripted, Slow, Watched
from shared_models import SharedModels

from edgekit.errors import EdgekitError, EngineError, EvaluationCancelledError
from edgekit.runtime.sampler import Sampler
from edgekit.runtime.thought import Piece
from edgekit.sampling import Sampling
from edgekit.serve.job import Ended, Event, Text
from edgekit.serve.request_error import RequestError
from edgekit.serve.scheduler import Scheduler


@pytest.fixture
def scheduler(models: SharedModels) -> Iterator[Scheduler]:
    made = Scheduler(engine(models.artifact(), "native", context=256, threads=1), parallel=4, caches=4, queue=2)
    yield made
    made.close()


@pytest.fixture
def steps(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """How many ids each job has in each step of several jobs."""
    sizes: list[list[int]] = []
    step = type(scheduler._engine).step_pieces

    def recorded(self: Any, engines: Any, pieces: Any) -> Any:
        sizes.append([len(piece) for piece in pieces])
        return step(self, engines, pieces)

    monkeypatch.setattr(type(scheduler._engine), "step_pieces", recorded)
    return sizes


def run(scheduler: Scheduler, *jobs: Watched) -> list[Event]:
    for each in jobs:
        scheduler.submit(each.job)
    return [each.wait() for each in jobs]


def test_jobs_that_run_together_get_the_logits_that_they_get_alone(
    models: SharedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: the portable kernels do not round differently when rows are computed together or in other pieces."""
    monkeypatch.setenv("EDGEKIT_ISA", "scalar")
    prompts = [[(i * 7 + j) % 250 for j in range(length)] for i, length in enumerate((3, 40, 17, 90))]
    scripts = [prompt(30, 200)[i:] for i in range(4)]
    together = [Watched(Scripted(ids, script)) for ids, script in zip(prompts, scripts, strict=True)]
    scheduler = Scheduler(engine(models.artifact(), "native", context=256, threads=1), parallel=4, caches=4, queue=2)
    try:
        run(scheduler, *together)
    finally:
        scheduler.close()
    alone = engine(models.artifact(), "native", context=256, threads=1)
    assert alone.kernel == "scalar"
    for ids, job in zip(prompts, together, strict=True):
        alone.rewind(0)
        row = alone.evaluate(ids)[0]
        for found, token in zip(job.answer.rows, job.answer.script, strict=True):
            np.testing.assert_array_equal(found, row)
            row = alone.evaluate([token])[0]


def test_events_come_in_order_and_the_end_counts_tokens(scheduler: Scheduler) -> None:
    ids = prompt(40)
    first = Watched(Scripted(ids, [1, 2, 3]))
    assert run(scheduler, first) == [Ended("length", 40, 0, 3, 0)]
    assert first.events[:-1] == [Text([Piece(text)]) for text in "123"]
    again = Watched(Scripted([*ids, 1, 2, 9, 9], [4]))
    assert run(scheduler, again) == [Ended("length", 44, 42, 1, 0)]


def test_an_answer_ends_where_the_context_is_full(scheduler: Scheduler) -> None:
    (end,) = run(scheduler, Watched(Scripted(prompt(254), [1] * 10)))
    assert isinstance(end, Ended)
    assert end.tokens == 3  # two fit behind the prompt, and a third needs no place


def test_a_cancelled_job_leaves_its_place(scheduler: Scheduler) -> None:
    endless = [Watched(Scripted([i, 1], [1] * 10_000)) for i in range(4)]
    for each in endless:
        scheduler.submit(each.job)
    waiting = Watched(Scripted([9, 9], [1]))
    scheduler.submit(waiting.job)
    scheduler.cancel(endless[0].job)
    assert isinstance(waiting.wait(), Ended)
    for each in endless:
        scheduler.cancel(each.job)
    until(lambda: scheduler.jobs == (0, 0))


def test_a_job_that_waits_can_be_cancelled(scheduler: Scheduler) -> None:
    hold = threading.Event()
    running = [Watched(Scripted([i], [1], hold=hold)) for i in range(4)]
    for each in running:
        scheduler.submit(each.job)
    until(lambda: scheduler.jobs[0] > 0)
    waiting = Watched(Scripted([8], [1]))
    scheduler.submit(waiting.job)
    scheduler.cancel(waiting.job)
    hold.set()
    for each in running:
        each.wait()
    until(lambda: scheduler.jobs == (0, 0))
    assert waiting.events == []


def test_a_full_queue_refuses(scheduler: Scheduler) -> None:
    hold = threading.Event()
    jobs = [Watched(Scripted([i], [1], hold=hold)) for i in range(7)]
    for each in jobs[:6]:  # four are computed, and two wait
        scheduler.submit(each.job)
    with pytest.raises(RequestError, match=r"\d requests are waiting, and no more may wait") as caught:
        scheduler.submit(jobs[6].job)
    hold.set()
    assert (caught.value.status, caught.value.code) == (429, "queue_full")
    assert int(caught.value.headers["retry-after"]) >= 1
    assert all(isinstance(each.wait(), Ended) for each in jobs[:6])


def test_a_job_whose_time_is_up_ends(scheduler: Scheduler) -> None:
    late = Watched(Scripted([1, 2], [1] * 250), time_limit_s=1e-9)
    (end,) = run(scheduler, late)
    assert isinstance(end, RequestError)  # it has not even begun
    assert end.status == 503

    (end,) = run(scheduler, Watched(Slow([1, 2], [1] * 250), time_limit_s=0.2))
    assert isinstance(end, Ended)
    assert (end.finish, 0 < end.tokens < 250) == ("interrupted", True)


def test_a_further_answer_whose_time_is_up_before_it_begins_is_empty(scheduler: Scheduler) -> None:
    """An error would take the finished answers of the same request away."""
    (end,) = run(scheduler, Watched(Scripted([1, 2], [1] * 250), time_limit_s=1e-9, number=1))
    assert end == Ended("interrupted", 2, 2, 0, 0)


def test_an_answer_whose_time_is_up_while_its_prompt_is_read_ends(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler._pace, "piece", lambda: 1)
    late = Watched(Scripted(prompt(250), [1]))
    evaluate = type(scheduler._engine).evaluate

    def slow(self: Any, ids: Any) -> Any:
        late.job._deadline = 0.0
        return evaluate(self, ids)

    monkeypatch.setattr(type(scheduler._engine), "evaluate", slow)
    assert run(scheduler, late) == [Ended("interrupted", 250, 0, 0, 0)]


def test_an_error_ends_only_its_job(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Scripted):
        def adjust(self, logits: NDArray[np.float32]) -> None:
            raise ZeroDivisionError("oh")

    bad, good = Watched(Broken([1, 2], [1])), Watched(Scripted([3, 4], [1] * 20))
    ends = run(scheduler, good, bad)
    assert isinstance(ends[0], Ended)
    assert isinstance(ends[1], EngineError)
    assert ends[1].message == "the answer failed: ZeroDivisionError: oh"
    assert "ZeroDivisionError" in caplog.text
    assert isinstance(run(scheduler, Watched(Scripted([1, 2], [1])))[0], Ended)


def test_an_error_of_the_engine_ends_all_jobs_and_later_ones_work(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = scheduler._engine
    step, evaluate = type(native).step_pieces, type(native).evaluate

    def refuse(*arguments: Any) -> Any:
        raise EngineError("the file was cut")

    monkeypatch.setattr(type(native), "step_pieces", refuse)
    monkeypatch.setattr(type(native), "evaluate", refuse)
    for end in run(scheduler, *(Watched(Scripted([i, 1], [1, 2])) for i in range(3))):
        assert isinstance(end, EdgekitError)
    monkeypatch.setattr(type(native), "step_pieces", step)
    monkeypatch.setattr(type(native), "evaluate", evaluate)
    assert isinstance(run(scheduler, Watched(Scripted([1, 1], [1, 2])))[0], Ended)


def test_a_long_prompt_does_not_hold_up_an_answer(
    scheduler: Scheduler, steps: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read in pieces, in the same steps as the next tokens of the answer."""
    monkeypatch.setattr(scheduler._pace, "beside", lambda readers, prompts, most: min(most, 9))
    reading = Watched(Slow([1, 2], [3] * 240))
    scheduler.submit(reading.job)
    until(lambda: len(reading.events) > 2)
    before = len(reading.events)
    long = Watched(Scripted(prompt(200), [1]))
    scheduler.submit(long.job)
    long.wait()
    assert len(reading.events) - before >= 200 // 9
    assert max(steps) == [1, 9]
    scheduler.cancel(reading.job)


def test_a_step_has_pieces_of_several_prompts(
    scheduler: Scheduler, steps: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler._pace, "beside", lambda readers, prompts, most: min(most, 5 * prompts))
    hold = threading.Event()
    reading = Watched(Scripted([1, 2], [3] * 40, hold=hold))
    scheduler.submit(reading.job)
    prompts = [Watched(Scripted(prompt(7 + i), [1, 2, 3])) for i in range(2)]
    for each in prompts:
        scheduler.submit(each.job)
    hold.set()
    for each in prompts:
        each.wait()
    assert [1, 7, 3] in steps, "10 tokens: the whole first prompt, and a part of the second"
    assert [1, 1, 5] in steps or [1, 5, 1] in steps, "the rest of it, beside two who read"


def test_a_prompt_that_is_read_beside_answers_has_the_same_logits(models: SharedModels, scheduler: Scheduler) -> None:
    ids = prompt(100)
    reading = Watched(Slow([1, 2], [3] * 240))
    scheduler.submit(reading.job)
    until(lambda: len(reading.events) > 2)
    found = Watched(Scripted(ids, [1, 2]))
    run(scheduler, found)
    scheduler.cancel(reading.job)
    alone = engine(models.artifact(), "native", context=256, threads=1)
    row = alone.evaluate(ids)[0]
    np.testing.assert_allclose(found.answer.rows[0], row, atol=4 * order_tolerance(alone.kernel) * np.abs(row).max())


def test_answers_that_are_sampled_together_are_those_that_are_sampled_alone(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    sample = type(scheduler._engine).sample

    class Drawn(Scripted):
        """Its sampler is real; the tokens that follow are scripted, so that the logits are the same each time."""

        def __init__(self, seed: int) -> None:
            super().__init__([seed, 1], [3] * 30)
            self.drawn: list[int] = []
            self.own = Sampler(Sampling(temperature=1.5, top_p=0.9), scheduler._engine.vocab_size, seed)

        @property
        def sampler(self) -> Sampler:
            return self.own

        def accept(self, token: int, untouched: object) -> None:
            self.drawn.append(token)
            super().accept(token, untouched)

    def counted(self: Any, samplers: Any, rows: Any) -> Any:
        together.append(len(samplers))
        return sample(self, samplers, rows)

    monkeypatch.setattr(type(scheduler._engine), "sample", counted)
    jobs = [Watched(Drawn(i)) for i in range(4)]
    run(scheduler, *jobs)
    assert max(together) == 4
    for i, job in enumerate(jobs):
        alone = Drawn(i).own
        assert job.answer.drawn == [alone.sample(row) for row in job.answer.rows]


def test_logits_that_are_no_numbers_end_only_their_job(scheduler: Scheduler) -> None:
    class Overflowed(Scripted):
        def adjust(self, logits: NDArray[np.float32]) -> None:
            super().adjust(logits)
            if len(self.tokens) == 3:
                logits[:] = np.nan

    ends = run(scheduler, Watched(Overflowed([1, 2], [1] * 20)), Watched(Scripted([3, 4], [1] * 20)))
    assert isinstance(ends[0], EngineError)
    assert "overflowed" in ends[0].message
    assert isinstance(ends[1], Ended)


def test_the_next_prompt_is_prepared_when_there_is_nothing_else_to_do(scheduler: Scheduler) -> None:
    ids, thought, rest = prompt(60), [5] * 10, [7, 8, 9]
    asked: list[str] = []

    def start(content: str) -> list[int]:
        asked.append(content)
        return [*ids, *rest]

    first = Watched(Scripted(ids, thought))
    first.job.next_start = start
    run(scheduler, first)
    until(lambda: not scheduler._preparations)
    assert asked == ["5" * 10]
    held = scheduler._slots._slots[0].held
    assert held == [*ids, *rest]
    again = Watched(Scripted([*ids, *rest, 1, 2], [4]))
    assert run(scheduler, again) == [Ended("length", 65, 63, 1, 0)]


def test_a_preparation_is_given_up_when_a_request_comes(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, cancelled = type(scheduler._engine).evaluate, threading.Event()
    pieces: list[int] = []

    def slow(self: Any, ids: Any) -> Any:
        pieces.append(len(ids))
        if scheduler._preparing is not None and not cancelled.is_set():
            assert cancelled.wait(10)
            raise EvaluationCancelledError("cancelled")
        return evaluate(self, ids)

    monkeypatch.setattr(type(scheduler._engine), "evaluate", slow)
    monkeypatch.setattr(type(scheduler._engine), "cancel", lambda self: cancelled.set())
    first = Watched(Scripted(prompt(40), [5] * 3))
    first.job.next_start = lambda content: [*prompt(40), *([6] * 30)]
    run(scheduler, first)
    until(lambda: scheduler._preparing is not None)
    assert isinstance(run(scheduler, Watched(Scripted([9, 9], [1])))[0], Ended)
    until(lambda: not scheduler._preparations)  # and taken up again
    assert [*prompt(40), *([6] * 30)] in [slot.held for slot in scheduler._slots._slots]


def test_closing_ends_jobs_with_an_error(models: SharedModels) -> None:
    made = Scheduler(engine(models.artifact(), "native", context=256, threads=1), parallel=1, caches=1, queue=5)
    jobs = [Watched(Scripted([i, 1], [1] * 10_000)) for i in range(2)]
    for each in jobs:
        made.submit(each.job)
    made.close()
    for each in jobs:
        end = each.wait()
        assert isinstance(end, (RequestError, Ended))
    with pytest.raises(RequestError, match="shutting down"):
        made.submit(jobs[0].job)


def test_engines_with_one_sequence_answer_one_after_another(models: SharedModels) -> None:
    made = Scheduler(engine(models.artifact(), "ort", context=128), parallel=4, caches=4, queue=5)
    jobs = [Watched(Scripted([i, 1], [1, 2, 3])) for i in range(3)]
    assert run(made, *jobs) == [Ended("length", 2, 0, 3, 0)] * 3
    made.close()


def until(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it does not happen")
