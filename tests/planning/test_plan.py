"""A plan's options and its JSON."""

from __future__ import annotations

from edgekit.devices import load_device
from edgekit.planning.planner import plan_recipe
from edgekit.recipes import load_recipe

SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


def test_the_json_contract() -> None:
    shown = plan_recipe(SMALL, load_device("laptop"), context=1024).to_json()
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
