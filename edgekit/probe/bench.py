"""How fast an engine runs an artifact on this machine: repeated, with the spread and the conditions beside the median.

Every repeat evaluates fresh random ids, so nothing is reused and no text is easier than another; one untimed round goes
before, which maps the weights and starts the threads. Lengths take turns within a repeat, so a machine that slows
down slows all of them. Decoding takes the likeliest token each time, as generating does.

Beside each median stands the share of what the machine can do at most (``shares.py``): decoding of the bandwidth that
reads the weights and the KV cache once a token, prefill of the kernel's peak. The limits are measured before and after
the rounds and the better counts, so that a share is of the machine as it was in those minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.manifest import read_manifest
from ..host import peak_rss_bytes, physical_cores, private_bytes
from ..runtime.engine import Engine, EngineOptions, open_engine, resolve_context
from .limits import Limits
from .shares import Shares, find_shares, limits_before


@dataclass(frozen=True)
class Prefill:
    """Evaluating a prompt of ``tokens`` ids; ``ttft_s`` is the time to its first token. Medians, then extremes.

    ``share_of_peak`` is the median's, of the limits' multiply-adds per second; None where it is not known.
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
    """Generating one token after another from ``context`` tokens on. Median over the repeats, then extremes.

    ``share_of_bandwidth`` is the median's; None where it is not known.
    """

    context: int
    tok_s: float
    tok_s_min: float
    tok_s_max: float
    share_of_bandwidth: float | None = None


@dataclass(frozen=True)
class BenchResult:
    """What was measured and how.

    Attributes:
        name: The artifact's.
        engine: The engine's.
        kernel: Its arithmetic.
        threads: Threads of the arithmetic.
        kv_type: What keys and values were kept in.
        repeat: Timed rounds.
        gen_tokens: Tokens generated per round and context.
        load_s: Seconds to open the artifact.
        prefill: One entry per prompt length.
        decode: One entry for an empty context and one per prompt length.
        peak_rss_bytes: Of this process, mapped weights included; see :mod:`edgekit.host`.
        private_bytes: Of this process at the end, mapped weights left out.
        limits: What the machine could do meanwhile with as many threads; None where it could not be measured.
        shares_unknown: Why the shares are None, or None.
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
        """The fields as plain values."""
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
    progress: Callable[[str, float, float], None] = lambda phase, done, total: None,
) -> BenchResult:
    """Measure an artifact.

    Args:
        folder: The artifact.
        engine: The engine's name, or ``auto``.
        prompt_tokens: Lengths of the prompts.
        gen_tokens: Tokens to generate after each, and from nothing.
        repeat: Timed rounds.
        threads: Threads, or None for one per physical core.
        kv_type: What keys and values are kept in, or None for what the engine keeps by itself.
        progress: Called with a phase's name, rounds done and rounds in all.

    Raises:
        ValueError: A count below 1, or an unknown ``kv_type``.
        ArtifactError, EngineError: The artifact cannot be opened.
        ContextLengthError: A prompt and its continuation are longer than the model's context.
    """
    for what, count in (("gen_tokens", gen_tokens), ("repeat", repeat), *(("prompt_tokens", n) for n in prompt_tokens)):
        if count < 1:
            raise ValueError(f"{what} is {count}; it must be at least 1")
    manifest = read_manifest(folder)
    lengths = list(dict.fromkeys(prompt_tokens))
    threads = physical_cores() if threads is None else threads
    options = EngineOptions(context=max([1, *lengths]) + gen_tokens, threads=threads, kv_type=kv_type)
    resolve_context(manifest, options.context)  # too long a prompt fails before anything is measured
    progress("limits before", 0, 1)
    before = limits_before(threads)
    progress("limits before", 1, 1)
    started = time.perf_counter()
    opened = open_engine(folder, manifest, options, engine)
    load_s = time.perf_counter() - started
    try:
        prefill_s, decode_s = _measure(opened, lengths, gen_tokens, repeat, progress)
        peak, private = peak_rss_bytes(), private_bytes()  # measuring the limits takes memory of its own
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
    finally:
        opened.close()


def _measure(
    engine: Engine, lengths: Sequence[int], gen_tokens: int, repeat: int, progress: Callable[[str, float, float], None]
) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Seconds of every timed round: prompt length -> prefill, context (0 and the lengths) -> decode."""
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
        engine: With room for both.
        prompt: Ids.
        gen_tokens: Tokens to generate, each of which is evaluated.

    Returns:
        Seconds to the first token, and seconds for evaluating ``gen_tokens`` tokens after it.
    """
    engine.rewind(0)
    started = time.perf_counter()
    token = int(engine.evaluate(prompt)[-1].argmax())
    prefilled = time.perf_counter()
    for _ in range(gen_tokens):
        token = int(engine.evaluate([token])[-1].argmax())
    return prefilled - started, time.perf_counter() - prefilled


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and greatest."""
    return statistics.median(values), min(values), max(values)


def _rates(tokens: int, seconds: Sequence[float]) -> tuple[float, float, float]:
    return _spread([tokens / value for value in seconds])
