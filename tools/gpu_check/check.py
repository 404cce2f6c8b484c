"""Run SmolLM2's and R1-1.5B's shapes through every engine of this machine, and print one report.

    bash check.sh [--seconds 600] [--only smollm2-135m-float32] [--engines webgpu,native] [--artifact FOLDER]

For each model and engine: the GPU and its driver, the proof, where the nodes run, how many of the processor's tokens it
chooses after the same text, tokens per second, and memory. The processor's tokens are those of onnxruntime with float
products, "reference"; the engines native and ort round activations to int8. Each pair runs in a process of its own, so
that a driver that crashes is a line of the report. ``carry.py`` packs it; weights are made up here unless --artifact
names a built artifact.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ENGINES = ("webgpu", "cuda", "native", "ort")
REFERENCE = "reference"
PROMPT, TOKENS = 128, 32


def fill(folder: Path) -> None:
    """Write ``model.onnx.data`` with made-up weights: codes are uniform, scales give a standard deviation of 0.02."""
    from edgekit.runtime.proof.graph import read_graph
    from edgekit.runtime.proof.wire import fields

    path = folder / "model.onnx.data"
    graph = read_graph((folder / "model.onnx").read_bytes())
    bits = {node.inputs[2]: node.numbers["bits"] for node in graph.nodes if node.op == "GatherBlockQuantized"}
    bits |= {node.inputs[2]: node.numbers["bits"] for node in graph.nodes if node.op == "MatMulNBits"}
    rng = np.random.default_rng(0)
    with path.with_suffix(".partial").open("wb") as file:
        for name, each in graph.initializers.items():
            entries = [dict_of(fields(value)) for number, value, _ in fields(each.encoded) if number == 13]
            place = {key: value for entry in entries for key, value in [(entry[1], entry[2])]}
            if not place:
                continue
            file.seek(int(place["offset"]))
            if each.data_type == 2:
                size = int(place["length"])
                middle = 0x88 if size and name.endswith("zero_points") else None
                values = np.full(size, middle, np.uint8) if middle else rng.integers(0, 256, size, np.uint8)
            else:
                dtype = {1: np.float32, 10: np.float16}[each.data_type]
                values = float_values(name, each.shape, bits.get(name)).astype(dtype)
            file.write(values.tobytes())
    path.with_suffix(".partial").rename(path)


def dict_of(found: Any) -> dict[int, str]:
    """The text fields of a message by number."""
    return {number: value.decode() for number, value, _ in found if isinstance(value, bytes)}


def float_values(name: str, shape: tuple[int, ...], bits: int | None) -> Any:
    """Scales, rotary tables, biases and norms."""
    if bits is not None:
        return np.full(shape, 0.02 * np.sqrt(12) / 2**bits)
    if name in ("rotary.cos", "rotary.sin"):
        positions, half = shape
        angles = np.outer(np.arange(positions), 1e4 ** (-np.arange(half) / half))
        return np.cos(angles) if name.endswith("cos") else np.sin(angles)
    return np.zeros(shape) if name.endswith("bias") else np.ones(shape)


def facts_of(folder: Path) -> Any:
    """The manifest of a built artifact, or what ``carry.py`` wrote."""
    from edgekit.artifact.manifest import RuntimeFacts, read_manifest

    if (folder / "edgekit.json").exists():
        return read_manifest(folder)
    return RuntimeFacts(**json.loads((folder / "facts.json").read_text(encoding="utf-8")))


def greedy(engine: Any, prompt: list[int], count: int) -> tuple[list[int], float, float]:
    """Tokens, seconds to the first of them, and tokens per second after it."""
    started = time.perf_counter()
    tokens = [int(engine.evaluate(prompt)[-1].argmax())]
    first = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(count - 1):
        tokens.append(int(engine.evaluate([tokens[-1]])[-1].argmax()))
    return tokens, first, (count - 1) / max(time.perf_counter() - started, 1e-9)


def gpu_memory() -> str:
    """What nvidia-smi says of the GPU's memory in use; empty without it."""
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def forced(engine: Any, prompt: list[int], tokens: list[int]) -> int:
    """How many of these tokens an engine chooses, each after those before it."""
    same = int(engine.evaluate(prompt)[-1].argmax()) == tokens[0]
    return int(same) + sum(
        int(engine.evaluate([token])[-1].argmax()) == following for token, following in itertools.pairwise(tokens)
    )


def open_named(folder: Path, facts: Any, options: Any, name: str) -> Any:
    """An engine; the reference is onnxruntime on the processor, with float products."""
    from dataclasses import replace

    from edgekit.runtime.engine import open_engine
    from edgekit.runtime.ort_engine import OrtEngine

    class Reference(OrtEngine):
        provider = replace(OrtEngine.provider, float_products=True)

    return Reference.open(folder, facts, options) if name == REFERENCE else open_engine(folder, facts, options, name)


