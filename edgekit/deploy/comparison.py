"""A receipt that came home from a device: completed with what the plan and the profile know, and compared with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..artifact.manifest import Manifest
from ..devices import DeviceProfile
from ..units import format_bytes, format_rate, format_seconds
from .contradictions import find_contradictions
from .planned import planned_for, unused_cache, usable_by
from .receipt import FAIL, PASS, Check, Predicted, Receipt
from .speed_checks import check_decode, check_load_time, check_sustained, check_ttft


@dataclass(frozen=True)
class Row:
    """A figure: what was planned and what was measured, as text with units; empty if unknown."""

    figure: str
    planned: str
    measured: str


def _interval(found: dict[str, float] | None, show: Callable[[float], str]) -> str:
    return f"{show(found['mid'])} ({show(found['low'])} to {show(found['high'])})" if found else ""


def complete_receipt(receipt: Receipt, manifest: Manifest, device: DeviceProfile) -> Receipt:
    """Add the checks that ``edgekit-run`` has left out, the plan's speed, and the contradictions.

    Args:
        receipt: As the device wrote it.
        manifest: The artifact's, with the plan.
        device: What the machine was said to be.
    """
    plan, done = planned_for(manifest.plan, receipt.engine), {check.name for check in receipt.checks}
    checks: list[Check] = []
    if receipt.peak_rss_bytes is not None:
        usable, unused = usable_by(plan, device), unused_cache(receipt, manifest)
        filled = receipt.peak_rss_bytes + unused
        parts = f"{format_bytes(receipt.peak_rss_bytes)} measured, {format_bytes(unused)} for the unused context"
        detail = f"{format_bytes(filled)} ({parts}) of {format_bytes(usable)}"
        checks.append(Check("device_memory", PASS if filled <= usable else FAIL, detail))
    if plan.get("device") == device.name:
        checks += [] if receipt.prompt is None else check_ttft(receipt.prompt, plan)
        checks += [] if receipt.decode_tok_s is None else check_decode(receipt.decode_tok_s, plan)
        checks += [] if receipt.load_s is None else check_load_time(receipt.load_s, plan)
    checks += [] if receipt.sustained is None else [check_sustained(receipt.sustained)]
    predicted = receipt.predicted
    speed = plan.get("decode_tok_s")
    if predicted is None and speed:
        predicted = Predicted(plan.get("device"), speed["low"], speed["mid"], speed["high"])
    found = replace(receipt, device=device.name, predicted=predicted)
    found = found.with_checks(*(check for check in checks if check.name not in done))
    return replace(found, contradictions=find_contradictions(found, device))


def compare_with_plan(receipt: Receipt, manifest: Manifest) -> list[Row]:
    """The figures of a receipt beside those of the plan for the engine that ran."""
    plan = planned_for(manifest.plan, receipt.engine)
    ttft, decode = plan.get("ttft_s"), plan.get("decode_tok_s")
    memory = (plan.get("engine_bytes") or {}).get(receipt.engine) or (plan.get("memory_bytes") or {}).get("total")
    load = plan.get("load_s") or {}
    prompt = receipt.prompt
    rows = [
        Row(
            f"first token of {prompt.tokens} tokens" if prompt else "first token",
            _interval(ttft, format_seconds),
            format_seconds(prompt.ttft_s) if prompt else "",
        ),
        Row(
            "decode",
            _interval(decode, lambda value: format_rate(value, "tok")),
            "" if receipt.decode_tok_s is None else format_rate(receipt.decode_tok_s, "tok"),
        ),
        Row(
            "memory",
            "" if memory is None else f"{format_bytes(memory)} with a full context",
            "" if receipt.peak_rss_bytes is None else f"{format_bytes(receipt.peak_rss_bytes)} peak",
        ),
        Row(
            "load",
            ", ".join(f"{format_seconds(seconds)} from {name}" for name, seconds in load.items()),
            "" if receipt.load_s is None else format_seconds(receipt.load_s),
        ),
    ]
    return [row for row in rows if row.planned or row.measured]
