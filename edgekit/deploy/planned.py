"""What the plan in a manifest says of the engine and the device that a smoke test ran on."""

from __future__ import annotations

from typing import Any

from ..artifact.manifest import Manifest
from ..devices import DeviceProfile
from ..planning.budget import UserLimits, usable_memory
from ..planning.memory import KV_ITEM_BYTES
from .receipt import Receipt


def planned_for(plan: dict[str, Any], engine: str) -> dict[str, Any]:
    """The plan with the times and speeds of another engine, which it also has.

    Limits hold for the engine that was planned, so there are none for another one.

    Args:
        plan: The manifest's.
        engine: The engine that ran.
    """
    if plan.get("engine") in (None, engine):
        return plan
    own = _of_engine(plan, engine)
    return {**plan, "engine": engine, "budget": {}} | {name: own.get(name) for name in ("ttft_s", "decode_tok_s")}


def usable_by(plan: dict[str, Any], device: DeviceProfile) -> int:
    """Bytes that are usable on a device, without a desktop if it was planned so."""
    headless = bool(plan.get("headless")) and device.memory.usable_headless is not None
    return usable_memory(device, UserLimits(), headless)[0]


def unused_cache(receipt: Receipt, manifest: Manifest) -> int:
    """Bytes of the KV cache that the smoke test left unused; 0 where the plan does not tell the cache's size."""
    plan, golden = manifest.plan, manifest.golden or {}
    own = _of_engine(plan, receipt.engine) or plan
    planned: int | None = (own.get("memory_bytes") or {}).get("kv_cache")
    context: int | None = plan.get("context")
    was, now = KV_ITEM_BYTES.get(own.get("kv_type") or ""), KV_ITEM_BYTES.get(receipt.kv_type or "")
    if not planned or not context or not was or not now or receipt.context is None:
        return 0
    used = len(golden.get("prompt_ids") or ()) + len(golden.get("continuation_ids") or ())
    return round(planned * now / was / context * max(receipt.context - used, 0))


def _of_engine(plan: dict[str, Any], engine: str) -> dict[str, Any]:
    """What the plan says of one of the device's engines; empty if it says nothing."""
    found: dict[str, Any] = next((each for each in plan.get("engines") or [] if each.get("engine") == engine), {})
    return found
