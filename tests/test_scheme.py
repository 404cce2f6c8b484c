"""Formats of quantized weights: the values that are allowed, and the shapes that they imply."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import UsageError
from edgekit.scheme import QuantizationConfig, QuantizationOverrides, QuantizationScheme


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 3}, "bits is 3; allowed: 4, 8"),
        ({"block_size": 16}, "block_size is 16; allowed: 32, 64, 128"),
        ({"symmetric": 1}, "symmetric is 1; allowed: true, false"),
    ],
)
def test_other_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizationScheme(**changes)


@pytest.mark.parametrize(
    ("scheme", "in_features", "blocks", "block_bytes", "zero_bytes"),
    [
        (QuantizationScheme(4, 32, False), 96, 3, 16, 2),  # 3 zero points of 4 bits need 2 bytes
        (QuantizationScheme(4, 32, False), 97, 4, 16, 2),  # the last block is short
        (QuantizationScheme(8, 64, False), 64, 1, 64, 1),
        (QuantizationScheme(8, 128, False), 1, 1, 128, 1),
        (QuantizationScheme(4, 128, True), 300, 3, 64, None),
    ],
)
def test_shapes(
    scheme: QuantizationScheme, in_features: int, blocks: int, block_bytes: int, zero_bytes: int | None
) -> None:
    assert scheme.blocks(in_features) == blocks
    assert scheme.codes_shape(7, in_features) == (7, blocks, block_bytes)
    assert scheme.scales_shape(7, in_features) == (7, blocks)
    assert scheme.zero_points_shape(7, in_features) == (None if zero_bytes is None else (7, zero_bytes))


def test_a_scheme_is_printed_for_people() -> None:
    assert str(QuantizationScheme(4, 32, True)) == "int4 block 32 symmetric"
    assert str(QuantizationScheme(8, 128, False)) == "int8 block 128 asymmetric"


def test_single_matrices_may_have_other_formats() -> None:
    four, eight = QuantizationScheme(4), QuantizationScheme(8)
    name = "model.layers.0.attn.qkv_proj"
    config = QuantizationConfig(four, None, eight, matrices={name: eight, "model.layers.1.mlp.down_proj": None})
    assert config.inside(name) == eight
    assert config.inside("model.layers.1.mlp.down_proj") is None
    assert config.inside("model.layers.1.attn.qkv_proj") == four


def test_changes_apply_to_single_matrices_too() -> None:
    four, eight = QuantizationScheme(4), QuantizationScheme(8)
    config = QuantizationConfig(four, four, four, matrices={"model.layers.0.attn.qkv_proj": eight, "float": None})
    changed = QuantizationOverrides(block_size=128, symmetric=False).applied_to(config)
    assert changed.matrices == {"model.layers.0.attn.qkv_proj": QuantizationScheme(8, 128, False), "float": None}
    assert set(QuantizationOverrides(bits=8).applied_to(config).matrices.values()) == {eight}


def test_the_float_model_has_no_formats() -> None:
    config = QuantizationConfig.none()
    assert (config.linear, config.embedding, config.lm_head) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "awq"}, "method is 'awq'; allowed: rtn, gptq"),
        ({"method": "GPTQ"}, "method is 'GPTQ'; allowed: rtn, gptq"),
        ({"method": "imported"}, "method is 'imported'; allowed: rtn, gptq"),
        ({"method": 1}, "method is 1; allowed: rtn, gptq"),
        ({"bits": 5}, "bits is 5; it must be one of 4, 8, or a float"),
        ({"bits": True}, "bits is True; it must be one of"),
        ({"bits": "4"}, "bits is '4'; it must be one of"),
        ({"bits": float("nan")}, "bits is nan; it must be a finite number"),
        ({"bits": float("inf")}, "bits is inf; it must be a finite number"),
        ({"block_size": 16}, "block_size is 16; it must be one of 32, 64, 128"),
        ({"block_size": 32.0}, "block_size is 32.0; it must be one of"),
        ({"embedding_bits": 4.0}, "embedding_bits is 4.0; it must be one of 4, 8"),
        ({"lm_head_bits": 16}, "lm_head_bits is 16; it must be one of 4, 8"),
        ({"symmetric": 1}, "symmetric is 1; it must be True or False or None"),
    ],
)
def test_changes_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizationOverrides(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "awq"}, "method is 'awq'; allowed: rtn, gptq, imported"),
        ({"method": None}, "method is None; allowed"),
        ({"mean_bits": "5"}, "mean_bits is '5'; it must be a finite number"),
        ({"mean_bits": float("nan")}, "mean_bits is nan"),
        ({"mean_bits": True}, "mean_bits is True"),
        ({"matrices": [1]}, r"matrices is \[1\]; it must be a mapping"),
        ({"matrices": {1: None}}, "it must be a mapping from names to formats"),
        ({"matrices": {"a": 4}}, r"matrices\['a'\] is 4; it must be QuantizationScheme, or None"),
        ({"method": "gptq", "linear": None}, "method is 'gptq', but linear is float: there is nothing to calibrate"),
        ({"method": "gptq", "matrices": {"a": None}}, "method is 'gptq', but a is float"),
    ],
)
def test_configurations_that_are_refused(changes: dict[str, Any], message: str) -> None:
    four = QuantizationScheme(4)
    with pytest.raises(ValueError, match=message):
        QuantizationConfig(**{"linear": four, "embedding": four, "lm_head": four, **changes})


def test_gptq_needs_layers_with_a_width() -> None:
    float_layers = QuantizationConfig(None, QuantizationScheme(8), QuantizationScheme(8))
    asked = QuantizationOverrides(method="gptq")
    with pytest.raises(UsageError, match="the method gptq was requested, but linear is float") as caught:
        asked.applied_to(float_layers)
    assert "--bits 4" in caught.value.hint
    one = QuantizationConfig(QuantizationScheme(4), None, None, matrices={"model.layers.1.mlp.down_proj": None})
    with pytest.raises(UsageError, match=r"but model\.layers\.1\.mlp\.down_proj is float"):
        asked.applied_to(one)
    wide = QuantizationOverrides(8, method="gptq").applied_to(float_layers)
    assert (wide.method, wide.linear) == ("gptq", QuantizationScheme(8))
    mean = QuantizationOverrides(5.5, method="gptq").applied_to(one)
    assert (mean.method, mean.mean_bits) == ("gptq", 5.5)
