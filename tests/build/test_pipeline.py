"""Builds of tiny checkpoints: atomic, reproducible, in bounded memory, and with errors that name the cause."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file
from shared_models import SharedModels
from tiny_checkpoint import CHAT_TEMPLATE, random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verified, verify
from edgekit.build.pipeline import build
from edgekit.errors import (
    BudgetError,
    BuildError,
    CalibrationError,
    CheckpointError,
    DiskFullError,
    EdgekitError,
    InterruptedBuildError,
    NonFiniteWeightError,
    OutputExistsError,
    TensorMismatchError,
    TokenizerError,
    TruncatedFileError,
    UnsupportedModelError,
    UsageError,
    VerificationError,
)
from edgekit.leftovers import new_name
from edgekit.runtime.loading import load
from edgekit.scheme import QuantizationOverrides

FILES = {
    "model.onnx", "model.onnx.data", "genai_config.json", "config.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja", "edgekit.json", "edgekit_text.bin",
}  # fmt: skip

GPTQ = {
    "quantization": QuantizationOverrides(method="gptq", scale=True, rotate=False), "calibration_tokens": 300,
    "gate": False,
}  # fmt: skip
UNSCALED = {"quantization": QuantizationOverrides(scale=False)}


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != "checkpoint")


def test_a_build_sweeps_what_killed_ones_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the output, in the temporary folder and in the cache of downloads."""
    temporary, package = tmp_path / "tmp", tmp_path / "cache" / "packages" / "model-1.0-0123456789ab"
    left = [
        tmp_path / new_name(".another.partial-"),
        temporary / new_name("edgekit-probe-"),
        package / new_name(".fetch-"),
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
    (package / "model.gguf").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    build(None, "cpu", checkpoint=write_checkpoint(tmp_path / "tiny"), out=tmp_path / "out", gate=False)
    assert not [folder for folder in left if folder.exists()]
    assert [path.name for path in package.iterdir()] == ["model.gguf"]


def test_an_artifact_that_a_killed_build_left_without_its_name_is_not_replaced_without_force(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny")
    build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False)
    (tmp_path / "out").rename(tmp_path / new_name(".out.replaced-"))
    with pytest.raises(OutputExistsError, match="it is back in its place"):
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False)
    verify(tmp_path / "out")


def test_notes_on_the_checkpoint_reach_the_caller_the_plan_and_the_manifest(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama", tie_word_embeddings=False)) | {"v_head.weight": np.zeros(4)}
    folder = write_checkpoint(tmp_path / "tiny", "llama", tensors, tie_word_embeddings=True)
    heard: list[Sequence[str]] = []
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False, on_notes=heard.append)
    (notes,) = heard
    assert [note.split(" ")[0] for note in notes] == ["config.json", "1"]
    assert notes[0].endswith("differs from the embedding: the stored lm_head is used")
    assert notes[1] == "1 tensor (v_head.weight) not used: a value head, which only training uses"
    assert result.to_json()["plan"]["notes"] == list(notes)
    manifest = read_manifest(result.artifact)
    assert manifest.notes == list(notes)
    assert "notes" not in manifest.plan
    assert json.loads((result.artifact / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_an_artifact_is_complete(tmp_path: Path, family: str) -> None:
    result = build(None, "cpu", checkpoint=write_checkpoint(tmp_path / "tiny", family), out=tmp_path / "out")
    assert {p.name for p in result.artifact.iterdir()} == FILES
    verify(result.artifact)
    onnx.checker.check_model(result.artifact / "model.onnx")
    manifest = read_manifest(result.artifact)
    assert manifest == result.manifest
    assert manifest.name == "tiny"
    assert manifest.model["model_type"] == family
    assert manifest.source["kind"] == "folder"
    assert "path" not in manifest.source
    assert set(manifest.source["files"]) == {"model.safetensors"}
    assert manifest.golden is not None
    assert len(manifest.golden["continuation_ids"]) > 0
    assert manifest.golden["prompt_ids"].count(0) == 1, "exactly one bos"
    assert result.plan.memory.file_bytes == (result.artifact / "model.onnx.data").stat().st_size
    assert result.size_bytes == sum(p.stat().st_size for p in result.artifact.iterdir() if p.name != "edgekit.json")


def test_two_builds_differ_only_in_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny", "qwen2")
    a, b = (
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / n, threads=t).artifact for n, t in (("a", 1), ("b", 2))
    )
    assert {p.name for p in a.iterdir()} == {p.name for p in b.iterdir()}
    for path in a.iterdir():
        if path.name != "edgekit.json":
            assert path.read_bytes() == (b / path.name).read_bytes(), path.name
    first, second = (json.loads((f / "edgekit.json").read_text()) for f in (a, b))
    del first["created"], second["created"], first["digest"], second["digest"]
    assert first == second
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    c, d = (build(None, "cpu", checkpoint=checkpoint, out=tmp_path / name, gate=False) for name in "cd")
    assert c.manifest.created == "2023-11-14T22:13:20+00:00"
    assert c.manifest.digest == d.manifest.digest == verified(c.artifact, expect=d.manifest.digest).digest
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "e")


