"""The smoke test: does an artifact behave on this machine as it did when it was built? The result is a receipt.

The checks run in this order. If ``files`` or ``load`` fails, the test ends there:

    files           every file matches the manifest (``artifact/verify.py``)
    load            the engine loads the artifact and computes logits
    golden_logits   the largest logits of the first new token match the recorded ones
    golden_tokens   the greedy continuation matches the recorded one (``quality/replay.py``)
    memory          the peak memory with a full KV cache stays within the build's plan for this engine
    device_memory   the same, within the usable memory of a given device
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest, read_manifest
from ..artifact.verify import verify
from ..devices import DeviceProfile, load_device
from ..errors import ArtifactError, EngineError, NativeLibraryError, UsageError, VerificationError
from ..host import peak_rss_bytes
from ..json_text import finite_json, json_text
from ..planning.budget import UserLimits, usable_memory
from ..probe.bench import time_round
from ..progress import Progress, no_progress
from ..quality.replay import Check, check_logits, check_tokens, golden_of, replay
from ..runtime.engine import Engine, EngineOptions, open_engine
from ..units import format_bytes

# The planner's memory is accurate to 10 % (tests/planning/test_measured_memory.py). This test's process, which hashes
# files and keeps logits, needs about 25 MB more than an application.
MEMORY_TOLERANCE = 0.10
OWN_BYTES = 32_000_000


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
            path.write_text(json_text(finite_json(self.to_json()), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ArtifactError(f"cannot write the receipt {path}: {error.strerror}") from None


def smoke(
    artifact: str | PathLike[str],
    *,
    engine: str = "auto",
    threads: int | None = None,
    device: str | Path | DeviceProfile | None = None,
    headless: bool = False,
    progress: Progress = no_progress,
) -> Receipt:
    """Run the smoke test. A failed check is recorded in the receipt and raises nothing.

    Args:
        artifact: The artifact's folder.
        engine: The engine's name, or ``auto``.
        threads: Number of threads, or None for one per physical core.
        device: A device profile, its name, alias or file. If given, the peak memory is also checked against the
            device's usable memory.
        headless: Whether that device boots without a desktop.
        progress: As for :func:`~edgekit.artifact.verify.verify`.

    Raises:
        ArtifactError: The folder is not an artifact, or it has no golden test.
        UnknownNameError: There is no such engine or device.
        UsageError: ``headless`` without a device, or of one whose profile does not say what that leaves.
    """
    folder = Path(artifact)
    if headless and device is None:
        raise UsageError("headless was requested without a device", hint="name the device with --device")
    usable = None if device is None else usable_memory(load_device(device), UserLimits(), headless)[0]
    manifest = read_manifest(folder)
    golden = golden_of(folder, manifest)
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
        rows = replay(opened, golden)
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
        *_check_memory(peak, opened, manifest, usable),
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


def _check_memory(peak: int | None, engine: Engine, manifest: Manifest, usable: int | None) -> list[Check]:
    """Check the peak with a full KV cache against the plan and the device; no checks if the peak is not known.

    Args:
        peak: Bytes; None if unknown.
        engine: The engine that ran.
        manifest: The artifact's.
        usable: The device's usable bytes; None if no device was named.
    """
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
    if usable is not None:
        checks.append(Check("device_memory", filled <= usable, f"{what} of {format_bytes(usable)}"))
    return checks
