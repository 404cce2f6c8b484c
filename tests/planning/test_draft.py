"""One plan, without alternatives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.devices import DeviceProfile, Sourced, load_device
from edgekit.devices.profile import Bytes, Memory
from edgekit.errors import ContextLengthError, EngineError, RecipeError, UnknownNameError, UnsupportedModelError
from edgekit.planning.draft import draft, memory_by_engine, with_artifact
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import Recipe, load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationScheme

SMALL, MIDDLE, LARGE = (load_recipe(f"{name}") for name in (
    "smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b"
))  # fmt: skip


def _device(usable_bytes: int, name: str = "laptop") -> DeviceProfile:
    """The laptop with another amount of memory."""
    size = Sourced(Bytes(usable_bytes), "made up")
    return replace(load_device(name), memory=Memory(total=size, usable=size))


def test_quantization_replaces_the_recipes() -> None:
    device = load_device("laptop")
    scheme = QuantizationScheme(4, 128, True)
    smaller = plan(MIDDLE, device, quantization=QuantizationConfig(scheme, scheme, scheme))
    assert smaller.memory.weights < plan(MIDDLE, device).memory.weights
    assert smaller.quantization.lm_head == scheme


def test_the_accelerators_libraries_count() -> None:
    jetson, laptop = load_device("jetson"), load_device("laptop")
    assert jetson.accelerator is not None
    assert jetson.accelerator.runtime is not None
    cuda, ort = PlanOptions("cuda"), PlanOptions("ort")
    extra = plan(SMALL, jetson, options=cuda).memory.runtime - plan(SMALL, laptop, options=ort).memory.runtime
    assert extra == jetson.accelerator.runtime.value


def test_a_matrix_with_its_own_format_is_planned_with_it() -> None:
    eight = {"model.layers.0.mlp.down_proj": QuantizationScheme(8, 32, True)}
    mixed = replace(SMALL, quantization=replace(SMALL.quantization, matrices=eight))
    more = plan(mixed, _device(10**12)).memory.weights - plan(SMALL, _device(10**12)).memory.weights
    codes, zeros = 576 * 1536 // 2, 576 * 1536 // 32 // 2  # four more bits a weight, no zero points
    assert abs(more - (codes - zeros)) < 2 * 4096, "but for alignment"


def test_the_671b_is_planned_from_its_stated_parameters() -> None:
    planned = plan(load_recipe("deepseek-r1-671b"), load_device("jetson"))
    assert planned.memory.weights == 671_026_419_200 * 9 // 16
    assert planned.memory.weight_groups is None
    assert "experts" in planned.plan_only
    assert planned.to_json()["plan_only"] == planned.plan_only


def _changed(**changes: object) -> Recipe:
    return replace(SMALL, config={**SMALL.config, **changes})


def test_a_recipe_whose_shapes_make_no_sense_is_named() -> None:
    device = load_device("laptop")
    with pytest.raises(RecipeError, match=r"recipe smollm2-135m: \[config\]: hidden_size is 'wide'"):
        plan(_changed(hidden_size="wide"), device)
    with pytest.raises(UnsupportedModelError, match="recipe smollm2-135m: model_type 'bert' is not supported"):
        plan(_changed(model_type="bert"), device)
    config = {"model_type": "x", "max_position_embeddings": 8192}
    with pytest.raises(RecipeError, match=r"recipe smollm2-135m: \[config\] lacks num_attention_heads"):
        plan(replace(SMALL, plan_only="because", config=config), device)


def test_dynamic_scaling_does_not_reach_beyond_the_original_context() -> None:
    device, scaling = load_device("laptop"), {"rope_type": "dynamic", "factor": 2.0}
    assert plan(_changed(rope_scaling=scaling), device).context == 4096
    dynamic = _changed(rope_scaling={**scaling, "original_max_position_embeddings": 4096})
    with pytest.raises(
        RecipeError, match=r"max_context is 8192, but with dynamic .* the original context of 4096 tokens"
    ):
        plan(dynamic, device)
    assert plan(replace(dynamic, max_context=4096), device).context == 4096


def test_an_artifacts_own_sizes_replace_the_planned_ones() -> None:
    for engine, more_at_peak in (("native", 0), ("ort", 1000)):
        planned = plan(SMALL, load_device("laptop"), options=PlanOptions(engine))
        found = with_artifact(planned, planned.memory.file_bytes + 1000, tokenizer_file_bytes=2_000_000)
        assert found.memory.weights == planned.memory.weights + 1000
        assert found.memory.tokenizer == 26_000_000, "13 bytes for each of the file"
        grown = found.memory.tokenizer - planned.memory.tokenizer
        assert found.memory.load_peak == planned.memory.load_peak + grown + more_at_peak
        assert found.memory.file_bytes == planned.memory.file_bytes + 1000


def test_every_engines_memory_counts_the_tokenizer_that_was_built() -> None:
    device = load_device("laptop")
    planned = with_artifact(plan(SMALL, device), 10**8, tokenizer_file_bytes=2_000_000)
    found = memory_by_engine(SMALL, device, planned)
    assert list(found) == ["native", "ort"]
    assert found["native"] == planned.memory.peak
    other = plan(SMALL, device, options=PlanOptions("ort")).memory
    assert found["ort"] == other.peak + 26_000_000 - other.tokenizer


@pytest.mark.parametrize(
    ("engine", "kv_type", "allowed"), [("native", "float32", "float16, int8"), ("ort", "int8", "float32")]
)
def test_a_cache_that_the_engine_does_not_have_is_refused(engine: str, kv_type: str, allowed: str) -> None:
    message = f"the engine {engine} does not support a KV cache in {kv_type}; allowed: {allowed}"
    with pytest.raises(UnknownNameError, match=message):
        plan(SMALL, load_device("laptop"), options=PlanOptions(engine, kv_type))


def test_a_device_that_no_engine_runs_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.planning.draft.engines_for", lambda device: ())
    with pytest.raises(EngineError, match="no engine runs on laptop-16gb"):
        plan(SMALL, load_device("laptop"))


def test_shapes_of_a_family_that_can_only_be_planned_are_checked() -> None:
    config = {"model_type": "x", "max_position_embeddings": 8192, "num_attention_heads": 4, "v_head_dim": "wide"}
    with pytest.raises(RecipeError, match=r"recipe smollm2-135m: \[config\]: v_head_dim is 'wide'; it must be a whole"):
        plan(replace(SMALL, plan_only="because", config=config), load_device("laptop"))


@pytest.mark.parametrize("prompt_tokens", [51, 100, 128, 129])
def test_a_requested_prompt_is_never_shortened(prompt_tokens: int) -> None:
    device = load_device("jetson")
    assert draft(SMALL, device, 50).latency.prompt_tokens == 50, "the default is"
    assert draft(SMALL, device, 50, options=PlanOptions(prompt_tokens=50)).latency.prompt_tokens == 50
    with pytest.raises(ContextLengthError, match=f"a prompt of {prompt_tokens} tokens was requested, .* of 50 tokens"):
        draft(SMALL, device, 50, options=PlanOptions(prompt_tokens=prompt_tokens))


@pytest.mark.parametrize(("parameters", "allowed"), [(5, False), (SMALL.parameters * 9, False), (140_000_000, True)])
def test_the_stated_parameters_are_those_of_the_shapes(parameters: int, allowed: bool) -> None:
    recipe, device = replace(SMALL, parameters=parameters), load_device("pi")
    if allowed:
        assert draft(recipe, device).fits
        return
    with pytest.raises(RecipeError, match=f"parameters is {parameters}, but the shapes in .* have 134515008"):
        draft(recipe, device)