def test_shards_and_types_give_the_same_weights(tmp_path: Path) -> None:
    """bfloat16 in two shards and the same values as float32 in one file."""
    import ml_dtypes

    config = tiny_config("llama")
    narrow = {name: t.astype(ml_dtypes.bfloat16) for name, t in random_tensors(config).items()}
    wide = {name: t.astype(np.float32) for name, t in narrow.items()}
    one = write_checkpoint(tmp_path / "one", "llama", wide)
    two = write_checkpoint(tmp_path / "two", "llama", wide)
    (two / "model.safetensors").unlink()
    names = sorted(narrow)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: narrow[name] for name in part}, two / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (two / "model.safetensors.index.json").write_text(json.dumps(index))
    built = [build(None, "cpu", checkpoint=f, out=tmp_path / f"{f.name}-out", gate=False).artifact for f in (one, two)]
    data = [(f / "model.onnx.data").read_bytes() for f in built]
    assert data[0] == data[1]


def test_the_plan_comes_before_any_weight_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(BudgetError, match=r"needs .*; 3\.\d+ GB are usable") as caught:
        build("deepseek-r1-distill-llama-8b", "raspberry-pi-4-4gb", checkpoint=missing, out=tmp_path / "out")
    assert re.match("alternatives: .* needs ", caught.value.hint)
    assert leftovers(tmp_path) == []


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1000)


