"""Builds of tiny checkpoints: atomic, reproducible, in bounded memory, and with errors that name the cause."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from build_outputs import FILES, leftovers
from safetensors.numpy import save_file
from shared_models import SharedModels
from tiny_checkpoint import CHAT_TEMPLATE, random_tensors, tiny_config, write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verified, verify
from edgekit.build.inputs import recipe_from_checkpoint
from edgekit.build.pipeline import build, run_build
from edgekit.build.request import BuildRequest
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import (
    BudgetError,
    CheckpointError,
    DiskFullError,
    EdgekitError,
    NonFiniteWeightError,
    QualityError,
    TensorMismatchError,
    TokenizerError,
    TruncatedFileError,
    UnsupportedModelError,
    UsageError,
    VerificationError,
)
from edgekit.planning.plan import Offer, Plan
from edgekit.planning.planner import plan
from edgekit.recipes.quality import Thresholds
from edgekit.runtime.loading import load
from edgekit.scheme import QuantizationOverrides

UNSCALED = {"quantization": QuantizationOverrides(scale=False)}


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
    with pytest.raises(BudgetError, match=r"needs .*; 3\.\d+ GB are usable"):
        build("deepseek-r1-distill-llama-8b", "raspberry-pi-4-4gb", checkpoint=missing, out=tmp_path / "out")
    assert leftovers(tmp_path) == []


def _offers(model: str, device: str, tmp_path: Path, **request: Any) -> dict[str, Offer]:
    """The offers of a build that is refused, by kind."""
    plans: list[Plan] = []
    with pytest.raises(BudgetError, match="are usable") as caught:
        build(model, device, out=tmp_path / "out", on_plan=plans.append, **request)
    offers = {offer.kind: offer for offer in plans[-1].offers}
    assert all(offer.sentence in caught.value.hint for offer in offers.values())
    return offers


@pytest.mark.parametrize(
    "changes",
    [QuantizationOverrides(), QuantizationOverrides(8, embedding_bits=8, lm_head_bits=8), QuantizationOverrides(7.5)],
)
def test_a_smaller_model_is_offered_as_it_would_be_built(tmp_path: Path, changes: QuantizationOverrides) -> None:
    offered = _offers("deepseek-r1-distill-qwen-14b", "jetson", tmp_path, quantization=changes)["model"]
    followed = plan(offered.model, "jetson", offered.context, changes)
    assert followed.acceptable
    assert followed.memory.peak == offered.total_bytes


def test_another_model_is_not_offered_for_a_checkpoint_or_an_adapter(tmp_path: Path) -> None:
    model = "deepseek-r1-distill-qwen-7b"
    assert "model" in _offers(model, "raspberry-pi-4-4gb", tmp_path)
    assert "model" not in _offers(model, "raspberry-pi-4-4gb", tmp_path, checkpoint=tmp_path / "nowhere")


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


def test_a_rejected_build_is_not_signed(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgekit.artifact.signature import make_keys

    make_keys(tmp_path / "key")
    folder = write_checkpoint(tmp_path / "tiny", "llama")
    with open_checkpoint(folder) as opened:
        recipe = replace(recipe_from_checkpoint(opened, folder), quality=Thresholds(max_mean_kl=1e-9))
    with pytest.raises(QualityError):
        build(recipe, "cpu", checkpoint=folder, out=tmp_path / "out", sign=tmp_path / "key")
    assert verified(tmp_path / "out.rejected").signed_by is None


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


@pytest.mark.parametrize("argument", ["checkpoint", "out", "chat_template", "lora"])
def test_a_path_that_the_system_does_not_open(tmp_path: Path, argument: str) -> None:
    long = tmp_path / ("n" * 300)
    given = BuildRequest(checkpoint=write_checkpoint(tmp_path / "tiny"), out=tmp_path / "out", gate=False)
    with pytest.raises(UsageError, match=r"cannot open .*\.\.\.: File name too long"):
        run_build(replace(given, **{argument: (long,) if argument == "lora" else long}))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("stop", [(), ("###",)])
@pytest.mark.parametrize("bos", [None, 0])
def test_a_model_without_an_end_of_sequence_token(tmp_path: Path, stop: tuple[str, ...], bos: int | None) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", bos_token_id=bos, eos_token_id=None)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").unlink()
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", stop=stop, gate=False)
    verify(result.artifact)
    assert result.manifest.tokens == {"bos": bos, "eos": [], "pad": None, "add_bos": False}
    assert result.manifest.stop_texts == list(stop)
    genai = json.loads((result.artifact / "genai_config.json").read_text())["model"]
    assert (genai["eos_token_id"], genai["pad_token_id"]) == (0, 0)
    with load(result.artifact, context=64) as session:
        list(session.generate("The capital", max_tokens=4))


def test_tokens_that_only_the_special_tokens_map_names(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama", bos_token_id=None, eos_token_id=None)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<|bos|>", "eos_token": "<|eos|>"}')
    result = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    assert (result.manifest.tokens["bos"], result.manifest.tokens["eos"]) == (0, [1])
    settings = json.loads((result.artifact / "tokenizer_config.json").read_text())
    assert (settings["bos_token"], settings["eos_token"]) == ("<|bos|>", "<|eos|>")
