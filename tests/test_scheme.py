"""Formats of quantized weights: the values that are allowed, and the shapes that they imply."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.scheme import QuantizationConfig, QuantizationScheme


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


def test_the_float_model_has_no_formats() -> None:
    config = QuantizationConfig.none()
    assert (config.linear, config.embedding, config.lm_head) == (None, None, None)
