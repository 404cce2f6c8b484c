"""What a plan says of the engine that ran, which may be another one than it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import PLAN, quantized_artifact
from receipts import receipt
from tiny_artifact import rewrite_manifest

from edgekit.artifact.manifest import Manifest, read_manifest
from edgekit.deploy.planned import planned_for, unused_cache, usable_by
from edgekit.devices import load_device
from edgekit.errors import BuildError

JETSON = load_device("jetson")
NATIVE = {"low": 12.0, "mid": 17.0, "high": 25.0}
MEMORY = {"kv_cache": 120_000_000, "total": 1_000_000_000}
TWO = {
    **PLAN,
    "engine": "webgpu",
    "budget": {"decode_tok_s": {"asked": True, "value": 25.0, "verdict": "met"}},
    "engines": [
        {"engine": "webgpu", "decode_tok_s": PLAN["decode_tok_s"], "kv_type": "float16", "memory_bytes": {}},
        {"engine": "native", "decode_tok_s": NATIVE, "kv_type": "float16", "memory_bytes": MEMORY},
    ],
}  # fmt: skip


def manifest(tmp_path: Path, plan: dict[str, Any]) -> Manifest:
    rewrite_manifest(quantized_artifact(tmp_path / "tiny"), plan=plan)
    return read_manifest(tmp_path / "tiny")


def test_another_engine_has_its_own_speed_and_no_limits() -> None:
    assert planned_for(TWO, "webgpu") is TWO
    own = planned_for(TWO, "native")
    assert (own["engine"], own["decode_tok_s"], own["ttft_s"], own["budget"]) == ("native", NATIVE, None, {})
    assert own["device"] == TWO["device"]
    assert planned_for(TWO, "ort")["decode_tok_s"] is None
    assert planned_for({}, "native") == {}


def test_without_a_desktop_more_is_usable() -> None:
    assert usable_by(PLAN, JETSON) == JETSON.usable_bytes
    assert JETSON.memory.usable_headless is not None
    assert usable_by({**PLAN, "headless": True}, JETSON) == JETSON.memory.usable_headless.value
    pi = load_device("phone")
    assert usable_by({**PLAN, "headless": True}, pi) == pi.usable_bytes


def test_the_cache_that_was_not_used(tmp_path: Path) -> None:
    found = manifest(tmp_path, TWO)
    golden = found.golden or {}
    used = len(golden["prompt_ids"]) + len(golden["continuation_ids"])
    written = receipt(context=640, kv_type="float16")
    each = MEMORY["kv_cache"] / 640
    assert unused_cache(written, found) == pytest.approx(each * (640 - used), abs=1)
    assert unused_cache(replace(written, kv_type="int8"), found) == pytest.approx(each / 2 * (640 - used), abs=1)
    assert unused_cache(replace(written, context=320), found) == pytest.approx(each * (320 - used), abs=1)
    for unknown in (replace(written, context=None), replace(written, kv_type=None), replace(written, engine="ort")):
        assert unused_cache(unknown, found) == 0


@pytest.mark.parametrize("engines", [5, [5], [{"engine": 1}], [{"engine": "native", "decode_tok_s": 5}]])
def test_engines_of_another_form_are_refused(tmp_path: Path, engines: object) -> None:
    with pytest.raises(BuildError, match="engines"):
        manifest(tmp_path, {**TWO, "engines": engines})
