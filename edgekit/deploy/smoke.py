"""The smoke test: does an artifact behave on this machine as it did when it was built? The result is a receipt.

The checks run in this order. If ``files`` or ``load`` fails, the test ends there:

    files           every file matches the manifest (``artifact/verify.py``)
    load            the engine loads the artifact and computes logits
    golden_logits   the largest logits of the first new token match the recorded ones
    golden_tokens   the greedy continuation matches the recorded one
    memory          the peak memory with a full KV cache stays within the build's plan for this engine
    device_memory   the same, within the usable memory of a given device
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import Manifest, read_manifest
from ..artifact.verify import verify
from ..devices import DeviceProfile, load_device
from ..errors import ArtifactError, EngineError, NativeLibraryError, VerificationError
from ..host import peak_rss_bytes
from ..probe.bench import time_round
from ..progress import Progress, no_progress
from ..runtime.engine import Engine, EngineOptions, open_engine
from ..units import format_bytes

# Correct kernels give different results: int8 activations round differently for one row, for many rows, and on another
# instruction set. Measured on SmolLM2-135M (10 chats, 220 positions, onnxruntime's two int8 paths and its float32
# path): the largest difference among the ten largest logits has a median of 0.30; 99 % are below 0.99, all below 1.43.
# Where the paths chose different tokens, their logits were at most 0.35 apart. One megabyte of wrong weights, anywhere,
# makes a difference of 7 or more. Smaller damage is found by the hashes.
LOGIT_TOLERANCE = 1.5
TIE_TOLERANCE = 0.75

# The planner's memory is accurate to 10 % (tests/planning/test_measured_memory.py). This test's process, which hashes
# files and keeps logits, needs about 25 MB more than an application.
MEMORY_TOLERANCE = 0.10
OWN_BYTES = 32_000_000


@dataclass(frozen=True)
class Check:
    """One check, its result and the measured values."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Receipt:
    """The outcome of a smoke test.

    Attributes:
        artifact: The artifact's name.
        engine, kernel: The engine and kernel that ran the artifact; empty if none was loaded.
        checks: The checks, in the order in which they ran.
        load_s: Seconds to load the artifact.
        ttft_s: Seconds from the golden prompt to its first token, warm.
        decode_tok_s: Tokens per second of the golden continuation, warm.
        peak_rss_bytes: The largest resident memory. This and the times are None if the test ended early.
        predicted: The decode speed in the build's plan: ``device``, and tokens per second as ``low``, ``mid`` and
            ``high``; None if the plan has none. It applies only to that device, so no check depends on it.
        as_predicted: Whether ``decode_tok_s`` is inside the predicted interval.
    """

    artifact: str
    engine: str
    kernel: str
    checks: tuple[Check, ...]
    load_s: float | None = None
    ttft_s: float | None = None
    decode_tok_s: float | None = None
    peak_rss_bytes: int | None = None
    predicted: dict[str, Any] | None = None

    @property
    def as_predicted(self) -> bool | None:
        if self.predicted is None or self.decode_tok_s is None:
            return None
        return bool(self.predicted["low"] <= self.decode_tok_s <= self.predicted["high"])

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, ``passed`` first."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, **asdict(self), "checks": checks, "as_predicted": self.as_predicted}

    def write(self, path: Path) -> None:
        """Write the receipt as JSON.

        Raises:
            ArtifactError: The file cannot be written.
        """
        try:
            path.write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise ArtifactError(f"cannot write the receipt {path}: {error.strerror}") from None


def smoke(
    artifact: str | PathLike[str],
    *,
    engine: str = "auto",
    threads: int | None = None,
    device: str | Path | DeviceProfile | None = None,
    progress: Progress = no_progress,
) -> Receipt:
    """Run the smoke test. A failed check is recorded in the receipt and raises nothing.

    Args:
        artifact: The artifact's folder.
        engine: The engine's name, or ``auto``.
        threads: Number of threads, or None for one per physical core.
        device: A device profile, its name, alias or file. If given, the peak memory is also checked against the
            device's usable memory.
        progress: As for :func:`~edgekit.artifact.verify.verify`.

    Raises:
        ArtifactError: The folder is not an artifact, or it has no golden test.
        UnknownNameError: There is no such engine or device.
    """
    folder = Path(artifact)
    profile = load_device(device) if isinstance(device, str | Path) else device
    manifest = read_manifest(folder)
    golden = _golden(folder, manifest)
    try:
        verify(folder, progress)
    except VerificationError as error:
        return Receipt(manifest.name, "", "", (Check("files", False, error.message),))
    size = sum(entry["size_bytes"] for entry in manifest.files.values())
    checks = [Check("files", True, f"{len(manifest.files)} files, {format_bytes(size)}")]
    started = time.perf_counter()
    try:
        opened = open_engine(folder, manifest, EngineOptions(threads=threads), engine)
    except (EngineError, NativeLibraryError) as error:
        return Receipt(manifest.name, engine, "", (*checks, Check("load", False, error.message)))
    load_s = time.perf_counter() - started
    try:
        rows = _replay(opened, golden)
        ttft_s, decode_s = time_round(opened, golden["prompt_ids"], len(golden["continuation_ids"]))
    except EngineError as error:
        return Receipt(manifest.name, opened.name, opened.kernel, (*checks, Check("load", False, error.message)))
    finally:
        opened.close()
    peak = peak_rss_bytes()
    checks += [
        Check("load", True, f"{opened.kernel}, {opened.threads} threads, {load_s:.2f} s"),
        check_logits(rows[0], golden["top_logits"]),
        check_tokens(rows, golden["continuation_ids"]),
        *_check_memory(peak, opened, manifest, profile),
    ]
    return Receipt(
        artifact=manifest.name,
        engine=opened.name,
        kernel=opened.kernel,
        checks=tuple(checks),
        load_s=load_s,
        ttft_s=ttft_s,
        decode_tok_s=len(golden["continuation_ids"]) / decode_s,
        peak_rss_bytes=peak,
        predicted=_predicted(manifest, opened),
    )


