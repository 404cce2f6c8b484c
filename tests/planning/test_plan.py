"""A plan's options and its JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import load_device
from edgekit.errors import UnknownNameError
from edgekit.planning.budget import Limit
from edgekit.planning.efficiency import Interval
from edgekit.planning.plan import Offer, PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import load_recipe

SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


def test_the_json_contract() -> None:
    shown = plan(SMALL, load_device("laptop"), context=1024).to_json()
    assert shown["model"] == "smollm2-135m"
    assert shown["device"] == "laptop-16gb"
    assert shown["context"] == 1024
    assert shown["fits"] is True
    assert {"weights", "kv_cache", "activations", "runtime", "total"} <= set(shown["memory_bytes"])
    assert shown["memory_bytes"]["total"] == sum(v for k, v in shown["memory_bytes"].items() if k != "total")
    assert shown["usable_bytes"] == 11_000_000_000
    for key in ("ttft_s", "decode_tok_s", "decode_full_tok_s"):
        assert 0 < shown[key]["low"] < shown[key]["mid"] < shown[key]["high"]
    assert shown["decode_full_tok_s"]["mid"] < shown["decode_tok_s"]["mid"]
    assert shown["calibrated"] is True
    assert shown["budget"]["decode_tok_s"]["verdict"] == "met"
    assert shown["offers"] == []


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="prompt_tokens is 0; it must be a whole number of at least 1"):
        PlanOptions(prompt_tokens=0)
    with pytest.raises(UnknownNameError, match="there is no engine 'onnx'"):
        PlanOptions("onnx")


def test_a_plan_that_only_fits_while_running_does_not_fit() -> None:
    planned = plan(SMALL, load_device("laptop"))
    heavy = replace(planned, memory=replace(planned.memory, loading=planned.usable_bytes + 1))
    assert planned.fits
    assert not heavy.fits
    assert not heavy.acceptable


def test_only_the_users_limits_refuse_a_plan() -> None:
    planned = plan(SMALL, load_device("laptop"))
    missed = Limit("ttft_s", 1.0, asked=True, predicted=Interval(2.0, 3.0, 4.0))
    assert not replace(planned, limits=(missed,)).acceptable
    assert replace(planned, limits=(replace(missed, asked=False),)).acceptable


def test_an_offer_as_json() -> None:
    offer = Offer("kv", "half the cache", "m", 10, 20, ("--kv-type", "int8"))
    assert offer.to_json() == {
        "kind": "kv",
        "sentence": "half the cache",
        "model": "m",
        "context": 10,
        "total_bytes": 20,
        "options": ["--kv-type", "int8"],
    }
