"""Time steps of the native engine by turns: of several sequences, and of one with an empty and with a long context."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from edgekit.artifact.manifest import read_manifest
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.native_engine import NativeEngine

COUNTS = (1, 2, 4, 8, 16)
ROUNDS = 7
CONTEXT = 128
LONG_ROUNDS = 60


def measure_context(artifact: Path, threads: int | None, tokens: int) -> tuple[float, float, float]:
    """Return the median seconds of a step with no context and after ``tokens``, and the median of their ratios."""
    options = EngineOptions(context=tokens + LONG_ROUNDS + 1, threads=threads)
    long = NativeEngine.open(artifact, read_manifest(artifact), options)
    short = long.fork()
    long.evaluate([token % 1000 for token in range(tokens)])
    seconds: list[tuple[float, float]] = []
    for _ in range(LONG_ROUNDS):
        start = time.perf_counter()
        long.step([short], [0])
        middle = time.perf_counter()
        long.step([long], [0])
        seconds.append((middle - start, time.perf_counter() - middle))
    long.close()
    first, second = zip(*seconds, strict=True)
    return statistics.median(first), statistics.median(second), statistics.median(a / b for a, b in seconds)


def measure(artifact: Path, threads: int | None) -> dict[int, float]:
    """Return the median seconds of a step by the number of its sequences."""
    engine = NativeEngine.open(artifact, read_manifest(artifact), EngineOptions(context=CONTEXT, threads=threads))
    sequences = [engine.fork() for _ in range(max(COUNTS))]
    seconds: dict[int, list[float]] = {count: [] for count in COUNTS}
    for _ in range(ROUNDS):
        for count, measured in seconds.items():
            start = time.perf_counter()
            engine.step(sequences[:count], range(count))
            measured.append(time.perf_counter() - start)
    engine.close()
    return {count: statistics.median(measured) for count, measured in seconds.items()}


def main() -> None:
    """Print the time of a step, its ratio to that of one sequence, and the tokens per second of all sequences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT")
    parser.add_argument("--threads", type=int, help="default: one per physical core")
    parser.add_argument("--context", type=int, default=4096, help="tokens of the long context (default: 4096)")
    options = parser.parse_args()
    seconds = measure(options.artifact, options.threads)
    print("sequences  step, ms  of one  tok/s together")
    for count, time_of_step in seconds.items():
        print(f"{count:9}  {time_of_step * 1e3:8.2f}  {time_of_step / seconds[1]:6.2f}  {count / time_of_step:14.1f}")
    empty, full, ratio = measure_context(options.artifact, options.threads, options.context)
    print(f"\ntok/s with an empty context {1 / empty:.1f}, after {options.context} tokens {1 / full:.1f}: {ratio:.2f}")


if __name__ == "__main__":
    main()