def _predicted(manifest: Manifest, engine: Engine) -> dict[str, Any] | None:
    """The plan's decode speed; None if the plan is for another engine or has no speed."""
    interval = manifest.plan.get("decode_tok_s")
    if not interval or manifest.plan.get("engine") != engine.name:
        return None
    return {"device": manifest.plan.get("device"), **interval}


def _golden(folder: Path, manifest: Manifest) -> dict[str, Any]:
    golden: dict[str, Any] | None = manifest.golden
    if golden is None:
        raise ArtifactError(f"{folder} has no golden test", hint="build the artifact again")
    missing = [key for key in ("prompt_ids", "continuation_ids", "top_logits") if not golden.get(key)]
    if missing:
        raise ArtifactError(f"the golden test of {folder} lacks {', '.join(missing)}")
    return golden


def _replay(engine: Engine, golden: dict[str, Any]) -> list[NDArray[np.float32]]:
    """Compute the logits before each recorded token, given the recorded tokens before it."""
    rows = [engine.evaluate(golden["prompt_ids"])[-1]]
    rows += [engine.evaluate([token])[-1] for token in golden["continuation_ids"][:-1]]
    return rows


def check_logits(row: NDArray[np.float32], recorded: list[dict[str, Any]]) -> Check:
    """Compare the logits (vocab_size,) of the first new token with the recorded ones."""
    differences = [
        abs(float(row[entry["id"]]) - entry["logit"]) if entry["id"] < row.size else math.inf for entry in recorded
    ]
    worst = float(np.max(differences))
    passed = worst <= LOGIT_TOLERANCE  # also False for NaN
    detail = f"largest difference among {len(recorded)} logits is {worst:.4f}; allowed: {LOGIT_TOLERANCE}"
    return Check("golden_logits", passed, detail)


def check_tokens(rows: list[NDArray[np.float32]], recorded: list[int]) -> Check:
    """Compare the greedy choices with the recorded ones.

    Args:
        rows: Logits (vocab_size,) before each recorded token, given the recorded tokens before it.
        recorded: Token ids.

    Returns:
        A check that passes if every choice is the recorded id or has nearly the same logit (a tie).
    """
    same = 0
    for position, (row, token) in enumerate(zip(rows, recorded, strict=True)):
        choice = int(row.argmax())
        same += choice == token
        lead = float(row[choice] - row[token]) if token < row.size else math.inf
        if not lead <= TIE_TOLERANCE:  # also if it is NaN
            detail = f"token {position + 1} of {len(recorded)} is {choice}, not {token}; its logit is {lead:.4f} larger"
            return Check("golden_tokens", False, detail)
    ties = f", {len(recorded) - same} ties" if same < len(recorded) else ""
    return Check("golden_tokens", True, f"{same} of {len(recorded)} tokens are the same{ties}")


def _check_memory(peak: int | None, engine: Engine, manifest: Manifest, device: DeviceProfile | None) -> list[Check]:
    """Check the peak with a full KV cache against the plan and the device; no checks if the peak is not known."""
    if peak is None:
        return []
    unused = engine.cache_bytes * (engine.context - engine.position) // engine.context
    filled = peak + unused
    what = f"{format_bytes(filled)} ({format_bytes(peak)} measured, {format_bytes(unused)} for the unused context)"
    plan = manifest.plan
    planned = (plan.get("engine_bytes") or {}).get(engine.name) or (plan.get("memory_bytes") or {}).get("total")
    checks = []
    if planned is not None:
        allowed = round(planned * (1 + MEMORY_TOLERANCE)) + OWN_BYTES
        checks.append(Check("memory", filled <= allowed, f"{what} of {format_bytes(planned)} planned"))
    if device is not None:
        usable = device.usable_bytes
        checks.append(Check("device_memory", filled <= usable, f"{what} of {format_bytes(usable)}"))
    return checks
