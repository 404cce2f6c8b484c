"""Does a plan for this machine, by the profile that ``edgekit probe`` wrote, say what ``edgekit bench`` measures?

    edgekit probe --out this.toml
    python tests/support/latency_fit/check_probe.py this.toml ARTIFACT... [--engine native] [--prompt-tokens 128,1024]

Each artifact is timed by ``edgekit bench`` with each engine; beside each time stands what ``edgekit plan`` predicts, in
the end how many lie within 10 %. Of decoding, the plan's time is for the middle of the tokens that were generated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from edgekit.artifact.manifest import read_manifest
from edgekit.devices import DeviceProfile, load_device
from edgekit.planning.plan import Options, plan
from edgekit.recipes import load_recipe

WITHIN = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("device", type=Path)
    parser.add_argument("artifact", type=Path, nargs="+")
    parser.add_argument("--engine", choices=("native", "ort"), action="append")
    parser.add_argument("--prompt-tokens", default="128,512,1024,4096")
    parser.add_argument("--gen-tokens", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    device, errors = load_device(options.device), []
    for folder in options.artifact:
        for engine in options.engine or ("native", "ort"):
            arguments = ["--engine", engine, "--prompt-tokens", options.prompt_tokens]
            arguments += ["--gen-tokens", str(options.gen_tokens), "--repeat", str(options.repeat)]
            for what, measured, predicted in compare(folder, device, engine, arguments):
                errors.append(predicted / measured - 1)
                print(
                    f"{folder.name:<16} {engine:<7} {what:<14} {measured:>9.4f} s {predicted:>9.4f} s {errors[-1]:+.1%}"
                )
                sys.stdout.flush()
    within = sum(abs(error) <= WITHIN for error in errors)
    print(f"{within} of {len(errors)} within {WITHIN:.0%}; the largest error is {max(map(abs, errors)):.1%}")


def compare(
    folder: Path, device: DeviceProfile, engine: str, arguments: list[str]
) -> Iterator[tuple[str, float, float]]:
    """What was measured, its seconds and the plan's."""
    command = [sys.executable, "-m", "edgekit.cli", "bench", str(folder), *arguments, "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    recipe = load_recipe(read_manifest(folder).recipe["name"])
    predictor = plan(recipe, device, options=Options(engine=engine)).predictor
    for each in found["prefill"]:
        seconds = predictor.prefill_s(each["tokens"])
        if seconds is None:
            raise SystemExit(f"{device.name} has no measured speed: make it with edgekit probe")
        yield f"prompt {each['tokens']}", each["ttft_s"], seconds.mid
    for each in found["decode"]:
        seconds = predictor.decode_s(each["context"] + found["gen_tokens"] // 2)
        if seconds is not None:
            yield f"token at {each['context']}", 1 / each["tok_s"], seconds.mid


if __name__ == "__main__":
    main()