def _nan(folder: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    tensors["model.layers.1.mlp.up_proj.weight"][7, 3] = np.nan
    save_file(tensors, folder / "model.safetensors")


def _infinite_norm(folder: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    tensors["model.norm.weight"][5] = np.inf
    save_file(tensors, folder / "model.safetensors")


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = tiny_config("llama", **changes)
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


BAD = {
    "truncated": (_truncate, TruncatedFileError, r"model\.safetensors.*"),
    "NaN": (_nan, NonFiniteWeightError, r"layers\.1\.mlp\.up_proj\.weight holds nan at \[7, 3\]"),
    "infinity in a norm": (_infinite_norm, NonFiniteWeightError, r"model\.norm\.weight holds inf at \[5\]"),
    "unknown family": (_config(model_type="mamba"), UnsupportedModelError, "'mamba' is not supported.*llama, qwen2"),
    "another activation": (_config(hidden_act="gelu"), UnsupportedModelError, "hidden_act = 'gelu'; supported: 'silu'"),
    "longrope": (
        _config(rope_scaling={"rope_type": "longrope"}),
        UnsupportedModelError,
        "'longrope'; supported: default",
    ),
    "no hidden_size": (_config(hidden_size=None), CheckpointError, "lacks hidden_size"),
    "shape against config": (_config(hidden_size=96), TensorMismatchError, r"has shape .* implies"),
    "heads": (_config(num_attention_heads=4, num_key_value_heads=3), CheckpointError, "4 is not a multiple of .* 3"),
    "a string for a number": (_config(intermediate_size="200"), CheckpointError, "intermediate_size is '200'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoints(tmp_path: Path, case: str) -> None:
    damage, error, message = BAD[case]
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    assert type(caught.value) is error
    assert leftovers(tmp_path) == []


def test_a_checkpoint_of_another_model_than_the_recipe(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    with pytest.raises(TensorMismatchError, match=r"the recipe smollm2-135m says") as caught:
        build("smollm2-135m", "cpu", checkpoint=folder, out=tmp_path / "out")
    assert "--checkpoint PATH" in caught.value.hint
    assert leftovers(tmp_path) == []


def test_a_weight_too_large_for_float16(tmp_path: Path) -> None:
    """The logits' matrix is not scaled; see test_float16.py for the others."""
    tensors = random_tensors(tiny_config("llama", tie_word_embeddings=False))
    tensors["lm_head.weight"][0, 0] = 1e6
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", tensors, tie_word_embeddings=False)
    with pytest.raises(NonFiniteWeightError, match=r"holds 1e\+06 at \[0, 0\]: too large for float16"):
        build(None, "jetson", checkpoint=folder, out=tmp_path / "out", **UNSCALED)
    build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)


def test_an_existing_folder_is_kept_unless_forced(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    first = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    with pytest.raises(OutputExistsError, match="already exists"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    second = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", force=True, gate=False)
    assert first.artifact == second.artifact
    assert leftovers(tmp_path) == ["out"]


def test_force_deletes_only_artifacts(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    precious = tmp_path / "out"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="is not an artifact"):
        build(None, "cpu", checkpoint=folder, out=precious, force=True)
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_a_failed_forced_build_keeps_the_old_artifact(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    _nan(folder)
    with pytest.raises(NonFiniteWeightError):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", force=True)
    verify(tmp_path / "out")
    assert leftovers(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFullError, match=r"no space to write .*No space left"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    assert leftovers(tmp_path) == []


def test_a_disk_that_fills_up_with_the_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match=r"no space to write to .*out"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot create the folder"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "file" / "out")


def test_an_interrupt_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")

    def interrupt(phase: str, done: float, total: float) -> None:
        if phase == "recording the golden test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", progress=interrupt)
    assert leftovers(tmp_path) == []


def test_nothing_at_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="nowhere"):
        build(None, "cpu", checkpoint=tmp_path / "nowhere", out=tmp_path / "out")


def test_a_calibrated_artifact_is_complete_and_says_how(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    nearest = build(None, "cpu", checkpoint=folder, out=tmp_path / "nearest", gate=False).artifact
    phases: dict[str, float] = {}
    result = build(
        None, "cpu", checkpoint=folder, out=tmp_path / "out", threads=1,
        progress=lambda phase, done, total: phases.update({phase: done / total}), **GPTQ,
    )  # fmt: skip
    verify(result.artifact)
    assert {p.name for p in result.artifact.iterdir()} == FILES
    assert leftovers(tmp_path) == ["nearest", "out"], "the state of the calibration is removed"
    said = result.manifest.quantization
    assert said["method"] == "gptq"
    assert {key: said["calibration"][key] for key in ("source", "tokens", "inputs")} == {
        "source": "own answers", "tokens": 300, "inputs": "quantized",
    }  # fmt: skip
    assert phases["calibrating layers"] == phases["generating calibration texts"] == 1
    a, b = ((f / "model.onnx.data").read_bytes() for f in (nearest, result.artifact))
    assert len(a) == len(b)
    assert a != b
    again = build(None, "cpu", checkpoint=folder, out=tmp_path / "again", threads=1, **GPTQ)
    assert again.manifest.quantization == said, "the same answers every time"


def test_calibration_on_a_file(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", calibration=tmp_path / "text.txt", **GPTQ)
    assert result.manifest.quantization["calibration"]["source"] == "file"
    assert result.manifest.quantization["calibration"]["tokens"] == 300


def test_a_calibration_text_needs_a_method_that_reads_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    with pytest.raises(UsageError, match="the method rtn does not use"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", calibration=tmp_path / "text.txt", **UNSCALED)
    assert leftovers(tmp_path) == []


def test_an_interrupted_calibration_is_resumed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", num_hidden_layers=3)

    def interrupt(phase: str, done: float, total: float) -> None:
        if phase == "calibrating layers" and done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedBuildError, match=r"is kept in .*\.out\.calibration") as caught:
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", threads=1, progress=interrupt, **GPTQ)
    assert "run the same command again" in caught.value.hint
    assert leftovers(tmp_path) == [".out.calibration"]
    reports: list[tuple[str, float]] = []
    resumed = build(
        None, "cpu", checkpoint=folder, out=tmp_path / "out", threads=1,
        progress=lambda phase, done, total: reports.append((phase, done)), **GPTQ,
    )  # fmt: skip
    assert min(done for phase, done in reports if phase == "calibrating layers") >= 1
    assert "generating calibration texts" not in dict(reports)
    assert leftovers(tmp_path) == ["out"]
    whole = build(None, "cpu", checkpoint=folder, out=tmp_path / "whole", threads=1, **GPTQ)
    a, b = ((r.artifact / "model.onnx.data").read_bytes() for r in (resumed, whole))
    assert a == b


def test_a_failed_calibration_leaves_nothing(tmp_path: Path) -> None:
    tensors = random_tensors(tiny_config("llama"))
    for name in ("gate_proj", "up_proj"):
        tensors[f"model.layers.1.mlp.{name}.weight"] *= np.float32(1e25)
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", tensors)
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)
    with pytest.raises(CalibrationError, match=r"layers\.1\.mlp\.down_proj are NaN or infinite"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", calibration=tmp_path / "text.txt", **GPTQ)
    assert leftovers(tmp_path) == ["text.txt"]


def test_a_slow_fallback_is_a_note(models: SharedModels, tmp_path: Path) -> None:
    """A Raspberry Pi 4 has none of the instructions that the native engine's kernels need."""
    shown: list[str] = []
    result = build(
        None, "raspberry-pi-4-4gb", checkpoint=models.checkpoint(), out=tmp_path / "out", gate=False,
        on_notes=shown.extend,
    )  # fmt: skip
    assert result.plan.engine == "native"
    assert any("slow fallback on raspberry-pi-4-4gb" in note for note in result.plan.notes)
    assert any("slow fallback on raspberry-pi-4-4gb" in note for note in shown)


@pytest.mark.parametrize("name", ["", ".", "..", "a/..", "\udcff bytes", "a\0b"])
def test_an_output_folder_needs_a_name(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    with pytest.raises(UsageError, match="the output folder"):
        build(None, "cpu", checkpoint=folder, out=name, gate=False)


def test_a_template_that_fills_the_context(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    (folder / "chat_template.jinja").write_text("word " * 300 + "{{ messages }}")
    with pytest.raises(TokenizerError, match=r"a question of \d+ characters becomes \d+ tokens; .* 256 positions"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)


@pytest.mark.parametrize("key", ["rms_norm_eps", "num_hidden_layers", "hidden_size", "vocab_size"])
def test_a_value_out_of_range_names_the_file(tmp_path: Path, key: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: 2**31 - 1}))
    with pytest.raises(CheckpointError, match=rf"tiny/config\.json: {key} is 2147483647; it must be "):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)


def test_a_signed_build(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgekit.artifact.signature import make_keys

    public = make_keys(tmp_path / "key")
    checkpoint = write_checkpoint(tmp_path / "tiny", "llama")
    with pytest.raises(UsageError, match="missing"):
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", sign=tmp_path / "missing")
    assert not (tmp_path / "out").exists()
    made = build(
        None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False, emit="web", sign=tmp_path / "key"
    )
    for folder in (made.artifact, made.emitted):
        assert folder is not None
        found = verified(folder, public_key=public)
        assert found.signed_by is not None
        assert found.digest == found.manifest.digest
    load(made.artifact, public_key=public).close()
    (made.artifact / "chat_template.jinja").write_text("changed")
    with pytest.raises(VerificationError, match="chat_template"):
        load(made.artifact, public_key=public)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "config.json"]
)
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match=f"{name} cannot be read: it is not a regular file"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)


def test_a_template_that_is_slow_for_each_prompt_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.runtime.template_budget.SECONDS", 0.0)
    checkpoint = write_checkpoint(tmp_path / "tiny")
    (checkpoint / "chat_template.jinja").write_text("{% for i in range(99) %}{{ i }}{% endfor %}" + CHAT_TEMPLATE)
    with pytest.raises(TokenizerError, match=r"out.chat_template\.jinja computes too much") as caught:
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False)
    assert caught.value.message.endswith("its prompts take more than 0 seconds of processor time in all")
    assert "--chat-template FILE" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]
