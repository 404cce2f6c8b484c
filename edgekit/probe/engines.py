"""What the engines themselves do on this machine: two models are built here, timed, and their rates found.

The limits of memory and kernels (``probe/machine.py``) say what a machine can do at most, and for moments; an engine
gets some share of them, which differs between processors. So the engines are run: a model of R1-1.5B's width but of
few layers, and one of SmolLM2's. Weights are random, which no speed depends on. What a layer costs beside its weights
counts in the narrow one, reading and multiplying in the wide one, attention after the longer prompt.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..devices import DeviceProfile, Sourced
from ..devices.profile import EngineRates
from ..errors import DiskFullError, ProbeError
from ..export.model import export_model
from ..export.onnx_graph import DATA_FILE
from ..models import spec_from_config
from ..models.spec import ModelSpec, TensorRef
from ..planning.engines import all_engines, find_engine
from ..planning.memory import Dimensions, kv_cache_bytes
from ..planning.work import Work, work_of
from ..progress import Progress, no_progress
from ..quantize.packing import PackedLinear
from ..recipes import load_recipe
from ..runtime.engine import Engine, EngineOptions, open_engine
from ..scheme import QuantizationConfig, QuantizationScheme
from .bench import time_round
from .rate_fit import Row, fit

# Recipes whose shapes and formats are taken, and what is changed: layers enough that no cache holds much of the
# weights. With six, 185 MB beside a cache of 32, reading seemed a tenth faster than it is for the whole model.
MODELS: Mapping[str, Mapping[str, int]] = {
    "deepseek-r1-distill-qwen-1.5b": {"num_hidden_layers": 12, "vocab_size": 16384},
    "smollm2-135m": {},
}
# A prompt as people type it, and a longer one: in the narrow model attention counts then.
PROMPT_TOKENS: Mapping[str, tuple[int, int]] = {
    "deepseek-r1-distill-qwen-1.5b": (128, 512),
    "smollm2-135m": (128, 2048),
}
QUICK_TOKENS = 128  # a prompt no longer is timed twice a round: a moment's disturbance is all of so short a time
GEN_TOKENS = 16
# The models take turns, so that a minute of other work does not hit one alone. The least time counts: what a machine
# does undisturbed is what its limits say, too, and on a shared one medians of so few differ by a tenth.
ROUNDS = 3
_ELSEWHERE = "set TMPDIR to a folder with 450 MB to spare"
_POOL = 1 << 22  # random weights, of which every tensor's rows are some


def processor_engines() -> tuple[str, ...]:
    """The names of the engines that run on the processor: those that can be compared to its limits."""
    return tuple(engine.name for engine in all_engines() if engine.shares is not None)


def with_engine_rates(profile: DeviceProfile, progress: Progress = no_progress) -> DeviceProfile:
    """Measure each engine on this machine.

    Args:
        profile: What ``probe_machine`` found here.
        progress: Called with a phase's name, how much is done and how much there is.

    Returns:
        The profile with ``cpu.engines``.

    Raises:
        ProbeError: The profile's limits were not measured, or there is no temporary folder.
        DiskFullError: The temporary folder has no room for some 450 MB.
        EngineError: An engine cannot run here.
    """
    bandwidth = profile.bandwidth.sustained
    if bandwidth is None or not profile.cpu.kernels:
        raise ProbeError(f"{profile.name} has no measured limits to begin from")
    peak = profile.cpu.kernels[0].gmac_s.value
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-probe-"))
            models = build_models(Path(scratch), progress)
        except DiskFullError as error:
            raise DiskFullError(error.message, _ELSEWHERE) from None
        except OSError as error:
            raise ProbeError(f"no model can be built in the temporary folder: {error.strerror}", _ELSEWHERE) from None
        engines = tuple(
            find_rates(name, models, time_models(name, models, ROUNDS, progress), bandwidth.value, peak)
            for name in processor_engines()
        )
    return replace(profile, cpu=replace(profile.cpu, engines=engines))


@dataclass(frozen=True)
class TimedModel:
    """An artifact, and the prompts it is timed with."""

    folder: Path
    manifest: RuntimeFacts
    prompt_tokens: tuple[int, ...]


@dataclass(frozen=True)
class ReferenceModel(TimedModel):
    """One that rates are found by: also the work of its tokens, and what its cache depends on."""

    work: Work
    dimensions: Dimensions


class _RandomSource:
    """A model's tensors, made up: normal with deviation 0.02, norms of ones."""

    def __init__(self) -> None:
        self._pool = np.random.default_rng(0).standard_normal(_POOL, np.float32) * np.float32(0.02)

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        if len(ref.shape) == 1:
            return np.ones(stop - start, np.float32)
        return np.resize(self._pool, (stop - start, ref.shape[1]))

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        return None

    def release(self) -> None:
        """Nothing is cached."""


