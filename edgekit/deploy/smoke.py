"""The smoke test: does an artifact behave on this machine as it did when it was built? The result is a receipt.

The checks run in this order. If ``files`` or ``load`` fails, the test ends there:

    files           every file matches the manifest (``artifact/verify.py``)
    load            the engine loads the artifact and computes logits
    golden_logits   the largest logits of the first new token match the recorded ones
    golden_tokens   the greedy continuation matches the recorded one (``runtime/replay.py``)
    gpu_proof       an engine on a GPU computes as the processor does (``runtime/proof/``)
    memory          the peak memory with a full KV cache stays within the build's plan for this engine
    device_memory   the same, within the usable memory of a given device
    ttft, decode, load_time   measured times against the plan for this engine, on the plan's device alone
                    (``speed_checks.py``)
    placement       no part of the model runs as a slow fallback (``inspection/placement.py``)
    sustained       whether the speed holds, if that is asked for
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any

from ..arguments import check_truth
from ..artifact.manifest import FILE_NAME, Manifest, read_manifest
from ..artifact.verify import verify
from ..devices import DeviceProfile, load_device
from ..errors import EngineError, NativeLibraryError, UsageError, VerificationError
from ..hashing import sha256_file
from ..host import peak_rss_bytes
from ..inspection.placement import slow_fallbacks
from ..planning.budget import UserLimits, usable_memory
from ..probe.bench import time_round
from ..progress import Progress, no_progress
from ..runtime.accelerated import AcceleratedEngine
from ..runtime.engine import Engine, EngineOptions, open_engine
from ..runtime.replay import check_logits, check_tokens, golden_context, golden_of, replay
from ..units import format_bytes
from .contradictions import find_contradictions
from .machine import describe_machine
from .planned import planned_for
from .receipt import FAIL, PASS, WARN, Check, Predicted, Receipt, edgekit_version
from .speed_checks import check_decode, check_load_time, check_sustained, check_ttft, measure_prompt, measure_sustained

MAX_SUSTAIN_S = 3600
# The planner's memory is accurate to 10 % (tests/planning/test_measured_memory.py). This test's process, which hashes
# files and keeps logits, needs about 25 MB more than an application.
MEMORY_TOLERANCE = 0.10
OWN_BYTES = 32_000_000


def smoke(
    artifact: str | PathLike[str],
    *,
    engine: str = "auto",
    threads: int | None = None,
    device: str | Path | DeviceProfile | None = None,
    headless: bool = False,
    sustain_s: float | None = None,
    progress: Progress = no_progress,
) -> Receipt:
    """Run the smoke test. A failed check is recorded in the receipt and raises nothing.

    Args:
        artifact: The artifact's folder.
        engine: The engine's name, or ``auto``.
        threads: Number of threads, or None for one per physical core.
        device: A device profile, its name, alias or file: what this machine is said to be. If given, the peak memory
            is checked against the device's usable memory, the times against the plan if it is for this device, and
            the machine against the profile.
        headless: Whether that device boots without a desktop.
        sustain_s: Decode for this many seconds more, to see whether heat slows the machine down.
        progress: As for :func:`~edgekit.artifact.verify.verify`.

    Raises:
        ArtifactError: The folder is not an artifact, or it has no golden test.
        UnknownNameError: There is no such engine or device.
        UsageError: ``headless`` without a device, or of one whose profile does not say what that leaves;
            ``sustain_s`` is out of range.
    """
    folder = Path(artifact)
    check_truth("headless", headless, error=UsageError)
    if headless and device is None:
        raise UsageError("headless was requested without a device", hint="name the device with --device")
    if sustain_s is not None and not 0 < sustain_s <= MAX_SUSTAIN_S:
        raise UsageError(f"sustain is {sustain_s:g} s; it must be above 0 and at most {MAX_SUSTAIN_S}")
    profile = None if device is None else load_device(device)
    usable = None if profile is None else usable_memory(profile, UserLimits(), headless)[0]
    manifest = read_manifest(folder)
    golden = golden_of(folder, manifest)
    receipt = _new_receipt(folder, manifest, profile)
    try:
        verify(folder, progress)
    except VerificationError as error:
        return receipt.with_checks(Check("files", FAIL, error.message))
    size = sum(entry["size_bytes"] for entry in manifest.files.values())
    receipt = receipt.with_checks(Check("files", PASS, f"{len(manifest.files)} files, {format_bytes(size)}"))
    started = time.perf_counter()
    try:
        options = EngineOptions(context=golden_context(manifest, golden), threads=threads)
        opened = open_engine(folder, manifest, options, engine)
    except (EngineError, NativeLibraryError) as error:
        return replace(receipt, engine=engine).with_checks(Check("load", FAIL, error.message))
    receipt = replace(receipt, engine=opened.name, kernel=opened.kernel, load_s=time.perf_counter() - started)
    is_plans_device = profile is not None and profile.name == manifest.plan.get("device")
    try:
        measured = _measure(receipt, opened, manifest, golden, usable)
        if is_plans_device and manifest.plan.get("prompt_tokens"):
            prompt = measure_prompt(opened, golden["prompt_ids"], manifest.plan["prompt_tokens"])
            measured = replace(measured, prompt=prompt)
        if sustain_s is not None:
            measured = replace(measured, sustained=measure_sustained(opened, golden["prompt_ids"], sustain_s))
    except EngineError as error:
        return replace(receipt, load_s=None).with_checks(Check("load", FAIL, error.message))
    finally:
        opened.close()
    if is_plans_device:
        measured = measured.with_checks(*_check_speed(measured, planned_for(manifest.plan, opened.name)))
    measured = measured.with_checks(*_check_placement(folder, manifest, opened.name))  # may open the artifact again
    if measured.sustained is not None:
        measured = measured.with_checks(check_sustained(measured.sustained))
    measured = replace(measured, host=describe_machine())  # after the work
    return measured if profile is None else replace(measured, contradictions=find_contradictions(measured, profile))


def _new_receipt(folder: Path, manifest: Manifest, profile: DeviceProfile | None) -> Receipt:
    now = datetime.now(timezone.utc)
    return Receipt(
        program="edgekit",
        edgekit_version=edgekit_version(),
        created=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        artifact=manifest.name,
        manifest_sha256=sha256_file(folder / FILE_NAME),
        host=describe_machine(),
        device=None if profile is None else profile.name,
    )


def _measure(
    receipt: Receipt, opened: Engine, manifest: Manifest, golden: dict[str, Any], usable: int | None
) -> Receipt:
    """Replay the golden test and measure; the receipt gets the checks of the answer and memory, and the figures."""
    rows = replay(opened, golden)
    ttft_s, decode_s = time_round(opened, golden["prompt_ids"], len(golden["continuation_ids"]))
    answered = (check_logits(rows[0], golden["top_logits"]), check_tokens(rows, golden["continuation_ids"]))
    peak = peak_rss_bytes()
    return replace(
        receipt,
        threads=opened.threads,
        context=opened.context,
        kv_type=opened.kv_type,
        ttft_s=ttft_s,
        decode_tok_s=len(golden["continuation_ids"]) / decode_s,
        peak_rss_bytes=peak,
        predicted=_predicted(manifest, opened),
    ).with_checks(
        Check("load", PASS, f"{opened.kernel}, {opened.threads} threads, {receipt.load_s:.2f} s"),
        *(Check(check.name, PASS if check.passed else FAIL, check.detail) for check in answered),
        *_check_proof(opened),
        *_check_memory(peak, opened, manifest, usable),
    )


def _check_speed(receipt: Receipt, plan: dict[str, Any]) -> list[Check]:
    checks = [] if receipt.prompt is None else check_ttft(receipt.prompt, plan)
    checks += [] if receipt.decode_tok_s is None else check_decode(receipt.decode_tok_s, plan)
    return checks + ([] if receipt.load_s is None else check_load_time(receipt.load_s, plan))


def _check_placement(folder: Path, manifest: Manifest, engine: str) -> list[Check]:
    """Warn of slow fallbacks."""
    try:
        found = slow_fallbacks(folder, manifest, engine)
    except EngineError as error:
        return [Check("placement", WARN, f"unknown: {error.message}")]
    return [Check("placement", WARN, text) for text in found] or [
        Check("placement", PASS, "every node has a fast kernel")
    ]


def _check_proof(engine: Engine) -> list[Check]:
    """The verdict on an engine on a GPU; one that fails its proof is not loaded at all."""
    if not isinstance(engine, AcceleratedEngine):
        return []
    subject = engine.verdict.subject
    return [Check("gpu_proof", PASS, f"{subject.adapter}, driver {subject.driver}: {engine.verdict.detail}")]


def _predicted(manifest: Manifest, engine: Engine) -> Predicted | None:
    """The plan's decode speed with this engine; None if the plan has none."""
    interval = planned_for(manifest.plan, engine.name).get("decode_tok_s")
    if not interval:
        return None
    return Predicted(manifest.plan.get("device"), interval["low"], interval["mid"], interval["high"])


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
    if isinstance(engine, AcceleratedEngine) and engine.proven_now:
        return [Check("memory", WARN, "unknown: the peak is that of the proof; run the test again")]
    unused = engine.cache_bytes * (engine.context - engine.position) // engine.context
    filled = peak + unused
    what = f"{format_bytes(filled)} ({format_bytes(peak)} measured, {format_bytes(unused)} for the unused context)"
    plan = manifest.plan
    planned = (plan.get("engine_bytes") or {}).get(engine.name)
    if planned is None and engine.on_processor:
        planned = (plan.get("memory_bytes") or {}).get("total")
    checks = []
    if planned is not None:
        allowed = round(planned * (1 + MEMORY_TOLERANCE)) + OWN_BYTES
        checks.append(
            Check("memory", PASS if filled <= allowed else FAIL, f"{what} of {format_bytes(planned)} planned")
        )
    if usable is not None:
        checks.append(Check("device_memory", PASS if filled <= usable else FAIL, f"{what} of {format_bytes(usable)}"))
    return checks
