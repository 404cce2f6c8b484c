"""The thread that computes the answers of one model: prompts in pieces, and one token of every answer in each step.

A round of its loop takes jobs from the queue, and decodes a token for every job whose prompt has been read. With the
native engine all of them are decoded together with pieces of prompts that have not been read, which reads the weights
once. If there are only prompts, a longer piece of one of them is evaluated. Other engines have a single
sequence, so their jobs run one after another. When there is no job, the next prompts of conversations are prepared.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgekitError, EngineError, EvaluationCancelledError
from ..native import MOST_TOGETHER
from ..runtime.engine import CancellableEngine, Engine
from ..runtime.native_engine import NativeEngine
from .job import Job
from .pace import Pace
from .preparations import Preparations
from .request_error import RequestError, shutting_down
from .slots import Slot, Slots

_log = logging.getLogger(__name__)


class Scheduler:
    """Computes the answers of one model, in a thread of its own.

    Args:
        engine: The engine, which the scheduler closes.
        parallel: The most jobs that are computed at the same time, 1 to ``native.MOST_TOGETHER``.
        caches: The most KV caches, at least ``parallel``; those not in use are kept for later prompts.
        queue: The most jobs that wait.
        tree_bytes: The most memory for the beginnings of earlier prompts that no cache holds.
    """

    def __init__(self, engine: Engine, *, parallel: int, caches: int, queue: int, tree_bytes: int = 0) -> None:
        if not 1 <= parallel <= MOST_TOGETHER:
            raise ValueError(f"parallel is {parallel}; it must be from 1 to {MOST_TOGETHER}")
        self._engine = engine
        self._slots = Slots(engine, max(parallel, caches), tree_bytes)
        self._parallel, self._queue = parallel, queue
        self._waiting: deque[Job] = deque()
        self._active: deque[Job] = deque()
        self._evaluating: Job | None = None  # whose prompt is evaluated at the moment
        self._preparations = Preparations()
        self._preparing: Slot | None = None  # where a next prompt is prepared at the moment
        self._changed = threading.Condition()
        self._closing = False
        self._pace = Pace()
        self._mean_s = 1.0  # of a job, for Retry-After
        self._thread = threading.Thread(target=self._run, name="edgekit-serve", daemon=True)
        self._thread.start()

    @property
    def jobs(self) -> tuple[int, int]:
        """How many jobs are computed, and how many wait."""
        with self._changed:  # a job that goes from one to the other is counted once
            return len(self._active), len(self._waiting)

    def submit(self, job: Job) -> None:
        """Put a job into the queue.

        Raises:
                RequestError: The scheduler is closed, or too many jobs wait.
        """
        with self._changed:
            if self._closing:
                raise shutting_down()
            if len(self._active) + len(self._waiting) >= self._parallel + self._queue:
                raise self._full()
            self._waiting.append(job)
            self._stop_preparing()
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Give up a job. It gets no further events, or few. May be called from any thread."""
        job.cancel()
        with self._changed:
            if self._evaluating is job and job.slot is not None:
                _cancel(job.slot.engine)
            self._changed.notify()

    def close(self) -> None:
        """End all jobs with an error, and free the engine."""
        with self._changed:
            self._closing = True
            if self._evaluating is not None and self._evaluating.slot is not None:
                _cancel(self._evaluating.slot.engine)
            self._stop_preparing()
            self._changed.notify()
        self._thread.join()
        self._slots.close()
        self._engine.close()

    def _full(self) -> RequestError:
        waiting = len(self._waiting)
        seconds = max(1, min(60, round(self._mean_s * waiting / self._parallel)))
        return RequestError(
            f"{waiting} requests are waiting, and no more may wait; try again in about {seconds} s",
            status=429,
            code="queue_full",
            headers={"retry-after": str(seconds)},
        )

    def _run(self) -> None:
        while True:
            try:
                if not self._admit():
                    return
                readers = [job for job in self._active if len(job.left) == 1]
                if readers:
                    self._decode(readers)
                elif self._active:
                    self._read_prompt()
                else:
                    self._prepare()
            except Exception as error:  # a bug; no request may wait for ever
                _log.exception("the scheduler failed")
                for job in list(self._active):
                    with suppress(Exception):
                        self._fail(job, error)

    def _admit(self) -> bool:
        """Wait for work, end jobs that nobody wants or whose time is up, and begin waiting ones. False at the end."""
        with self._changed:
            while not (self._closing or self._active or self._waiting or self._preparations):
                self._changed.wait()
            if self._closing:
                for job in (*self._active, *self._waiting):
                    job.emit(shutting_down())
                return False
            for job in [job for job in self._waiting if job.cancelled or job.late]:
                self._waiting.remove(job)
                if not job.cancelled:
                    _end_unbegun(job)
        for job in [job for job in self._active if job.cancelled or job.late]:
            if not job.cancelled:
                job.end("late")
            self._leave(job)
        while self._waiting and len(self._active) < self._parallel:
            if not self._begin(self._waiting[0]):
                break
        return True

    def _begin(self, job: Job) -> bool:
        try:
            slot = self._slots.take(job.prompt)
        except Exception as error:
            slot = None
            job.emit(_edgekit_error(error))
        else:
            if slot is None:
                return False
            job.begin(slot)
        with self._changed:
            self._waiting.popleft()
            if slot is not None:
                self._active.append(job)
        return True

    def _leave(self, job: Job) -> None:
        with self._changed:
            self._active.remove(job)
            slot, job.slot = job.slot, None
        if slot is not None:
            slot.busy = False
        self._mean_s += 0.2 * (time.monotonic() - job.began - self._mean_s)

    def _fail(self, job: Job, error: Exception) -> None:
        """End a job with an error, and empty its cache."""
        slot = job.slot
        self._leave(job)
        job.emit(_edgekit_error(error))
        if slot is not None:
            slot.rewind(0)

    def _unread(self) -> list[Job]:
        """The jobs whose prompts have not been read, the one that is next first."""
        return [job for job in self._active if len(job.left) > 1]

    def _move_back(self, job: Job) -> None:
        """Let others be next."""
        with self._changed:
            self._active.remove(job)
            self._active.append(job)

    def _read_prompt(self) -> None:
        """Evaluate a piece of a prompt, while nobody reads."""
        job = next(iter(self._unread()), None)
        if job is None or job.slot is None:
            return
        self._move_back(job)
        with self._changed:
            if job.cancelled or self._closing:
                return
            self._evaluating = job
        size = min(len(job.left), self._pace.piece())
        started = time.perf_counter()
        try:
            logits = job.slot.evaluate(job.left[:size])
        except EvaluationCancelledError:  # the next round ends the job, or another call was meant
            return
        except Exception as error:
            self._fail(job, error)
            return
        finally:
            with self._changed:
                self._evaluating = None
        self._pace.read(size, time.perf_counter() - started)
        self._advance([job], [size], logits[np.newaxis])

    def _decode(self, readers: Sequence[Job]) -> None:
        """Decode one token of every job, and with the native engine, evaluate pieces of other ones' prompts.

        Args:
            readers: At least one; their prompts have been read.
        """
        started = time.perf_counter()
        jobs, sizes = list(readers), [1] * len(readers)
        native = self._engine if isinstance(self._engine, NativeEngine) else None
        if native is not None:
            for job, size in self._pieces_beside(len(readers), min(MOST_TOGETHER, native.context)):
                jobs.append(job)
                sizes.append(size)
                self._move_back(job)
        try:
            if native is not None and len(jobs) > 1:
                rows = self._step(native, jobs, sizes)
            else:
                jobs, sizes = jobs[:1], sizes[:1]
                rows = _slot(jobs[0]).evaluate(jobs[0].left[:1])[np.newaxis]
        except EvaluationCancelledError:
            return
        except Exception as error:
            for job in jobs:
                self._fail(job, error)
            return
        self._advance(jobs, sizes, rows)
        self._pace.stepped(sum(sizes), time.perf_counter() - started)

    def _pieces_beside(self, readers: int, most: int) -> list[tuple[Job, int]]:
        """The prompts to read in a step with readers, and how many ids of each.

        Args:
            readers: How many tokens are decoded in the step.
            most: The most tokens of a step.
        """
        prompts = self._unread()
        pieces: list[tuple[Job, int]] = []
        if prompts and most > readers:
            tokens = self._pace.beside(readers, len(prompts), most - readers)
            for job in prompts:
                if size := min(len(job.left), tokens):
                    pieces.append((job, size))
                    tokens -= size
        return pieces

    def _step(self, native: NativeEngine, jobs: Sequence[Job], sizes: Sequence[int]) -> NDArray[np.float32]:
        slots = [_slot(job) for job in jobs]
        pieces = [job.left[:size] for job, size in zip(jobs, sizes, strict=True)]
        engines = [slot.engine for slot in slots if isinstance(slot.engine, NativeEngine)]
        rows = native.step_pieces(engines, pieces)
        for slot, piece in zip(slots, pieces, strict=True):
            slot.held.extend(piece)
        return rows

    def _advance(self, jobs: Sequence[Job], sizes: Sequence[int], rows: NDArray[np.float32]) -> None:
        """Go on with jobs of which so many ids have been evaluated: choose a token of those that have none left.

        Args:
            jobs: The jobs.
            sizes: How many of the ids that they had left.
            rows: Logits of the last of these, float32 (jobs, vocab_size).
        """
        for job, size in zip(jobs, sizes, strict=True):
            job.left = job.left[size:]
        ready = [i for i, job in enumerate(jobs) if not job.left]
        some = rows[: len(ready)] if ready == list(range(len(ready))) else rows[ready]  # no copy in nearly all steps
        for job in self._choose([jobs[i] for i in ready], some):
            self._go_on(job)

    def _choose(self, jobs: Sequence[Job], rows: NDArray[np.float32]) -> list[Job]:
        """Choose the next token of each job, in several threads if possible; returns the jobs that have one.

        Args:
            jobs: The jobs.
            rows: Logits, float32 (jobs, vocab_size).
        """
        adjusted: list[tuple[Job, NDArray[np.float32], NDArray[np.float32] | None]] = []
        for job, row in zip(jobs, rows, strict=True):
            try:
                adjusted.append((job, row, job.answer.adjust(row)))
            except Exception as error:
                self._fail(job, error)
        tokens: list[int] | None = None
        if len(adjusted) > 1 and isinstance(self._engine, NativeEngine):
            some = rows if len(adjusted) == len(rows) else np.stack([row for _, row, _ in adjusted])
            with suppress(EngineError):  # of one job; each is sampled alone below
                tokens = self._engine.sample([job.answer.sampler for job, _, _ in adjusted], some)
        chosen = []
        for i, (job, row, untouched) in enumerate(adjusted):
            try:
                job.answer.accept(tokens[i] if tokens is not None else job.answer.sampler.sample(row), untouched)
            except Exception as error:
                self._fail(job, error)
            else:
                chosen.append(job)
        return chosen

    def _go_on(self, job: Job) -> None:
        """Emit what becomes final with a job's last token, and end the job if its answer ends."""
        answer, slot = job.answer, job.slot
        if slot is None:
            return
        try:
            pieces = answer.read()
            while not (ended := answer.ends(slot.room)) and answer.force():
                pieces += answer.read()
            if ended:
                pieces += answer.flush()
        except Exception as error:
            self._fail(job, error)
            return
        job.left = answer.pending
        job.tell(pieces)
        if ended:
            self._leave(job)  # before the client learns of the end, so that it finds the server idle
            if job.next_start is not None:
                self._preparations.add(slot, partial(job.next_start, job.content))
            job.end()

    def _prepare(self) -> None:
        """Evaluate a piece of what the next prompt of a conversation begins with. A new job ends it."""
        found = self._preparations.next()
        if found is None:
            return
        slot, ids = found
        with self._changed:
            if self._waiting or self._closing:
                return
            self._preparing = slot
        try:
            slot.evaluate(ids[: self._pace.piece()])
        except EvaluationCancelledError:
            return
        except EdgekitError:  # the next request reports what is wrong
            self._preparations.give_up()
        finally:
            with self._changed:
                self._preparing = None

    def _stop_preparing(self) -> None:
        if self._preparing is not None:
            _cancel(self._preparing.engine)


def _slot(job: Job) -> Slot:
    """The slot of a job that is computed."""
    if job.slot is None:
        raise RuntimeError("the job has no slot")
    return job.slot


def _end_unbegun(job: Job) -> None:
    """End a job whose time is up while it waits. Other answers to the same request may have ended, so theirs stays."""
    if job.number:
        job.end("late")
    else:
        job.emit(RequestError("the request waited as long as an answer may take", status=503))


def _edgekit_error(error: Exception) -> EdgekitError:
    """The error itself, or for a bug, one that describes it."""
    if isinstance(error, EdgekitError):
        return error
    _log.error("a request failed", exc_info=error)
    return EngineError(f"the answer failed: {type(error).__name__}: {error}")


def _cancel(engine: Engine) -> None:
    if isinstance(engine, CancellableEngine):
        engine.cancel()