def build_models(folder: Path, progress: Progress = no_progress) -> list[ReferenceModel]:
    """Build the models that are timed, each in a folder of its own.

    Raises:
        DiskFullError: There is no room.
    """
    return [_build(folder / name, name, changes, progress) for name, changes in MODELS.items()]


def _build(folder: Path, name: str, changes: Mapping[str, int], progress: Progress) -> ReferenceModel:
    """The artifact of a recipe's shapes."""
    recipe = load_recipe(name)
    spec = spec_from_config({**recipe.config, **changes})
    quantization = recipe.quantization
    context = max(PROMPT_TOKENS[name]) + GEN_TOKENS
    folder.mkdir()
    layout = export_model(
        folder,
        spec,
        _RandomSource(),
        quantization,
        activation_type="float32",
        max_context=context,
        threads=1,
        progress=lambda done, total: progress(f"building {name}'s shape", done, total),
    )
    manifest = _manifest(name, spec, quantization, context)
    _forget(folder / DATA_FILE)
    work = work_of(spec, layout, quantization)
    return ReferenceModel(folder, manifest, PROMPT_TOKENS[name], work, Dimensions.of_spec(spec))


def _forget(path: Path) -> None:
    """Have the file read from the disk, as an artifact is that was not just built.

    What was just written lies in larger pages of the cache, with which an engine reads some 7 % faster.
    """
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _manifest(name: str, spec: ModelSpec, quantization: QuantizationConfig, context: int) -> RuntimeFacts:
    """What an engine asks of a manifest."""
    model: dict[str, Any] = {"vocab_size": spec.vocab_size, "num_layers": spec.num_layers, "context_length": context}
    return RuntimeFacts(
        name=name, model=model, plan={"context": context}, quantization=asdict(quantization), activation_type="float32",
        reasoning=False, sampling={}, tokens={},
    )  # fmt: skip


@dataclass(frozen=True)
class Times:
    """Seconds of a prompt and of the tokens after it, a pair a round, by the model's place and the prompt's length; and
    how they ran."""

    of: dict[tuple[int, int], list[tuple[float, float]]]
    threads: int
    kv_type: str


def find_rates(
    name: str, models: Sequence[ReferenceModel], times: Times, bandwidth_gb_s: float, peak_gmac_s: float
) -> EngineRates:
    """An engine's rates: those that fit the times, starting from what the limits and shares make probable.

    Args:
        name: The engine's.
        models: Those to find them by, timed before any others.
        times: Of all that were timed.
        bandwidth_gb_s: Of memory.
        peak_gmac_s: Of the kernel.
    """
    decode, prefill = _rows(models, times, bandwidth_gb_s)
    shares = find_engine(name).shares
    if shares is None:
        raise ProbeError(f"the engine {name} does not run on the processor, whose limits were measured")
    likely = shares.speed(bandwidth_gb_s, peak_gmac_s)
    weights, decode_attention, layer_us = fit(
        decode, (likely.weights_gb_s * 1e9, likely.decode_attention_gmac_s * 1e9, likely.layer_us)
    )
    products, prefill_attention, row_us = fit(
        prefill, (likely.prefill_gmac_s * 1e9, likely.prefill_attention_gmac_s * 1e9, likely.row_us)
    )
    threads = f"{times.threads} thread{'s' * (times.threads > 1)}"
    longest = max(max(model.prompt_tokens) for model in models)
    source = f"edgekit probe: {threads}, {len(models)} models, to context {longest}, the best of {ROUNDS} rounds"

    def figure(value: float) -> Sourced[float]:
        return Sourced(float(f"{value:.4g}"), source)

    return EngineRates(
        name=name,
        weights_gb_s=figure(weights / 1e9),
        layer_us=figure(layer_us),
        decode_attention_gmac_s=figure(decode_attention / 1e9),
        prefill_gmac_s=figure(products / 1e9),
        row_us=figure(row_us),
        prefill_attention_gmac_s=figure(prefill_attention / 1e9),
    )


def time_models(
    name: str,
    models: Sequence[TimedModel],
    rounds: int,
    progress: Progress = no_progress,
    before_round: Callable[[int], None] = lambda threads: None,
) -> Times:
    """Time each model's prompts and the tokens after them; the models take turns.

    Args:
        name: The engine's.
        models: All are open at once.
        rounds: How often, at least 1.
        progress: Called as that of :func:`with_engine_rates`.
        before_round: Called before each with the number of threads.

    Raises:
        EngineError: The engine cannot run one here.
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
        return Times(times, engines[0].threads, engines[0].kv_type)


def _rows(models: Sequence[ReferenceModel], times: Times, bandwidth_gb_s: float) -> tuple[list[Row], list[Row]]:
    """The least times with the work behind them: of generated tokens, and of prompts."""
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
