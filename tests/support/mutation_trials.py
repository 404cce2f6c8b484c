"""Mutated files, opened by the commands: each ends in success or in an error of edgekit, soon and in little memory.

    python tests/support/mutation_trials.py --trials 20000 --seed 1 --work FOLDER [--only artifact,config]

A trial changes one file of a good checkpoint, artifact, recipe, device profile, receipt or saved sequence: a value of a
JSON or TOML file, bytes, or the file itself (missing, empty, a folder, a pipe, a link). Then a command opens it in a
process of its own. A failure is a traceback, a signal, more than 5 seconds of processor time, two minutes in all (the
machine may be busy), or a gigabyte of memory. What was accepted although it changes the answer is listed with
--accepted, to be looked at: it must be a value that is allowed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutations import mutate
from receipts import receipt
from safetensors.numpy import load_file
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint
from tiny_gptq import TinyGptq
from tiny_lora import factors, write_adapter

import edgekit
from edgekit.cli import main
from edgekit.models import spec_from_config

CPU_SECONDS, WALL_SECONDS, MEGABYTES = 5, 120, 1000
ROOT = Path(__file__).parents[2]
GENERATION = {"eos_token_id": [1], "temperature": 0.5, "do_sample": True}
SMALL = {
    "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "head_dim": 32, "num_key_value_heads": 1,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 64},
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What is mutated, and how it is opened.

    Args:
        base: The good folder or file.
        files: Names of the files to change, with weights; a missing one may be added.
        commands: Arguments of commands; ``{}`` stands for the changed folder, ``OUT`` for a new folder.
    """

    base: Path
    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: ``ok``, ``refused``, or a failure; the error or the answer; what it took."""

    kind: str
    text: str
    seconds: float
    megabytes: int


def bases(work: Path) -> dict[str, Kind]:
    """Write good files of every kind into a folder."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    quick = ("--device", "cpu", "--no-gate", "--threads", "1", "--out", "OUT")
    plain = write_checkpoint(work / "config", **SMALL)
    (plain / "generation_config.json").write_text(json.dumps(GENERATION))
    sharded = _sharded(work / "sharded")
    gptq = TinyGptq(quantize_config={"dynamic": {r"-:.*layers\.9.*": {}}}).write(work / "gptq")
    lora = write_adapter(work / "lora", factors("model.layers.0.self_attn.q_proj", 64, 64))
    (work / "gguf").mkdir()
    _write_gguf(plain, work / "gguf" / "m.gguf")
    artifact = work / "artifact"
    edgekit.build(device="cpu", checkpoint=plain, out=artifact, gate=False, threads=1)
    for folder, name, source in (
        ("recipe", "mine.toml", ROOT / "recipes" / "qwen3-0.6b.toml"),
        ("device", "mine.toml", ROOT / "devices" / "jetson-orin-nano-8gb.toml"),
    ):
        (work / folder).mkdir()
        shutil.copy(source if source.exists() else next(source.parent.glob("*.toml")), work / folder / name)
    (work / "receipt").mkdir()
    receipt().write(work / "receipt" / "receipt.json")
    (work / "sequence").mkdir()
    _save_sequence(artifact, work / "sequence" / "state")
    checkpoint = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
    build, plan = ("build", "--checkpoint", "{}", *quick), ("plan", "{}", "--device", "cpu")
    run = ("run", "{}", "--prompt", "hi", "--max-tokens", "4", "--temperature", "0", "--json", "--threads", "1")
    opened = (
        run, run, (*run, "--engine", "ort"), ("inspect", "{}", "--json"), ("verify", "{}"), ("smoke", "{}", "--json"),
    )  # fmt: skip
    manifest = ("edgekit.json",)
    return {
        "config": Kind(plain, ("config.json",), (build, plan, build)),
        "files": Kind(plain, (*checkpoint, "chat_template.jinja", "model.safetensors"), (build, plan, build)),
        "index": Kind(sharded, ("model.safetensors.index.json",), (plan, build)),
        "gptq": Kind(gptq, ("quantize_config.json", "config.json", "model.safetensors"), (build, plan)),
        "lora": Kind(
            lora, ("adapter_config.json", "adapter_model.safetensors"),
            (("build", "--checkpoint", str(plain), "--lora", "{}", *quick),),
        ),
        "gguf": Kind(work / "gguf", ("m.gguf",), (("build", "--checkpoint", "{}/m.gguf", *quick), plan)),
        "manifest": Kind(artifact, manifest, opened),
        "artifact": Kind(
            artifact, (*checkpoint, "genai_config.json", "chat_template.jinja", "edgekit_text.bin", "model.onnx",
                       "model.onnx", "model.onnx.data"), opened,
        ),
        "recipe": Kind(
            work / "recipe", ("mine.toml",), (("plan", "{}/mine.toml", "--device", "pi"), ("recipes", "{}/mine.toml"))
        ),
        "device": Kind(
            work / "device", ("mine.toml",),
            (("plan", "smollm2-135m", "--device", "{}/mine.toml"), ("devices", "{}/mine.toml"),
             ("plan", "--device", "{}/mine.toml", "--json")),
        ),
        "receipt": Kind(
            work / "receipt", ("receipt.json",),
            (("devices", "--from-receipt", "{}/receipt.json"), ("devices", "pi", "--from-receipt", "{}/receipt.json")),
        ),
        "sequence": Kind(work / "sequence", ("state",), (("SEQUENCE", str(artifact), "{}/state"),)),
    }  # fmt: skip