def measure(folder: Path, name: str, count: int, tokens: list[int]) -> dict[str, Any]:
    """One model with one engine, in this process; tokens: those of the reference, or none."""
    from edgekit.host import peak_rss_bytes
    from edgekit.inspection.placement import placement_of
    from edgekit.runtime.engine import EngineOptions

    facts = facts_of(folder)
    options = EngineOptions(context=min(1024, int(facts.model["context_length"])))
    before, started = gpu_memory(), time.perf_counter()
    engine = open_named(folder, facts, options, name)
    result: dict[str, Any] = {"kernel": engine.kernel, "open_s": time.perf_counter() - started}
    verdict = getattr(engine, "verdict", None)
    if verdict is not None:
        result["proof"] = verdict.to_json()
    prompt = np.random.default_rng(1).integers(5, engine.vocab_size - 5, PROMPT).tolist()
    engine.evaluate(prompt)  # kernels are compiled for these sizes
    engine.rewind(0)
    found, first, speed = greedy(engine, prompt, count)
    result |= {"tokens": found, "prefill_tok_s": PROMPT / first, "decode_tok_s": speed}
    if tokens:
        engine.rewind(0)
        result["same_as_reference"] = forced(engine, prompt, tokens)
    result |= {"peak_rss_bytes": peak_rss_bytes(), "gpu_memory": [before, gpu_memory()]}
    engine.close()
    if name == REFERENCE:
        return result
    placement = placement_of(folder, facts, name)
    result["placement"] = [f"{each.state} {each.nodes}" for each in placement.sums()]
    result["slow"] = list(placement.warnings())
    return result


def in_process(folder: Path, name: str, count: int, tokens: list[int], seconds: float) -> dict[str, Any]:
    """One model with one engine, in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(folder), name, str(count), json.dumps(tokens)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {seconds:.0f} s"}
    if done.returncode != 0:
        return {"error": f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line_of(model: str, engine: str, found: dict[str, Any], count: int) -> str:
    """The report of one pair, for people; count: the reference's tokens."""
    if "error" in found:
        return f"{model:45} {engine:9} {found['error'].splitlines()[-1][:300]}"
    same = f", {found['same_as_reference']} of {count} tokens as the reference" if "same_as_reference" in found else ""
    speeds = f"prefill {found['prefill_tok_s']:.1f}, decode {found['decode_tok_s']:.1f} tok/s"
    used = " -> ".join(filter(None, found["gpu_memory"])) or "unknown"
    memory = f"peak {(found['peak_rss_bytes'] or 0) / 1e6:.0f} MB, GPU {used}"
    text = f"{model:45} {engine:9} {speeds}{same}; open {found['open_s']:.1f} s; {memory}; {found['kernel']}"
    if "proof" in found:
        proof = found["proof"]
        text += f"\n    proof ({proof['seconds']:.0f} s): {proof['detail']}; logits off by {proof['logits_error']:.1g}"
    if "placement" in found:
        text += f"\n    nodes: {', '.join(found['placement'])}" + "".join(f"\n    {each}" for each in found["slow"])
    return text


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run two models' shapes through every engine of this machine.")
    parser.add_argument("--seconds", type=float, default=570, help="stop starting new pairs after this time")
    parser.add_argument("--only", help="one model's folder in models/")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens to generate")
    parser.add_argument("--artifact", type=Path, action="append", default=[], help="a built artifact, instead")
    parser.add_argument("--out", type=Path, help="write the report as JSON to this file")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure all pairs and print the report."""
    options = parse()
    if options.measure:
        folder, engine, count, tokens = options.measure
        warnings.simplefilter("ignore")
        try:
            print(json.dumps(measure(Path(folder), engine, int(count), json.loads(tokens))))
        except Exception as error:  # a report names what went wrong
            traceback.print_exc()
            sys.exit(f"{type(error).__name__}: {getattr(error, 'message', error)}")
        return
    started = time.perf_counter()
    os.environ.setdefault("EDGEKIT_CACHE", str(HERE / "cache"))
    models = options.artifact or sorted(path for path in (HERE / "models").iterdir() if path.is_dir())
    report: dict[str, Any] = {"machine": platform.platform(), "python": platform.python_version(), "results": []}
    print(f"{report['machine']}, Python {report['python']}, GPU memory in use: {gpu_memory() or 'no nvidia-smi'}")
    wanted = options.engines.split(",")
    for model in models:
        if options.only not in (None, model.name):
            continue
        if not (model / "model.onnx.data").exists():
            fill(model)
        reference: list[int] = []
        for engine in (REFERENCE, *wanted):
            left = options.seconds - (time.perf_counter() - started)
            found = {"error": "no time left"}
            if left > 10:
                found = in_process(model, engine, options.tokens, reference, left)
            reference = found.get("tokens", []) if engine == REFERENCE else reference
            report["results"].append({"model": model.name, "engine": engine, **found})
            print(line_of(model.name, engine, found, len(reference)), flush=True)
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
