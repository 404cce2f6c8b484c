"""The engines side by side, and which one auto is expected to take."""

from __future__ import annotations

import math

import pytest

from edgekit.devices import load_device
from edgekit.errors import EngineError
from edgekit.planning.efficiency import Interval
from edgekit.planning.engine_choice import UNCALIBRATED_MARGIN, EnginePlan, in_order, reason
from edgekit.planning.latency import Latency
from edgekit.planning.memory import MemoryPlan
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import load_recipe

SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


def _engine(
    name: str,
    tok_s: float | None,
    *,
    weights: int = 10,
    preference: int = 1,
    calibrated: bool = True,
    cpu: bool = False,
) -> EnginePlan:
    speed = Interval(tok_s, tok_s, tok_s) if tok_s else None
    first = Interval(1.0, 1.0, 1.0) if tok_s else None
    latency = Latency(128, first, speed, speed, None, (), calibrated)
    memory = MemoryPlan(weights, 0, 0, 0, 0, 0, 0)
    return EnginePlan(name, preference, "cpu" if cpu else "gpu", "float16", memory, 100, latency)


def _names(*engines: EnginePlan) -> list[str]:
    return [each.engine for each in in_order(engines)]


def test_the_fastest_that_fits_comes_first() -> None:
    slow, fast, large = _engine("slow", 10.0), _engine("fast", 20.0), _engine("large", 30.0, weights=101)
    assert _names(slow, large, fast) == ["fast", "slow", "large"]
    assert reason(in_order([slow, fast])) == "it is expected to be the fastest that fits"
    assert reason(in_order([slow, large])) == "no other engine fits"


def test_an_engine_of_lower_preference_is_listed_last_even_if_it_is_faster() -> None:
    found = in_order([_engine("other", 99.0, preference=0), _engine("own", 1.0, cpu=True)])
    assert [each.engine for each in found] == ["own", "other"]
    assert reason(found) == "edgekit's own engine is preferred on processors"


def test_where_none_fits_the_smallest_comes_first() -> None:
    found = in_order([_engine("fast", 20.0, weights=300), _engine("small", 10.0, weights=200)])
    assert [each.engine for each in found] == ["small", "fast"]
    assert reason(found) == "no engine fits, and it needs the least memory"


def test_an_uncalibrated_speed_has_to_be_clearly_higher() -> None:
    known = _engine("known", 10.0)
    barely, clearly = (_engine("guess", 10.0 * UNCALIBRATED_MARGIN * x, calibrated=False) for x in (0.9, 1.3))
    assert _names(barely, known) == ["known", "guess"]
    assert _names(known, clearly) == ["guess", "known"]


def test_an_unknown_speed_comes_after_known_ones() -> None:
    unknown = _engine("unknown", None)
    assert math.isinf(unknown.turn_s)
    assert _names(unknown, _engine("known", 0.1)) == ["known", "unknown"]
    assert reason(in_order([unknown, _engine("too", None)])) == "no speed is known"
    assert reason([unknown]) == "no other engine runs there"


@pytest.mark.parametrize(
    ("device", "engines"),
    [
        ("jetson", ["webgpu", "native", "cuda", "ort"]),
        ("rtx-3060", ["cuda", "webgpu", "native", "ort"]),
        ("pi", ["native", "ort"]),
        ("phone", ["native", "ort"]),
    ],
)
def test_a_plan_lists_the_devices_engines(device: str, engines: list[str]) -> None:
    planned = plan(MIDDLE, load_device(device))
    assert [each.engine for each in planned.engines] == engines
    assert planned.engine == engines[0]
    first = planned.engines[0]
    assert (first.memory, first.latency, first.kv_type) == (planned.memory, planned.latency, planned.kv_type)


def test_the_engine_that_fits_is_taken() -> None:
    planned = plan(LARGE, load_device("jetson"))
    assert (planned.engine, planned.fits) == ("native", True)
    assert planned.engine_because == "no other preferred engine fits"
    assert [each.engine for each in planned.engines if each.fits] == ["native", "ort"]
    assert plan(LARGE, load_device("jetson"), options=PlanOptions(headless=True)).engine == "webgpu"


def test_a_requested_engine_is_planned_beside_the_others() -> None:
    planned = plan(SMALL, load_device("jetson"), options=PlanOptions("cuda"))
    assert (planned.engine, planned.engine_because) == ("cuda", "it was requested")
    assert {each.engine for each in planned.engines} == {"cuda", "native", "ort", "webgpu"}


@pytest.mark.parametrize(
    ("device", "engine"), [("pi", "webgpu"), ("pi", "cuda"), ("iphone-15-pro", "cuda"), ("phone", "webgpu")]
)
def test_an_engine_that_cannot_run_on_the_device_is_refused(device: str, engine: str) -> None:
    with pytest.raises(EngineError, match=rf"the engine {engine} cannot run on .*; allowed: native, ort"):
        plan(SMALL, load_device(device), options=PlanOptions(engine))


def test_a_cache_that_only_one_engine_has_chooses_it() -> None:
    planned = plan(MIDDLE, load_device("jetson"), options=PlanOptions(kv_type="int8"))
    assert [each.engine for each in planned.engines] == ["native"]


def test_the_json_of_an_engine() -> None:
    shown = plan(MIDDLE, load_device("jetson")).to_json()
    webgpu, native, *_ = shown["engines"]
    assert (webgpu["engine"], webgpu["processor"], webgpu["calibrated"]) == ("webgpu", "shared-gpu", False)
    assert "libvulkan1" in webgpu["needs"]
    assert webgpu["memory_bytes"] == shown["memory_bytes"]
    assert {part["when"] for part in webgpu["held_twice"]} == {"loading"}
    assert native["held_twice"] == []
    assert native["decode_tok_s"]["low"] < native["decode_tok_s"]["mid"]
    assert shown["engine_because"] == "it is expected to be the fastest that fits, of those that pip installs"
