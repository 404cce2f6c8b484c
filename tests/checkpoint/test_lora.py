"""Adapters in PEFT's format: what is read, and what is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_lora import PREFIX, factors, write_adapter

from edgekit.checkpoint.lora import LoraAdapter
from edgekit.errors import CheckpointError, CorruptFileError, TensorMismatchError, UnsupportedModelError

Q = "model.layers.0.self_attn.q_proj"
GOOD = factors(Q, 8, 16)
VECTOR = {f"{Q}.lora_magnitude_vector": np.ones(8, np.float32)}


def test_what_an_adapter_says(tmp_path: Path) -> None:
    whole = {"lm_head.weight": np.ones((5, 8), np.float32)}
    adapter = LoraAdapter(write_adapter(tmp_path, GOOD | whole))
    pair = adapter.low_rank[f"{Q}.weight"]
    assert (pair.shape, pair.rank, pair.scale, pair.magnitude) == ((8, 16), 4, 4.0, None)
    np.testing.assert_array_equal(adapter.rows(pair.b, 2, 5), GOOD[f"{Q}.lora_B.weight"][2:5])
    np.testing.assert_array_equal(adapter.rows(adapter.replaced["lm_head.weight"]), whole["lm_head.weight"])
    assert adapter.described() == {
        "path": str(tmp_path), "sha256": sha256((tmp_path / "adapter_model.safetensors").read_bytes()).hexdigest(),
        "base_model": "someone/base", "r": 4, "alpha": 16, "use_rslora": False, "use_dora": False,
        "alpha_pattern": {}, "weights": 1,
        "replaced": ["lm_head.weight"],
    }  # fmt: skip
    adapter.close()


@pytest.mark.parametrize(
    "name",
    [
        f"{Q}.lora_A.weight", f"{Q}.lora_A.default.weight", f"{Q}.lora_A.a_b-c.weight", f"{Q}.base_layer.lora_A.weight",
    ],
)  # fmt: skip
def test_names_of_factors(tmp_path: Path, name: str) -> None:
    tensors = {name: GOOD[f"{Q}.lora_A.weight"], name.replace("lora_A", "lora_B"): GOOD[f"{Q}.lora_B.weight"]}
    assert list(LoraAdapter(write_adapter(tmp_path, tensors)).low_rank) == [f"{Q}.weight"]


def test_what_older_versions_save_twice(tmp_path: Path) -> None:
    tensors = {
        f"lm_head.{name}weight": np.full((5, 8), i, np.float32)
        for i, name in enumerate(("original_module.", "", "modules_to_save."))
    }
    adapter = LoraAdapter(write_adapter(tmp_path, GOOD | tensors))
    assert list(adapter.replaced) == ["lm_head.weight"]
    assert (adapter.rows(adapter.replaced["lm_head.weight"]) == 1).all()


@pytest.mark.parametrize(
    "kind", ["LOHA", "LOKR", "IA3", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "ADALORA", "OFT", "BOFT", "VERA", 3]
)
def test_other_kinds_of_adapters_are_refused_by_name(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=f"peft_type is {kind!r}; supported: 'LORA'"):
        LoraAdapter(write_adapter(tmp_path, GOOD, peft_type=kind))


@pytest.mark.parametrize(
    "config",
    [
        {"layer_replication": [[0, 4]]},
        {"alora_invocation_tokens": [1, 2]},
        {"trainable_token_indices": [5]},
        {"target_parameters": ["experts"]},
        {"use_qalora": True},
        {"lora_bias": True},
        {"kasa_config": {"beta": 0.1}},
        {"use_something_new": True},
    ],
)
def test_options_that_are_not_supported(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{next(iter(config))} is"):
        LoraAdapter(write_adapter(tmp_path, GOOD, **config))


def change_of(folder: Path, **config: Any) -> dict[str, Any]:
    """What an adapter with these keys changes."""
    adapter = LoraAdapter(write_adapter(folder, GOOD, **config))
    adapter.close()
    return {key: value for key, value in adapter.described().items() if key != "path"}


def test_keys_that_leave_the_merged_weights_alone(tmp_path: Path) -> None:
    unrelated = {"velora_config": {"rank": 1}, "quantization_config": {"bits": 4}, "use_cache": True}
    assert change_of(tmp_path / "with", **unrelated) == change_of(tmp_path / "without")


@pytest.mark.parametrize(
    "name", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "corda_kpm", "loftq", "lora_ga"]
)
def test_an_initialization_that_changes_the_base_model_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"init_lora_weights is '{name}'; .*the base model's weights") as e:
        LoraAdapter(write_adapter(tmp_path, GOOD, init_lora_weights=name))
    assert "path_initial_model_for_weight_conversion" in e.value.hint
    assert "merge_and_unload" in e.value.hint


def test_an_initialization_that_edgekit_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="is 'newest'; supported: true, false, 'gaussian', 'eva'"):
        LoraAdapter(write_adapter(tmp_path, GOOD, init_lora_weights="newest"))


@pytest.mark.parametrize("name", [True, False, "gaussian", "Gaussian", "eva", "orthogonal", "mica"])
def test_an_initialization_that_leaves_the_base_model_alone(tmp_path: Path, name: Any) -> None:
    harmless = {"eva_config": {"rho": 2.0}, "megatron_config": {"x": 1}, "use_other": False, "other_config": {}}
    found = change_of(tmp_path / "with", init_lora_weights=name, **harmless)
    assert found == change_of(tmp_path / "without")


@pytest.mark.parametrize(
    "config",
    [
        {"lora_alpha": "x"},
        {"init_lora_weights": 3},
        {"lora_alpha": True},
        {"lora_alpha": 1e30},
        {"r": 0},
        {"use_rslora": 1},
        {"rank_pattern": [1]},
        {"alpha_pattern": {"(": 4}},
        {"alpha_pattern": {"q": "x"}},
    ],
)
def test_values_of_another_type(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(CorruptFileError, match=next(iter(config))):
        LoraAdapter(write_adapter(tmp_path, GOOD, **config))


def test_null_is_a_setting_that_is_not_there(tmp_path: Path) -> None:
    nulls = dict.fromkeys(("use_dora", "use_rslora", "rank_pattern", "base_model_name_or_path"))
    adapter = LoraAdapter(write_adapter(tmp_path, GOOD, **nulls))
    assert adapter.described()["use_dora"] is False
    assert adapter.base == ""


@pytest.mark.parametrize(
    "name",
    [
        f"{Q}.hada_w1_a",
        f"{Q}.lokr_w1",
        f"{Q}.ia3_l",
        f"{Q}.lora_E",
        f"{Q}.lora_B.bias",
        "prompt_embeddings",
        "model.embed_tokens.token_adapter.trainable_tokens_delta",
    ],
)
def test_tensors_of_something_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{PREFIX}{name}, which is not part of a LoRA adapter"):
        LoraAdapter(write_adapter(tmp_path, GOOD | {name: np.ones((4, 4), np.float32)}))


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        ({f"{Q}.lora_A.weight": np.ones((4, 8), np.float32)}, {}, "has lora_A; expected lora_A and lora_B"),
        (factors(Q, 8, 16, rank=3), {}, "gives .*q_proj the rank 4, but its tensors have 3"),
        (GOOD, {"rank_pattern": {"q_proj": 8}}, "the rank 8, but its tensors have 4"),
        (GOOD | {f"{Q}.lora_B.weight": np.ones((8, 3), np.float32)}, {}, r"\[4, 16\] and .* \[8, 3\]"),
        (GOOD | {f"{Q}.lora_embedding_A": np.ones((4, 3), np.float32)}, {}, "expected lora_embedding_A and"),
        (GOOD | {f"{Q}.lora_A.other.weight": np.ones((4, 8), np.float32)}, {}, "are of two adapters"),
        (
            GOOD | {f"lm_head.modules_to_save.{name}.weight": np.ones((4, 8), np.float32) for name in "ab"},
            {},
            "lm_head.modules_to_save.a.weight and .*lm_head.modules_to_save.b.weight, which are of two adapters",
        ),
        (GOOD, {"use_dora": True}, "use_dora = true, but .* has no lora_magnitude_vector"),
        (GOOD | VECTOR, {}, "use_dora = false, but .* has a lora_magnitude_vector"),
        (GOOD | {f"{Q}.lora_magnitude_vector": np.ones(9, np.float32)}, {"use_dora": True}, "has 8 outputs"),
    ],
)
def test_contradictions(tmp_path: Path, tensors: dict[str, np.ndarray], config: dict[str, Any], words: str) -> None:
    with pytest.raises(TensorMismatchError, match=words):
        LoraAdapter(write_adapter(tmp_path, tensors, **config))


def _missing(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _sharded(folder: Path) -> None:
    _missing(folder)
    (folder / "adapter_model-00001-of-00002.safetensors").touch()
    (folder / "adapter_model.safetensors.index.json").write_text("{}")


def _model(folder: Path) -> None:
    write_checkpoint(folder)
    (folder / "adapter_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_missing, "has adapter_config.json but no adapter_model.safetensors"),
        (_pickled, "has adapter_model.bin but no .*pickled"),
        (_sharded, "has adapter_model-00001-of-00002.safetensors, .* edgekit reads adapters of one file"),
        (_model, "is not a LoRA adapter: it has no adapter_config.json"),
    ],
)
def test_folders_without_an_adapter(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(write_adapter(tmp_path, GOOD))
    with pytest.raises(CheckpointError, match=words):
        LoraAdapter(tmp_path)


def test_an_empty_adapter_and_integers(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tensors"):
        LoraAdapter(write_adapter(tmp_path, {}))
    adapter = LoraAdapter(write_adapter(tmp_path, {name: array.astype(np.int32) for name, array in GOOD.items()}))
    with pytest.raises(CheckpointError, match="has type I32"):
        adapter.rows(adapter.low_rank[f"{Q}.weight"].a)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "adapter", GOOD)
    if (folder / name).exists():
        (folder / name).rename(tmp_path / "outside")
    else:
        (tmp_path / "outside").write_text("secret")
    (folder / name).symlink_to("../outside")
    with pytest.raises(CheckpointError, match=rf"{name} is a link to \.\./outside, which is outside the folder"):
        LoraAdapter(folder)
