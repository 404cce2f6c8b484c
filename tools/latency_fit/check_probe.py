"""Checks plans that are based on ``edgekit probe`` against measured times of models on this machine.

    python tools/latency_fit/check_probe.py ARTIFACT... [--engine native] [--prompt-tokens 128,1024]

The machine may slow down for a minute, which affects whatever runs then. Each round therefore times probe's reference
models and then the artifacts, which must be built from recipes. The minimum times are compared, because nothing
disturbed them; the ratio of median to minimum shows how unsteady the machine was. Next to the plan's error the table
shows the error of a plan based on the machine's limits alone, which are also measured in each round
(``edgekit probe --limits-only``). For decode, a plan's time is that in the middle of the generated tokens.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.artifact.manifest import read_manifest
from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import Bandwidth, KernelPeak
from edgekit.planning.efficiency import Interval
from edgekit.planning.latency import Predictor
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.probe.engines import Times, find_rates, processor_engines, time_models
from edgekit.probe.limits import Limits, measure_limits
from edgekit.probe.reference_models import GEN_TOKENS, TimedModel, build_models
from edgekit.recipes import load_recipe

WITHIN = 0.10
Pairs = list[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifact", type=Path, nargs="+")
    parser.add_argument("--engine", choices=tuple(processor_engines()), action="append")
    parser.add_argument("--prompt-tokens", default="128,1024")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    lengths = tuple(map(int, options.prompt_tokens.split(",")))
    for engine in options.engine or processor_engines():
        with tempfile.TemporaryDirectory() as scratch:
            models = build_models(Path(scratch))
            own = [TimedModel(folder, read_manifest(folder), lengths) for folder in options.artifact]
            times, limits = measure(engine, [*models, *own], options.rounds)
        print(f"\n{engine}: {limits.bandwidth_gb_s:.1f} GB/s, {limits.kernel} {limits.kernel_gmac_s:.0f} x 10^9/s")
        by_limits = profile_of(limits)
        likely = processor_engines()[engine].speed(limits.bandwidth_gb_s, limits.kernel_gmac_s)
        rates = find_rates(engine, models, times, limits.bandwidth_gb_s, likely)
        by_engine = replace(by_limits, cpu=replace(by_limits.cpu, engines=(rates,)))
        print(f"{'':<28} {'measured':>12} {'median':>8} {'by probe':>10} {'by limits':>10}")
        errors = []
        for place, folder in enumerate(options.artifact, len(models)):
            predictors = [predictor_of(folder, engine, profile) for profile in (by_engine, by_limits)]
            for length in (0, *lengths):
                errors += report(folder.name, length, times.of[place, length], predictors)
        for what, column in (("probe", 0), ("the limits alone", 1)):
            sizes = [abs(pair[column]) for pair in errors]
            within = sum(size <= WITHIN for size in sizes)
            print(
                f"by {what}: {within} of {len(sizes)} within {WITHIN:.0%}, median {statistics.median(sizes):.1%}, "
                f"largest {max(sizes):.1%}"
            )


def measure(name: str, models: Sequence[TimedModel], rounds: int) -> tuple[Times, Limits]:
    """The times of all models, and the best limits of all rounds."""
    found: list[Limits] = []

    def limits(threads: int) -> None:
        print(f"{name}: round {len(found) + 1} of {rounds}", flush=True)
        found.append(measure_limits(threads).better(found[-1] if found else None))

    return time_models(name, models, rounds, before_round=limits), found[-1]


def profile_of(limits: Limits) -> DeviceProfile:
    """The profile of this machine with these limits."""
    host = load_device("cpu")
    peak = Sourced(limits.kernel_gmac_s, "measured")
    return replace(
        host,
        bandwidth=Bandwidth(None, Sourced(limits.bandwidth_gb_s, "measured")),
        cpu=replace(host.cpu, kernels=(KernelPeak(limits.kernel, peak, peak),)),
    )


def predictor_of(folder: Path, engine: str, profile: DeviceProfile) -> Predictor:
    """Predicts an artifact's speed on a device."""
    recipe = load_recipe(read_manifest(folder).recipe["name"])
    return plan(recipe, profile, options=PlanOptions(engine=engine)).predictor


def report(name: str, length: int, pairs: Pairs, predictors: Sequence[Predictor]) -> list[tuple[float, float]]:
    """Print the measured times and the errors by probe and by limits, and return the errors of prompt and token."""
    prompts, answers = zip(*pairs, strict=True)
    positions = length + GEN_TOKENS // 2
    predictions: list[tuple[str, list[float], Callable[[Predictor], float]]] = [
        (f"token after {length}", [s / GEN_TOKENS for s in answers], lambda p: _middle(p.decode_s(positions)))
    ]
    if length:
        predictions.insert(0, (f"prompt of {length}", list(prompts), lambda p: _middle(p.prefill_s(length))))
    errors = []
    for what, measured, predicted in predictions:
        least = min(measured)
        longer = statistics.median(measured) / least - 1
        by_probe, by_limits = (predicted(predictor) / least - 1 for predictor in predictors)
        errors.append((by_probe, by_limits))
        print(f"{name + ', ' + what:<28} {least:>10.4f} s {longer:>+8.0%} {by_probe:>+10.1%} {by_limits:>+10.1%}")
    return errors


def _middle(interval: Interval | None) -> float:
    if interval is None:
        raise SystemExit("the plan has no speed")
    return interval.mid


if __name__ == "__main__":
    main()
