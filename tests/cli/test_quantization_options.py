"""What ``--bits`` and its companions make of a recipe's quantization."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.cli._quantization_options import QuantizationOptions
from edgekit.errors import UsageError
from edgekit.scheme import QuantizationConfig, QuantizationScheme

RECIPE = QuantizationConfig(QuantizationScheme(4, 64, False), None, QuantizationScheme(8, 32, True))


def test_nothing_asked_for_changes_nothing() -> None:
    assert QuantizationOptions().apply(RECIPE) == RECIPE
    assert QuantizationOptions().arguments() == ()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"bits": 8}, (QuantizationScheme(8, 64, False), None, QuantizationScheme(8, 32, True))),
        ({"lm_head_bits": 4}, (QuantizationScheme(4, 64, False), None, QuantizationScheme(4, 32, True))),
        ({"embedding_bits": 8}, (RECIPE.linear, QuantizationScheme(8, 32, True), RECIPE.lm_head)),
        ({"block_size": 128}, (QuantizationScheme(4, 128, False), None, QuantizationScheme(8, 128, True))),
        ({"symmetric": True}, (QuantizationScheme(4, 64, True), None, QuantizationScheme(8, 32, True))),
        ({"symmetric": False}, (QuantizationScheme(4, 64, False), None, QuantizationScheme(8, 32, False))),
    ],
)
def test_each_option(options: dict[str, int], expected: tuple[QuantizationScheme | None, ...]) -> None:
    changed = QuantizationOptions(**options).apply(RECIPE)
    assert (changed.linear, changed.embedding, changed.lm_head) == expected
    assert changed.method == RECIPE.method


def test_a_mean_leaves_every_width_open() -> None:
    changed = QuantizationOptions(bits=5.2, block_size=128).apply(RECIPE)
    assert changed.mean_bits == 5.2
    assert changed.linear == QuantizationScheme(4, 128, False)
    assert QuantizationOptions(bits=5.2).arguments() == ("--bits", "5.2")
    again = QuantizationOptions(bits=8).apply(changed)
    assert again.mean_bits is None
    assert QuantizationOptions(block_size=64).apply(changed).mean_bits == 5.2
    with pytest.raises(UsageError, match="chooses the widths"):
        QuantizationOptions(bits=5.2, embedding_bits=4).apply(RECIPE)


def test_the_options_can_be_written_down_again() -> None:
    options = QuantizationOptions(bits=4, block_size=128, symmetric=False, lm_head_bits=8)
    assert options.arguments() == ("--bits", "4", "--lm-head-bits", "8", "--block-size", "128", "--asymmetric")


def test_a_rotation_that_was_asked_for() -> None:
    assert QuantizationOptions(rotate=True).apply(RECIPE).rotate is True
    rotated = QuantizationOptions(rotate=True).apply(RECIPE)
    assert QuantizationOptions().apply(rotated) == rotated
    assert QuantizationOptions(rotate=False).apply(rotated) == RECIPE
    assert QuantizationOptions(bits=4, rotate=True).arguments() == ("--bits", "4", "--rotate")
    assert QuantizationOptions(rotate=False).arguments() == ("--no-rotate",)


def test_each_method_has_its_preparation() -> None:
    scaled = replace(RECIPE, scale=True)
    assert QuantizationOptions().apply(scaled) == scaled
    assert QuantizationOptions(method="rtn").apply(scaled) == scaled
    gptq = QuantizationOptions(method="gptq").apply(scaled)
    assert (gptq.scale, gptq.rotate) == (False, True)
    assert QuantizationOptions(method="gptq", rotate=False).apply(scaled).rotate is False
    assert QuantizationOptions(method="gptq", scale=True).apply(scaled).scale is True
    plain = QuantizationOptions(method="gptq").apply(RECIPE)
    assert (plain.scale, plain.rotate) == (False, False), "a recipe that does neither has its reasons"


def test_the_method_asked_for_is_taken() -> None:
    assert QuantizationOptions(method="gptq").apply(RECIPE).method == "gptq"
