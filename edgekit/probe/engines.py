"""Measures the speed of the engines on this machine: two small models are built and timed, and rates are fitted.

The limits of memory and kernels (``probe/machine.py``) are what the machine can reach for moments. An engine reaches a
share of them that differs between processors. The engines are therefore run with a model of R1-1.5B's width with few
layers and one of SmolLM2's shape (``reference_models.py``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..devices import DeviceProfile, Sourced
from ..devices.profile import EngineRates
from ..errors import DiskFullError, ProbeError
from ..leftovers import locked_folder
from ..planning.engine_speed import EngineShares, EngineSpeed
from ..planning.engines import all_engines
from ..planning.memory import kv_cache_bytes
from ..progress import Progress, no_progress
from ..runtime.engine import Engine, EngineOptions, open_engine
from .bench import time_round
from .rate_fit import Row, fit
from .reference_models import GEN_TOKENS, SHAPES, ReferenceModel, ReferenceShape, TimedModel, build_models

QUICK_TOKENS = 128  # a prompt up to this length is timed twice per round: a short disturbance weighs more in it
# The models take turns, so that a minute of other work does not affect one model alone. The minimum time counts,
# because the machine's limits, too, are those of an undisturbed machine, and the median of so few times differs by a
# tenth on a shared machine.
ROUNDS = 3
_ELSEWHERE = "set TMPDIR to a folder with 450 MB of free space"


def processor_engines() -> dict[str, EngineShares]:
    """The engines that run on the processor, and the share of its limits that each is likely to reach."""
    return {engine.name: engine.shares for engine in all_engines() if engine.shares is not None}


def with_engine_rates(
    profile: DeviceProfile,
    progress: Progress = no_progress,
    shapes: Sequence[ReferenceShape] = SHAPES,
    rounds: int = ROUNDS,
) -> DeviceProfile:
    """Measure each engine that runs on the processor.

    Args:
        profile: The result of ``probe_machine`` on this machine.
        progress: Called with the phase's name, the work done and the total work.
        shapes: The models to build.
        rounds: How often each is timed, at least 1.

    Returns:
        The profile with ``cpu.engines``.

    Raises:
        ProbeError: The profile has no measured limits, or there is no temporary folder.
        DiskFullError: The temporary folder has less than about 450 MB of free space.
        EngineError: An engine does not run on this machine.
    """
    bandwidth = profile.bandwidth.sustained
    if bandwidth is None or not profile.cpu.kernels:
        raise ProbeError(f"{profile.name} has no measured limits to start from")
    peak = profile.cpu.kernels[0].gmac_s.value
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(locked_folder(Path(tempfile.gettempdir()), "edgekit-probe-"))
            models = build_models(scratch, progress, shapes)
        except DiskFullError as error:
            raise DiskFullError(error.message, _ELSEWHERE) from None
        except OSError as error:
            raise ProbeError(f"cannot build a model in the temporary folder: {error.strerror}", _ELSEWHERE) from None
        engines = []
        for name, shares in processor_engines().items():
            times = time_models(name, models, rounds, progress)
            engines.append(find_rates(name, models, times, bandwidth.value, shares.speed(bandwidth.value, peak)))
    return replace(profile, cpu=replace(profile.cpu, engines=tuple(engines)))


@dataclass(frozen=True)
class Times:
    """Measured times and how the engine ran.

    Attributes:
        of: By the model's index and the prompt's length: seconds of the prompt and of the ``GEN_TOKENS`` tokens after
            it, a pair for each round.
        rounds: How often each was timed.
        threads: Threads of the arithmetic.
        kv_type: Type of keys and values.
    """

    of: dict[tuple[int, int], list[tuple[float, float]]]
    rounds: int
    threads: int
    kv_type: str


def find_rates(
    name: str, models: Sequence[ReferenceModel], times: Times, bandwidth_gb_s: float, likely: EngineSpeed
) -> EngineRates:
    """Fit an engine's rates to the times.

    Args:
        name: The engine's name.
        models: The models to fit, which are the first that were timed.
        times: The times of all models.
        bandwidth_gb_s: Memory bandwidth.
        likely: The rates to start from; a rate that the times do not determine keeps its value.
    """
    decode_rows, prefill_rows = _rows(models, times, bandwidth_gb_s)
    decode, prefill = fit(decode_rows, likely.decode), fit(prefill_rows, likely.prefill)
    threads = f"{times.threads} thread{'s' * (times.threads > 1)}"
    longest = max(max(model.prompt_tokens) for model in models)
    source = (
        f"edgekit probe: {threads}, {len(models)} models, contexts up to {longest}, fastest of {times.rounds} rounds"
    )

    def figure(value: float) -> Sourced[float]:
        return Sourced(float(f"{value:.4g}"), source)

    return EngineRates(
        name=name,
        weights_gb_s=figure(decode.weights),
        layer_us=figure(decode.layer_us),
        decode_attention_gmac_s=figure(decode.attention),
        prefill_gmac_s=figure(prefill.weights),
        row_us=figure(prefill.layer_us),
        prefill_attention_gmac_s=figure(prefill.attention),
    )


def time_models(
    name: str,
    models: Sequence[TimedModel],
    rounds: int,
    progress: Progress = no_progress,
    before_round: Callable[[int], None] = lambda threads: None,
) -> Times:
    """Time the prompts of each model and the tokens after them. The models take turns.

    Args:
        name: The engine's name.
        models: The models; all are open at the same time.
        rounds: How often each is timed, at least 1.
        progress: Called with the phase's name, the work done and the total work.
        before_round: Called before each round with the number of threads.

    Raises:
        EngineError: The engine cannot run a model on this machine.
    """
    phase = f"measuring the engine {name}"
    times: dict[tuple[int, int], list[tuple[float, float]]] = {}
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        engines: list[Engine] = []
        for model in models:
            options = EngineOptions(context=max(model.prompt_tokens) + GEN_TOKENS)
            engines.append(open_engine(model.folder, model.manifest, options, name))
            stack.callback(engines[-1].close)
            # maps the weights and starts the threads
            time_round(engines[-1], rng.integers(0, engines[-1].vocab_size, min(model.prompt_tokens)), 1)
        every = [(i, length) for i, model in enumerate(models) for length in (0, *model.prompt_tokens)]
        quick = [job for job in every if job[1] <= QUICK_TOKENS]
        jobs = [*quick, *(job for job in every if job not in quick), *quick]
        for step in range(rounds * len(jobs)):
            progress(phase, step, rounds * len(jobs))
            if step % len(jobs) == 0:
                before_round(engines[0].threads)
            index, length = jobs[step % len(jobs)]
            ids = rng.integers(0, engines[index].vocab_size, max(length, 1))
            times.setdefault((index, length), []).append(time_round(engines[index], ids, GEN_TOKENS))
        progress(phase, 1, 1)
        return Times(times, rounds, engines[0].threads, engines[0].kv_type)


def _rows(models: Sequence[ReferenceModel], times: Times, bandwidth_gb_s: float) -> tuple[list[Row], list[Row]]:
    """The minimum times and their work: of generated tokens, and of prompts."""
    decode, prefill = [], []
    for index, model in enumerate(models):
        work = model.work
        for length in (0, *model.prompt_tokens):
            name = f"{model.manifest.name}, {length}"
            prompt_s, answer_s = map(min, zip(*times.of[index, length], strict=True))
            positions = length + GEN_TOKENS // 2
            cache_s = positions * kv_cache_bytes(model.dimensions, 1, times.kv_type) / (bandwidth_gb_s * 1e9)
            attention = positions * work.attention_multiply_adds
            decode.append(Row(name, answer_s / GEN_TOKENS, work.token_bytes, cache_s, attention, work.layers))
            if length:
                products, rows = work.multiply_adds(length), length * work.layers
                prefill.append(Row(name, prompt_s, products, 0.0, work.attention(length), rows))
    return decode, prefill
