"""config.json to ModelSpec, and the families' folder."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tiny_checkpoint import tiny_config

import edgekit.models
from edgekit.errors import CheckpointError, UnsupportedModelError
from edgekit.models import families, family, spec_from_config


def test_every_family_file_is_a_family() -> None:
    files = {p.stem for p in Path(edgekit.models.__path__[0]).glob("*.py")} - {"__init__", "spec"}
    assert set(families()) == files == {"llama", "qwen2"}
    for name in families():
        assert family(name).model_type == name
        assert family(name).gguf_architecture


@pytest.mark.parametrize("name", ["gpt2", "spec", "__init__", "llama.x", "", "Llama"])
def test_other_families_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="supported: llama, qwen2"):
        family(name)


def test_an_import_error_inside_a_family_is_not_taken_for_an_unknown_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import a_module_nobody_has")
    monkeypatch.setattr(edgekit.models, "__path__", [*edgekit.models.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_module_nobody_has"):
        family("broken")


@pytest.mark.parametrize("tied", [True, False])
def test_tensors_are_named_once(tied: bool) -> None:
    spec = spec_from_config(tiny_config("qwen2", tie_word_embeddings=tied))
    names = [t.name for t in spec.tensors()]
    assert len(names) == len(set(names)) == 3 + 2 * 12 - tied
    assert len({t.gguf for t in spec.tensors()}) == len(names)
    assert ("lm_head.weight" in names) is not tied
    assert spec.parameters == sum(math.prod(t.shape) for t in spec.tensors())


def test_biases_follow_family_and_config() -> None:
    def biased(family_name: str, **changes: object) -> set[str]:
        layer = spec_from_config(tiny_config(family_name, **changes)).layers[0]
        return {linear.role for linear in layer.linears if linear.bias is not None}

    assert biased("llama") == set()
    assert biased("llama", attention_bias=True) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert biased("llama", mlp_bias=True) == {"gate_proj", "up_proj", "down_proj"}
    assert biased("qwen2") == {"q_proj", "k_proj", "v_proj"}


def test_both_spellings_of_rope_are_read() -> None:
    llama3 = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    old = spec_from_config(tiny_config("llama", rope_theta=500000.0, rope_scaling=llama3)).rope
    new = spec_from_config(tiny_config("llama", rope_parameters={**llama3, "rope_theta": 500000.0})).rope
    assert old == new
    assert old.theta == 500000.0


def test_llama3_keeps_high_and_divides_low_frequencies() -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = tiny_config("llama", head_dim=128, rope_theta=500000.0)
    plain = spec_from_config(config).rope.inverse_frequencies()
    scaled = spec_from_config({**config, "rope_scaling": scaling}).rope.inverse_frequencies()
    ratios = [p / s for p, s in zip(plain, scaled, strict=True)]
    assert ratios[0] == 1.0
    assert ratios[-1] == pytest.approx(8.0)
    assert ratios == sorted(ratios)
    assert any(1.5 < r < 7.5 for r in ratios), "a smooth band lies between"


def test_linear_and_listed_factors() -> None:
    config = tiny_config("llama", head_dim=16)
    plain = spec_from_config(config).rope.inverse_frequencies()
    linear = spec_from_config({**config, "rope_scaling": {"type": "linear", "factor": 4.0}}).rope
    assert linear.inverse_frequencies() == pytest.approx([f / 4 for f in plain])
    factors = [1.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    listed = spec_from_config({**config, "rope_scaling": {"rope_type": "factors", "factors": factors}}).rope
    assert listed.inverse_frequencies() == pytest.approx([f / g for f, g in zip(plain, factors, strict=True)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 2**40}, "num_hidden_layers is"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"head_dim": None, "hidden_size": 145}, "145 is not a multiple of num_attention_heads 3"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "'llama3' lacks factor"),
        ({"model_type": None}, "lacks model_type"),
    ],
)
def test_bad_configs(changes: dict[str, object], words: str) -> None:
    config = {k: v for k, v in tiny_config("llama", **changes).items() if v is not None}
    with pytest.raises(CheckpointError, match=words):
        spec_from_config(config)
