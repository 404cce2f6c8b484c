"""Measures how fast an engine runs an artifact on this machine: median, spread and conditions of several rounds.

Every round evaluates new random ids, so nothing is reused and no text is easier than another. An untimed round comes
first; it maps the weights and starts the threads. Lengths take turns within a round, so a machine that slows down slows
down all of them. Decode takes the likeliest token each time, as greedy generation does.

Each median is also given as a share of the machine's measured limits (``shares.py``): decode as a share of the
bandwidth that reads weights and KV cache once per token, prefill as a share of the kernel's peak. The limits
are measured before and after the rounds, and the better ones count, so that a share relates to the machine as it was in
those minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.manifest import read_manifest
from ..artifact.verify import refuse_links
from ..host import peak_rss_bytes, physical_cores, private_bytes
from ..progress import Progress, no_progress
from ..runtime.engine import Engine, EngineOptions, open_engine, resolve_context
from .limits import Limits
from .shares import Shares, find_shares, limits_before


@dataclass(frozen=True)
class Prefill:
    """Evaluating a prompt of ``tokens`` ids: medians over the rounds, then minima and maxima.

    ``ttft_s`` is the time to the first token. ``share_of_peak`` is the median's share of the kernel's peak; None if
    unknown.
    """

    tokens: int
    tok_s: float
    tok_s_min: float
    tok_s_max: float
    ttft_s: float
    ttft_s_min: float
    ttft_s_max: float
    share_of_peak: float | None = None


@dataclass(frozen=True)
class Decode:
    """Generating tokens after ``context`` tokens: median over the rounds, then minimum and maximum.

    ``share_of_bandwidth`` is the median's share of the memory bandwidth; None if unknown.
    """

    context: int
    tok_s: float
    tok_s_min: float
    tok_s_max: float
    share_of_bandwidth: float | None = None


@dataclass(frozen=True)
class BenchResult:
    """The measured figures and the conditions.

    Attributes:
        name: The artifact's name.
        engine: The engine's name.
        kernel: The arithmetic that ran.
        threads: Threads of the arithmetic.
        kv_type: Type of keys and values.
        repeat: Timed rounds.
        gen_tokens: Tokens generated per round and context.
        load_s: Seconds to open the artifact.
        prefill: One entry per prompt length.
        decode: One entry for an empty context and one per prompt length.
        peak_rss_bytes: Peak resident memory of this process, mapped weights included; see :mod:`edgekit.host`.
        private_bytes: Private memory of this process at the end, without mapped weights.
        limits: The machine's limits with this many threads; None where they could not be measured.
        shares_unknown: Why there are no shares, or None.
    """

    name: str
    engine: str
    kernel: str
    threads: int
    kv_type: str
    repeat: int
    gen_tokens: int
    load_s: float
    prefill: list[Prefill]
    decode: list[Decode]
    peak_rss_bytes: int | None
    private_bytes: int | None
    limits: Limits | None
    shares_unknown: str | None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON shows them."""
        return asdict(self)


