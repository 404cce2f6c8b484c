"""Measures the shares of this machine's limits that the engines reach, next to those that planning uses, and fits them.

    python tools/latency_fit/engine_shares.py ARTIFACT... [--engine native] [--prompt-tokens 128,1024,4096]

Each artifact, built from a recipe, is timed by ``edgekit bench`` with each engine. The predictions are those of
``edgekit plan`` for a profile whose bandwidth and arithmetic are the limits measured in the same run, so that a machine
that is slower for an hour does not count as an error of the model. At the end the tool prints the shares that fit all
times best, in the form of the ``shares`` in ``planning/engines/``. Two artifacts of different shapes are needed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

from edgekit.artifact.manifest import read_manifest
from edgekit.devices import load_device
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.planning.work import Work
from edgekit.probe.engines import processor_engines
from edgekit.probe.rate_fit import Row, fit
from edgekit.recipes import load_recipe

Rows = list[Row]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifact", type=Path, nargs="+")
    parser.add_argument("--engine", choices=tuple(processor_engines()), action="append")
    parser.add_argument("--prompt-tokens", default="128,512,1024,4096")
    parser.add_argument("--gen-tokens", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    for engine in options.engine or processor_engines():
        decode, prefill = [], []
        for folder in options.artifact:
            tokens, prompts = measure(folder, engine, options.prompt_tokens, options.gen_tokens, options.repeat)
            decode += tokens
            prefill += prompts
        report(engine, decode, prefill)


def measure(folder: Path, engine: str, lengths: str, gen_tokens: int, repeat: int) -> tuple[Rows, Rows]:
    """Times of an artifact's tokens and prompts, with their work divided by the machine's limits, 10^9 per second."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.cli", "bench", str(folder), "--engine", engine, "--prompt-tokens", lengths,
         "--gen-tokens", str(gen_tokens), "--repeat", str(repeat), "--json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    limits: dict[str, Any] = found["limits"]
    bandwidth, peak = limits["bandwidth_gb_s"], limits["kernel_gmac_s"]
    print(f"{folder.name}, {engine}: {bandwidth:.1f} GB/s, {peak:.0f} GMAC/s")
    recipe = load_recipe(read_manifest(folder).recipe["name"])
    predictor = plan(recipe, load_device("cpu"), options=PlanOptions(engine=engine)).predictor
    work: Work = predictor.work
    decode = [
        Row(
            f"{folder.name} after {each['context']}", 1 / each["tok_s"], work.token_bytes / bandwidth,
            (each["context"] + gen_tokens // 2) * predictor.position_bytes / (bandwidth * 1e9),
            (each["context"] + gen_tokens // 2) * work.attention_multiply_adds / peak, work.layers,
        )
        for each in found["decode"]
    ]  # fmt: skip
    prefill = [
        Row(
            f"{folder.name}, {each['tokens']}", each["ttft_s"], work.multiply_adds(each["tokens"]) / peak, 0.0,
            work.attention(each["tokens"]) / peak, each["tokens"] * work.layers,
        )
        for each in found["prefill"]
    ]  # fmt: skip
    return decode, prefill


def report(engine: str, decode: Rows, prefill: Rows) -> None:
    """Print the errors of the present shares, and those that would fit."""
    known = processor_engines()[engine]
    parts = {"decode": (decode, known.decode), "prefill": (prefill, known.prefill)}
    for what, (rows, present) in parts.items():
        fitted = fit(rows, present)
        print(f"\n{engine} {what:<8} {'measured':>12} {'predicted':>12} {'error':>8} {'fitted':>8}")
        errors = []
        for row in rows:
            now, then = (row.predicted(shares) for shares in (present, fitted))
            errors.append((now / row.seconds - 1, then / row.seconds - 1))
            print(
                f"  {row.name:<22} {row.seconds:>10.4f} s {now:>10.4f} s {errors[-1][0]:>+8.1%} {errors[-1][1]:>+8.1%}"
            )
        for name, column in (("present", 0), ("fitted", 1)):
            sizes = [abs(e[column]) for e in errors]
            shares = ", ".join(f"{value:.3g}" for value in astuple((present, fitted)[column]))
            print(
                f"  {name} shares ({shares}): {sum(size <= 0.1 for size in sizes)} of {len(sizes)} within 10 %, "
                f"the largest {max(sizes):.0%}"
            )


if __name__ == "__main__":
    main()