def _save_sequence(artifact: Path, path: Path) -> None:
    """Save a short conversation."""
    with edgekit.load(artifact, engine="native", context=64, threads=1) as session:
        session.generate([3, 4, 5], max_tokens=2, temperature=0).complete()
        session.save_state(path)


def _sharded(folder: Path) -> Path:
    """A checkpoint with an index."""
    write_checkpoint(folder, **SMALL)
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    names = load_file(folder / "a.safetensors")
    content = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "a.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder


def _write_gguf(source: Path, target: Path) -> None:
    import gguf

    config = tiny_config("llama", **{**SMALL, "rope_scaling": None})
    vocabulary = json.loads((source / "tokenizer.json").read_text())
    tokens = sorted(vocabulary["model"]["vocab"], key=vocabulary["model"]["vocab"].get)
    tokens += [t["content"] for t in vocabulary["added_tokens"] if t["content"] not in vocabulary["model"]["vocab"]]
    writer = gguf.GGUFWriter(str(target), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    merges = vocabulary["model"]["merges"]
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    tensors = random_tensors(config)
    for ref in spec_from_config(config).tensors():
        writer.add_tensor(ref.gguf, tensors[ref.name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def trial(work: Callable[[], str]) -> Outcome:
    """Run a function in a process of its own, with limits. It returns the answer, or raises."""
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_child(work, writer)
    os.close(writer)
    kind, text = "", b""
    while True:
        left = WALL_SECONDS - (time.monotonic() - began)
        if left <= 0:
            os.kill(child, signal.SIGKILL)
            kind = "HANG"
            break
        if select.select([reader], [], [], left)[0]:
            if not (piece := os.read(reader, 65536)):
                break
            text += piece
    os.close(reader)
    _, status, usage = os.wait4(child, 0)
    megabytes = usage.ru_maxrss // 1024
    said = text.decode("utf-8", "replace")
    if not kind and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        kind = "HANG" if number in (signal.SIGXCPU, signal.SIGKILL) else f"SIGNAL {number}"
    kind, _, said = (kind, "", said) if kind else said.partition(" ")
    if kind in ("ok", "refused") and megabytes > MEGABYTES:
        kind = "MEMORY"
    return Outcome(kind or "EXIT", said, time.monotonic() - began, megabytes)


def _run_child(work: Callable[[], str], writer: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
    try:
        said = work()
    except BaseException as error:  # everything, so that it can be told
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "edgekit" in f.filename]
        at = f"{'/'.join(frames[-1].filename.split('/')[-3:])}:{frames[-1].lineno}" if frames else "?"
        said = f"TRACEBACK {type(error).__name__} at {at}: {str(error)[:160]}"
    os.write(writer, said.encode("utf-8", "replace")[:60_000])
    os._exit(0)


def command(arguments: list[str]) -> str:
    """Run a command as ``edgekit`` would; returns ``ok ANSWER`` or ``refused MESSAGE``, and raises what is a bug."""
    answer, messages = io.BytesIO(), io.BytesIO()
    sys.stdout = io.TextIOWrapper(answer, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(messages, encoding="utf-8", errors="backslashreplace", write_through=True)
    sys.argv = ["edgekit", *arguments]
    try:
        if arguments[0] == "SEQUENCE":
            with edgekit.load(arguments[1], engine="native", context=64, threads=1) as session:
                try:
                    session.engine.load(Path(arguments[2]))  # type: ignore[attr-defined]
                except edgekit.EdgekitError as error:
                    return f"refused {type(error).__name__}: {error.message}"
                return f"ok {session.generate([3, 4, 5, 6], max_tokens=2, temperature=0).complete().tokens}"
        main()
        code: Any = 0
    except SystemExit as ended:
        code = ended.code or 0
    said = _message(answer.getvalue(), messages.getvalue())
    if code and said:
        return f"refused {said}"
    if code in (2, 52, 62):  # usage, a smoke test that failed
        return f"refused exit code {code}"
    if code:
        raise AssertionError(f"exit code {code} without a message")
    return f"ok {_answer(answer.getvalue())}"


def _message(printed: bytes, messages: bytes) -> str:
    """The error that a command told: on stderr, or in its JSON object."""
    if told := re.search(r"^error: (.+)", messages.decode(), re.MULTILINE):
        return told[1]
    try:
        content = json.loads(printed)
    except ValueError:
        return ""
    error = content.get("error") if isinstance(content, dict) else None
    return f"{error['kind']}: {error['message']}" if isinstance(error, dict) else ""


def _answer(printed: bytes) -> str:
    """What a change must not alter in silence: the generated tokens, or all that is printed."""
    try:
        content = json.loads(printed)
    except ValueError:
        return ""
    return json.dumps(content.get("tokens", "")) if isinstance(content, dict) else ""


def one(choose: random.Random, name: str, kind: Kind, work: Path) -> tuple[str, Outcome]:
    """Make one change and open it."""
    folder, out = work / "case" / name, work / "case" / "out"
    shutil.rmtree(work / "case", ignore_errors=True)
    shutil.copytree(kind.base, folder, symlinks=True)
    file = choose.choice(kind.files)
    did = mutate(choose, folder / file)
    arguments = [a.replace("{}", str(folder)).replace("OUT", str(out)) for a in choose.choice(kind.commands)]
    outcome = trial(lambda: command(arguments))
    if outcome.kind == "ok" and arguments[0] == "build" and choose.random() < 0.3:
        ran = ["run", str(out), "--prompt", "hi", "--max-tokens", "4", "--temperature", "0", "--json", "--threads", "1"]
        outcome = trial(lambda: command(ran))
    return f"{name} {arguments[0]} {file}: {did}", outcome


def run(
    trials: int, seed: int, work: Path, only: list[str] | None = None, report: Callable[[str], None] = print
) -> Counter[str]:
    """Run trials and report each failure.

    Args:
        trials: How many.
        seed: Of the choices.
        work: A folder for the files, which is emptied.
        only: The kinds; None for all.
        report: Gets one line for each failure.

    Returns:
        How often each outcome was seen.
    """
    kinds = {name: kind for name, kind in bases(work).items() if not only or name in only}
    choose = random.Random(seed)  # noqa: S311
    tally: Counter[str] = Counter()
    for number in range(trials):
        name = list(kinds)[number % len(kinds)]
        what, outcome = one(choose, name, kinds[name], work)
        tally[outcome.kind] += 1
        tally[f"{name}: {outcome.kind}"] += 1
        if outcome.kind not in ("ok", "refused"):
            report(
                f"FAILED {what}: {outcome.kind} {outcome.text[:260]} ({outcome.seconds:.1f} s, {outcome.megabytes} MB)"
            )
        elif outcome.kind == "ok":
            report(f"accepted {what}: {outcome.text[:80]}")
        if (number + 1) % 500 == 0:
            report(f"{number + 1} trials: {tally['ok']} accepted, {tally['refused']} refused")
    shutil.rmtree(work, ignore_errors=True)
    return tally


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the files; it is emptied")
    parser.add_argument("--only", default="", help="kinds, separated by commas")
    parser.add_argument("--accepted", type=Path, help="write what was accepted to this file")
    arguments = parser.parse_args()
    accepted: list[str] = []

    def report(line: str) -> None:
        if line.startswith("accepted"):
            accepted.append(line)
        else:
            print(line, flush=True)

    began = time.monotonic()
    only = arguments.only.split(",") if arguments.only else None
    tally = run(arguments.trials, arguments.seed, arguments.work, only, report)
    if arguments.accepted:
        arguments.accepted.write_text("\n".join(accepted) + "\n", encoding="utf-8", errors="backslashreplace")
    failed = arguments.trials - tally["ok"] - tally["refused"]
    for name, count in sorted(tally.items()):
        print(f"{count:7d} {name}")
    print(f"{arguments.trials} trials in {time.monotonic() - began:.0f} s, {failed} failures")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    np.seterr(all="ignore")
    _main()
