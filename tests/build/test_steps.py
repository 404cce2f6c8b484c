"""The steps of a build, each by itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_models import SharedModels
from tiny_checkpoint import write_checkpoint
from tiny_gptq import TinyGptq

from edgekit.artifact.manifest import Manifest, read_manifest
from edgekit.build import steps
from edgekit.build.conversation import plan_conversation
from edgekit.build.inputs import recipe_from_checkpoint
from edgekit.build.request import BuildRequest
from edgekit.build.steps import Job
from edgekit.checkpoint import open_checkpoint
from edgekit.devices import load_device
from edgekit.errors import (
    BuildError,
    CalibrationError,
    DiskFullError,
    InterruptedBuildError,
    QualityError,
    UnsupportedModelError,
)
from edgekit.layout import plan_layout
from edgekit.models import spec_from_config
from edgekit.models.spec import untied
from edgekit.planning.draft import draft
from edgekit.planning.plan import Plan
from edgekit.progress import no_progress
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.weights.carried import CarriedWeights
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.rotated import RotatedWeights
from edgekit.weights.scaled import ScaledWeights

FOUR, EIGHT = QuantizationScheme(4, 32, True), QuantizationScheme(8, 32, True)
INT8 = QuantizationConfig(EIGHT, EIGHT, EIGHT)
INT4 = QuantizationConfig(FOUR, FOUR, FOUR)


@contextmanager
def job(checkpoint: Path, folder: Path, *, device: str = "cpu", rotate: bool = False, **request: Any) -> Iterator[Job]:
    """A job that builds a checkpoint without a recipe into ``folder``."""
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        folder.mkdir(exist_ok=True)
        asked = BuildRequest(checkpoint=checkpoint, device=device, **request)
        recipe = recipe_from_checkpoint(opened, checkpoint)
        yield Job(
            request=asked, recipe=recipe, conversation=plan_conversation(asked, recipe, opened),
            device=load_device(device), checkpoint=opened, spec=spec,
            written=untied(spec) if rotate else spec, target=folder.with_name("out"), folder=folder, threads=1,
            progress=no_progress,
        )  # fmt: skip


def planned(made: Job, context: int | None = None) -> Plan:
    return draft(made.recipe, made.device, context)


# Job


def test_facts_are_known_before_the_artifact_is_finished(models: SharedModels, tmp_path: Path) -> None:
    with job(models.checkpoint("qwen2"), tmp_path / "work", device="jetson") as made:
        plan = planned(made, context=100)
        facts = made.facts(INT4, plan)
    assert facts.plan == {"context": 100, "engine": "native", "kv_type": "float16"}
    assert facts.model == {
        "model_type": "qwen2", "parameters": made.spec.parameters, "vocab_size": made.spec.vocab_size, "num_layers": 2,
        "context_length": made.max_context(plan),
        "rope": {"type": "default", "theta": 10000.0, "attention_factor": 1.0},
    }  # fmt: skip
    assert facts.activation_type == "float16"
    assert facts.tokens == {"bos": 0, "eos": [1], "pad": 1, "add_bos": False}
    assert facts.quantized
    assert json.loads(json.dumps(facts.facts_json())) == facts.facts_json()


def test_the_graph_holds_the_recipes_context_or_the_planned_one(models: SharedModels, tmp_path: Path) -> None:
    with job(models.checkpoint(), tmp_path / "work") as made:
        plan = planned(made)
        longest = made.recipe.max_context
        for context, expected in ((longest - 1, longest), (longest + 1, longest + 1)):
            assert made.max_context(dataclasses.replace(plan, context=context)) == expected


def test_files_for_a_later_build_are_beside_the_target(models: SharedModels, tmp_path: Path) -> None:
    with job(models.checkpoint(), tmp_path / "work") as made:
        assert made.resume_path("widths") == tmp_path / ".out.widths"


# Hashes and files that survive an interruption


def test_hashes_are_made_in_the_background(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"abc")
    with steps.background_hashes({"b": tmp_path / "b", "a": tmp_path / "a"}) as hashes:
        found = hashes()
        assert hashes() is found
    assert {name: entry["size_bytes"] for name, entry in found.items()} == {"a": 0, "b": 3}
    assert found["b"]["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_failed_build_does_not_wait_for_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing that would never end by itself ends with the build."""

    def endless(files: dict[str, Path], progress: Callable[[int, int], None]) -> dict[str, object]:
        while True:
            progress(0, 1)

    monkeypatch.setattr(steps, "hash_named", endless)
    with pytest.raises(KeyboardInterrupt), steps.background_hashes({"a": tmp_path / "a"}):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (None, False),
        (InterruptedBuildError("interrupted"), True),
        (DiskFullError("full"), True),
        (CalibrationError("the same input fails again"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_when_a_file_is_kept_for_the_next_build(tmp_path: Path, error: BaseException | None, kept: bool) -> None:
    path = tmp_path / "widths"

    def run() -> None:
        with steps.resumable(path):
            path.write_text("losses")
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    assert path.exists() is kept
    with steps.resumable(tmp_path / "never written"):
        pass


# Small files


def test_small_files(models: SharedModels, tmp_path: Path) -> None:
    checkpoint = models.checkpoint("qwen2")
    with job(checkpoint, tmp_path / "work") as made:
        files = steps.write_small_files(made, planned(made, context=100))
    assert {p.name: p.read_bytes() for p in (tmp_path / "work").iterdir()} == files
    assert set(files) == {
        "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json",
        "genai_config.json",
    }  # fmt: skip
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert files[name] == (checkpoint / name).read_bytes()
    config = json.loads((checkpoint / "config.json").read_bytes())
    assert json.loads(files["config.json"]) == {**config, "pad_token_id": 1}
    genai = json.loads(files["genai_config.json"])
    assert (genai["search"]["max_length"], genai["model"]["context_length"]) == (100, made.recipe.max_context)
    generation = json.loads(files["generation_config.json"])
    assert (generation["bos_token_id"], generation["eos_token_id"], generation["do_sample"]) == (0, 1, True)


def test_a_rotated_models_config_has_a_separate_head(models: SharedModels, tmp_path: Path) -> None:
    for rotate in (False, True):
        with job(models.checkpoint(), tmp_path / str(rotate), rotate=rotate) as made:
            files = steps.write_small_files(made, planned(made))
        assert json.loads(files["config.json"])["tie_word_embeddings"] is not rotate


def test_an_artifacts_config_does_not_claim_to_be_a_gptq_checkpoint(tmp_path: Path) -> None:
    checkpoint = TinyGptq().write(tmp_path / "checkpoint")
    with job(checkpoint, tmp_path / "work") as made:
        files = steps.write_small_files(made, planned(made))
    assert "quantization_config" in json.loads((checkpoint / "config.json").read_bytes())
    assert "quantization_config" not in json.loads(files["config.json"])


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_an_attn_factor_is_written_out_for_other_software(tmp_path: Path, key: str) -> None:
    scaling = {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attn_factor": 0.8782488562869419,
    }  # fmt: skip
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen3", **{key: scaling})
    with job(checkpoint, tmp_path / "work") as made:
        plan = planned(made)
        facts, files = made.facts(INT4, plan), steps.write_small_files(made, plan)
    assert json.loads(files["config.json"])[key] == {**scaling, "attention_factor": 1.0}
    told = facts.model["rope"]
    assert (told["attn_factor"], told["attention_factor"]) == (0.8782488562869419, 1.0)
    assert told["transformers_attention_factor"] == pytest.approx(1.138629436111989)
    assert "transformers ignores this key" in told["note"]


def test_a_config_that_json_cannot_represent(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    with job(checkpoint, tmp_path / "work") as made:
        made.checkpoint.config["initializer_range"] = float("inf")
        with pytest.raises(BuildError, match="cannot be written as JSON"):
            steps.write_small_files(made, planned(made))


# Weights


def test_the_source_of_weights(models: SharedModels, tmp_path: Path) -> None:
    with job(models.checkpoint(), tmp_path / "work") as made:
        assert type(steps.open_weights(made, rotate=False)) is CheckpointWeights
        assert type(steps.open_weights(made, rotate=True)) is RotatedWeights
    with job(TinyGptq().write(tmp_path / "checkpoint"), tmp_path / "work") as made:
        assert type(steps.open_weights(made, rotate=False)) is CarriedWeights


def test_scaling_is_measured_on_the_prompts_or_on_a_text(models: SharedModels, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    described, columns = [], []
    for text in (None, tmp_path / "text.txt"):
        with job(models.checkpoint("qwen2"), tmp_path / "work", calibration=text) as made:
            plan = planned(made)
            steps.write_small_files(made, plan)
            weights = steps.open_weights(made, rotate=False)
            scaled, found = steps.scale_weights(made, weights, INT4, made.facts(INT4, plan))
            assert type(scaled) is ScaledWeights
            columns.append(scaled.rows(made.spec.layers[0].q_proj.weight, 0, 9))
            described.append(found)
    assert all(100 < found["tokens"] <= 512 for found in described)
    assert described[0]["tokens_sha256"] != described[1]["tokens_sha256"]
    assert not np.array_equal(*columns)


# Quantizing and writing


def test_round_to_nearest_needs_no_layer_quantizer(models: SharedModels, tmp_path: Path) -> None:
    with job(models.checkpoint(), tmp_path / "work") as made:
        weights = steps.open_weights(made, rotate=False)
        with steps.layer_quantizer(made, weights, INT4, made.facts(INT4, planned(made)), {}) as found:
            assert found == (None, {})
    assert [p.name for p in tmp_path.iterdir()] == ["work"]


@pytest.mark.parametrize("emit", [None, "gptq"])
def test_export(models: SharedModels, tmp_path: Path, emit: str | None) -> None:
    """An emitted checkpoint needs scales that float16 can hold."""
    with job(models.checkpoint(), tmp_path / "work", emit=emit) as made:
        layout = steps.export(made, steps.open_weights(made, rotate=False), INT8, 64, None)
        assert layout == plan_layout(made.spec, INT8, "float32", 64)
    slot = layout.layers[0].o_proj.scales
    assert slot is not None
    scales = np.fromfile(tmp_path / "work/model.onnx.data", np.float32, slot.size_bytes // 4, offset=slot.offset)
    in_half = bool((scales.astype(np.float16).astype(np.float32) == scales).all())
    assert in_half is (emit is not None)


def test_a_model_that_cannot_be_emitted_is_rejected_before_any_work(models: SharedModels, tmp_path: Path) -> None:
    with job(models.checkpoint(), tmp_path / "work") as made:
        steps.check_emit(made, INT8, 64)
        with pytest.raises(UnsupportedModelError, match="keeps them in float"):
            steps.check_emit(made, QuantizationConfig.none(), 64)
    narrow = models.checkpoint(intermediate_size=100)  # a multiple of the 4 codes of 8 bits in a word, not of 8
    with job(narrow, tmp_path / "work") as made:
        steps.check_emit(made, INT8, 64)
        for formats in (INT4, dataclasses.replace(INT8, mean_bits=7.0)):
            with pytest.raises(UnsupportedModelError, match="packs 8 codes of 4 bits"):
                steps.check_emit(made, formats, 64)


# Golden test and quality


@pytest.mark.parametrize(("data_bytes", "expected"), [(10**3, 16), (10**9, 8), (10**12, 4)])
def test_a_large_model_records_fewer_tokens(
    models: SharedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_bytes: int, expected: int
) -> None:
    artifact, seen = models.artifact(), list[Any]()
    monkeypatch.setattr(steps, "record_golden", lambda *arguments, float16_cache: seen.append(arguments))
    with job(models.checkpoint(), artifact) as made:
        steps.record_answer(made, read_manifest(artifact), data_bytes)
    folder, spec, activation_type, prompt, tokens, eos, threads, _ = seen[0]
    assert (folder, spec, activation_type, eos, threads) == (artifact, made.spec, "float32", [1], 1)
    assert tokens == expected
    assert prompt.count(0) == 1, "the chat template's bos"


def test_without_the_gate_nothing_is_measured(models: SharedModels, tmp_path: Path) -> None:
    with job(models.checkpoint(), tmp_path / "work", gate=False) as made:
        assert steps.measure_quality(made, made.facts(INT4, planned(made)), 1) is None


def rated(models: SharedModels, passed: bool) -> Manifest:
    checks = [{"name": "max_mean_kl", "passed": passed, "detail": "mean KL 9, allowed at most 1"}]
    quality = {"passed": passed, "checks": checks, "losses": {"layers.0": 0.5}}
    return dataclasses.replace(read_manifest(models.artifact()), quality=quality)


def test_a_good_artifact_passes(models: SharedModels, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    for manifest in (rated(models, True), dataclasses.replace(rated(models, False), quality=None)):
        steps.pass_gate(manifest, tmp_path / "work", tmp_path / "out.rejected", None)
    assert [p.name for p in tmp_path.iterdir()] == ["work"]


@pytest.mark.parametrize("emitted", [None, Path("out-gptq")])
def test_a_rejected_artifact_is_kept_aside(models: SharedModels, tmp_path: Path, emitted: Path | None) -> None:
    for name in ("work", "out.rejected"):
        (tmp_path / name).mkdir()
    (tmp_path / "work" / "model.onnx").write_text("new")
    with pytest.raises(QualityError, match="mean KL 9, allowed at most 1") as caught:
        steps.pass_gate(rated(models, False), tmp_path / "work", tmp_path / "out.rejected", emitted)
    assert ("out-gptq was not written" in caught.value.message) is (emitted is not None)
    assert caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["out.rejected"]
    assert (tmp_path / "out.rejected" / "model.onnx").read_text() == "new"
