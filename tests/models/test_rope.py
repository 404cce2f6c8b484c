"""Rotary embeddings read from config.json. Expected frequencies are those of transformers 4.57.6, in float32."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgekit.errors import CheckpointError, UnsupportedModelError
from edgekit.models.rope import Rope, read_rope

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN_TAIL = [0.007905695, 0.0025, 0.0007905695, 0.00025, 7.905695e-05]  # a quarter of theta^(-2 i / 16)
DEFAULT_FACTOR = 1.138629436111989  # 0.1 ln 4 + 1
R1_ATTN_FACTOR = 0.8782488562869419  # of DeepSeek-R1-0528-Qwen3-8B


def rope(scaling: dict[str, Any] | None, head_dim: int = 16, context: int = 256, **config: Any) -> Rope:
    return read_rope({"rope_theta": 10000.0, "rope_scaling": scaling, **config}, head_dim, context)


@pytest.mark.parametrize(
    ("scaling", "frequencies", "attention_factor"),
    [
        (YARN, [1.0, 0.2371708, 0.05, *YARN_TAIL], DEFAULT_FACTOR),
        ({**YARN, "truncate": False}, [1.0, 0.1985835, 0.02559525, *YARN_TAIL], DEFAULT_FACTOR),
        (
            {**YARN, "factor": 8.0, "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.5},
            [1.0, 0.1778781, 0.0125, *(f / 2 for f in YARN_TAIL)],
            1.094179988101349,
        ),
        (
            {"type": "yarn", "factor": 4.0, "attention_factor": 1.25},  # the original context is the config's, 256
            [1.0, 0.2569351, 0.0625, 0.01383497, *YARN_TAIL[1:]],
            1.25,
        ),
        ({**YARN, "beta_fast": None, "finetuned": True}, [1.0, 0.2371708, 0.05, *YARN_TAIL], DEFAULT_FACTOR),
    ],
)  # fmt: skip
def test_yarn_is_that_of_transformers(
    scaling: dict[str, Any], frequencies: list[float], attention_factor: float
) -> None:
    found = rope(scaling)
    assert found.inverse_frequencies() == pytest.approx(frequencies, rel=1e-6)
    assert found.attention_factor == pytest.approx(attention_factor, rel=1e-12)


def test_attn_factor_multiplies_the_default_and_both_numbers_are_told() -> None:
    found = rope({**YARN, "attn_factor": R1_ATTN_FACTOR})
    assert found.attention_factor == 1.0
    assert found.inverse_frequencies() == rope(YARN).inverse_frequencies()
    told = found.describe()
    assert told["attention_factor"] == 1.0
    assert told["attn_factor"] == R1_ATTN_FACTOR
    assert told["transformers_attention_factor"] == pytest.approx(DEFAULT_FACTOR)
    assert "0.87824886" in told["note"]
    assert "1.1386294" in told["note"]
    assert "note" not in rope(YARN).describe()
    assert rope({**YARN, "attn_factor": 0.5}).attention_factor == pytest.approx(0.5 * DEFAULT_FACTOR)


def test_attention_factor_beside_attn_factor_must_be_the_product() -> None:
    both = {**YARN, "attn_factor": R1_ATTN_FACTOR}
    assert rope({**both, "attention_factor": 1.0}).attention_factor == 1.0
    with pytest.raises(
        CheckpointError, match=r"attention_factor 1\.1386294 and attn_factor 0\.87824886, which means 1;"
    ):
        rope({**both, "attention_factor": DEFAULT_FACTOR})


def test_dynamic_scaling_is_plain_within_the_original_context() -> None:
    found = rope({"rope_type": "dynamic", "factor": 4.0})
    assert found.inverse_frequencies() == rope(None).inverse_frequencies()
    assert found.original_context == 256
    assert rope({"type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 64}).original_context == 64


def test_both_spellings_are_read() -> None:
    old = read_rope({"rope_theta": 500000.0, "rope_scaling": LLAMA3}, 128, 131072)
    new = read_rope({"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}}, 128, 131072)
    typed = {"type": LLAMA3["rope_type"], **{k: v for k, v in LLAMA3.items() if k != "rope_type"}}
    assert old == new == read_rope({"rope_theta": 500000, "rope_scaling": typed}, 128, 131072)
    assert old.theta == 500000.0
    assert (
        read_rope({"rope_scaling": LLAMA3, "rope_parameters": {**LLAMA3, "rope_theta": 500000.0}}, 128, 131072) == old
    )


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_divides_low_frequencies_only(factor: float) -> None:
    plain = rope(None, 128, rope_theta=500000.0).inverse_frequencies()
    scaled = rope({**LLAMA3, "factor": factor}, 128, rope_theta=500000.0).inverse_frequencies()
    ratios = [p / s for p, s in zip(plain, scaled, strict=True)]
    assert ratios[0] == 1.0
    assert ratios[-1] == pytest.approx(factor)
    assert ratios == sorted(ratios)
    assert any(1.5 < r < factor - 0.5 for r in ratios), "there is a smooth transition"


def test_linear_and_listed_factors() -> None:
    plain = rope(None).inverse_frequencies()
    linear = rope({"type": "linear", "factor": 4.0})
    assert linear.inverse_frequencies() == pytest.approx([f / 4 for f in plain])
    factors = [1.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    listed = rope({"rope_type": "factors", "factors": factors})
    assert listed.inverse_frequencies() == pytest.approx([f / g for f, g in zip(plain, factors, strict=True)])


@pytest.mark.parametrize("scaling", [None, {}, {"rope_type": "default"}, {"type": "default", "factor": 4.0}])
def test_no_scaling(scaling: dict[str, Any] | None) -> None:
    found = rope(scaling)
    assert found == Rope(10000.0, 16)
    assert found.inverse_frequencies()[4] == pytest.approx(0.01)
    assert read_rope({}, 16, 256) == found, "theta is 10000 by default, as in transformers"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rope_scaling": {"rope_type": "llama3"}}, "'llama3' lacks factor"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'linear' lacks factor"),
        ({"rope_scaling": {"rope_type": "dynamic"}}, "'dynamic' lacks factor"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "'yarn' lacks factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor is 0; it must be a number above 0"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "4"}}, "factor is '4'; it must be a number above 0"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": math.nan}}, "factor is nan"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor is 1 and low_freq_factor is 1"),
        ({"rope_scaling": {**YARN, "truncate": 1}}, "truncate is 1; it must be true or false"),
        ({"rope_scaling": YARN, "rope_theta": 1.0}, "rope_theta is 1.0; rope scaling 'yarn' needs a number above 1"),
        ({"rope_scaling": {"rope_type": "factors", "factors": [1.0, 2.0]}}, "lists 2 factors; head_dim 16 needs 8"),
        ({"rope_scaling": {**YARN, "type": "linear"}}, "rope_type 'yarn' and type 'linear'"),
        ({"rope_scaling": YARN, "rope_parameters": {"rope_type": "default"}}, "they differ"),
        ({"rope_theta": 1e6, "rope_parameters": {**YARN, "rope_theta": 1e4}}, "rope_theta is 1e.06, but 10000"),
        ({"rope_theta": -1}, "rope_theta is -1"),
        ({"rope_scaling": [4.0]}, r"rope_scaling is \[4.0\]; it must be an object or null"),
    ],
)
def test_what_contradicts_itself_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as failure:
        read_rope(config, 16, 256)
    assert type(failure.value) is CheckpointError


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "'longrope'; supported: default, linear, dynamic"),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}, "'mrope'; supported"),
        ({"rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 1000.0}}, "'dynamic' has alpha = 1000.0"),
        ({"rope_scaling": {**YARN, "extrapolation_factor": 0.5}}, "extrapolation_factor 0.5; supported: 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"rope_parameters": {**YARN, "partial_rotary_factor": 0.25}}, "partial_rotary_factor is 0.25"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "rope_parameters differs between layers"),
    ],
)
def test_what_edgekit_does_not_compute_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        read_rope(config, 16, 256)
