"""Why a plan has a smaller KV cache, and what it costs."""

from __future__ import annotations

from edgekit.planning.kv_choice import INT8_KL, because_it_fits, cost
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan


def test_the_reason_names_what_the_default_would_need() -> None:
    full = plan("deepseek-r1-distill-qwen-7b", "pi", 16384, options=PlanOptions(kv_type="float16"))
    native = next(each for each in full.engines if each.engine == "native")
    tight = type(native)(**{**vars(native), "usable_bytes": native.memory.peak - 5_000_000})
    assert because_it_fits(tight).startswith("float16 would need 5.")
    assert because_it_fits(tight).endswith(" GB, 5.00 MB more than is usable")


def test_the_cost_names_every_model_it_was_measured_on() -> None:
    assert cost("float16") == cost("float32") == ""
    assert all(model in cost("int8") for model in INT8_KL)
    assert all(0 < low < high < 0.01 for low, high in INT8_KL.values())