def bench(
    folder: Path,
    *,
    engine: str = "auto",
    prompt_tokens: Sequence[int] = (128, 512),
    gen_tokens: int = 32,
    repeat: int = 3,
    threads: int | None = None,
    kv_type: str | None = None,
    progress: Progress = no_progress,
) -> BenchResult:
    """Measure an artifact.

    Args:
        folder: The artifact.
        engine: The engine's name, or ``auto``.
        prompt_tokens: Lengths of the prompts.
        gen_tokens: Tokens to generate after each prompt, and with an empty context.
        repeat: Timed rounds.
        threads: Threads; None for one per physical core.
        kv_type: Type of keys and values; None for the one that the build planned.
        progress: Called with the phase's name, rounds done and rounds in total.

    Raises:
        ValueError: A count is below 1, or ``kv_type`` is unknown.
        ArtifactError, EngineError: The artifact cannot be opened.
        ContextLengthError: A prompt and its continuation are longer than the model's context.
    """
    for what, count in (("gen_tokens", gen_tokens), ("repeat", repeat), *(("prompt_tokens", n) for n in prompt_tokens)):
        if count < 1:
            raise ValueError(f"{what} is {count}; it must be at least 1")
    manifest = read_manifest(folder)
    refuse_links(folder)
    lengths = list(dict.fromkeys(prompt_tokens))
    threads = physical_cores() if threads is None else threads
    options = EngineOptions(context=max([1, *lengths]) + gen_tokens, threads=threads, kv_type=kv_type)
    resolve_context(manifest, options.context)  # a prompt that is too long fails before the measurement
    progress("limits before", 0, 1)
    before = limits_before(threads)
    progress("limits before", 1, 1)
    started = time.perf_counter()
    with closing(open_engine(folder, manifest, options, engine)) as opened:
        load_s = time.perf_counter() - started
        prefill_s, decode_s = _measure(opened, lengths, gen_tokens, repeat, progress)
        peak, private = peak_rss_bytes(), private_bytes()  # before the limits are measured, which takes memory
        progress("limits after", 0, 1)
        shares = find_shares(folder, opened, lengths, before)
        progress("limits after", 1, 1)
        return BenchResult(
            name=manifest.name,
            engine=opened.name,
            kernel=opened.kernel,
            threads=opened.threads,
            kv_type=opened.kv_type,
            repeat=repeat,
            gen_tokens=gen_tokens,
            load_s=load_s,
            prefill=[_prefill(n, times, shares) for n, times in prefill_s.items()],
            decode=[_decode(n, gen_tokens, times, shares) for n, times in decode_s.items()],
            peak_rss_bytes=peak,
            private_bytes=private,
            limits=shares.limits,
            shares_unknown=shares.unknown,
        )


def _measure(
    engine: Engine, lengths: Sequence[int], gen_tokens: int, repeat: int, progress: Progress
) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Seconds of every timed round: by prompt length for prefill, by context (0 and the lengths) for decode."""
    rng = np.random.default_rng()
    prefill_s: dict[int, list[float]] = {n: [] for n in lengths}
    decode_s: dict[int, list[float]] = {n: [] for n in [0, *lengths]}
    for round_ in range(repeat + 1):
        progress("measuring", round_, repeat + 1)
        for length in decode_s:
            prefill, decode = time_round(engine, rng.integers(0, engine.vocab_size, max(length, 1)), gen_tokens)
            if round_ > 0:
                decode_s[length].append(decode)
                if length:
                    prefill_s[length].append(prefill)
    progress("measuring", repeat + 1, repeat + 1)
    return prefill_s, decode_s


def _prefill(tokens: int, seconds: Sequence[float], shares: Shares) -> Prefill:
    spread = _spread(seconds)
    return Prefill(tokens, *_rates(tokens, seconds), *spread, share_of_peak=shares.of_peak(tokens, spread[0]))


def _decode(context: int, gen_tokens: int, seconds: Sequence[float], shares: Shares) -> Decode:
    rates = _rates(gen_tokens, seconds)
    return Decode(context, *rates, share_of_bandwidth=shares.of_bandwidth(context, gen_tokens, rates[0]))


def time_round(engine: Engine, prompt: Any, gen_tokens: int) -> tuple[float, float]:
    """Evaluate a prompt from an empty cache, then generate greedily.

    Args:
        engine: An engine whose context holds the prompt and the generated tokens.
        prompt: Token ids.
        gen_tokens: Tokens to generate; each is also evaluated.

    Returns:
        Seconds to the first token, and seconds to evaluate ``gen_tokens`` tokens after it.
    """
    engine.rewind(0)
    started = time.perf_counter()
    token = int(engine.evaluate(prompt)[-1].argmax())
    prefilled = time.perf_counter()
    for _ in range(gen_tokens):
        token = int(engine.evaluate([token])[-1].argmax())
    return prefilled - started, time.perf_counter() - prefilled


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, minimum and maximum."""
    return statistics.median(values), min(values), max(values)


def _rates(tokens: int, seconds: Sequence[float]) -> tuple[float, float, float]:
    return _spread([tokens / value for value in seconds])
