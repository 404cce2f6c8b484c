"""How ``--bits`` and related options change a recipe's quantization."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.cli._quantization_options import quantization_arguments
from edgekit.errors import UsageError
from edgekit.scheme import QuantizationConfig, QuantizationOverrides, QuantizationScheme

RECIPE = QuantizationConfig(QuantizationScheme(4, 64, False), None, QuantizationScheme(8, 32, True))


def test_nothing_asked_for_changes_nothing() -> None:
    assert QuantizationOverrides().applied_to(RECIPE) == RECIPE
    assert quantization_arguments(QuantizationOverrides()) == ()


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
    changed = QuantizationOverrides(**options).applied_to(RECIPE)
    assert (changed.linear, changed.embedding, changed.lm_head) == expected
    assert changed.method == RECIPE.method


def test_a_mean_leaves_every_width_open() -> None:
    changed = QuantizationOverrides(bits=5.2, block_size=128).applied_to(RECIPE)
    assert changed.mean_bits == 5.2
    assert changed.linear == QuantizationScheme(4, 128, False)
    assert quantization_arguments(QuantizationOverrides(bits=5.2)) == ("--bits", "5.2")
    again = QuantizationOverrides(bits=8).applied_to(changed)
    assert again.mean_bits is None
    assert QuantizationOverrides(block_size=64).applied_to(changed).mean_bits == 5.2
    with pytest.raises(UsageError, match="chooses the widths"):
        QuantizationOverrides(bits=5.2, embedding_bits=4).applied_to(RECIPE)


def test_the_options_can_be_written_down_again() -> None:
    options = QuantizationOverrides(bits=4, block_size=128, symmetric=False, lm_head_bits=8)
    assert quantization_arguments(options) == (
        "--bits",
        "4",
        "--block-size",
        "128",
        "--asymmetric",
        "--lm-head-bits",
        "8",
    )


def test_a_rotation_that_was_asked_for() -> None:
    assert QuantizationOverrides(rotate=True).applied_to(RECIPE).rotate is True
    rotated = QuantizationOverrides(rotate=True).applied_to(RECIPE)
    assert QuantizationOverrides().applied_to(rotated) == rotated
    assert QuantizationOverrides(rotate=False).applied_to(rotated) == RECIPE
    assert quantization_arguments(QuantizationOverrides(bits=4, rotate=True)) == ("--bits", "4", "--rotate")
    assert quantization_arguments(QuantizationOverrides(rotate=False)) == ("--no-rotate",)


def test_each_method_has_its_preparation() -> None:
    scaled = replace(RECIPE, scale=True)
    assert QuantizationOverrides().applied_to(scaled) == scaled
    assert QuantizationOverrides(method="rtn").applied_to(scaled) == scaled
    gptq = QuantizationOverrides(method="gptq").applied_to(scaled)
    assert (gptq.scale, gptq.rotate) == (False, True)
    assert QuantizationOverrides(method="gptq", rotate=False).applied_to(scaled).rotate is False
    assert QuantizationOverrides(method="gptq", scale=True).applied_to(scaled).scale is True
    plain = QuantizationOverrides(method="gptq").applied_to(RECIPE)
    assert (plain.scale, plain.rotate) == (False, False), "a recipe that does neither has its reasons"


def test_the_method_asked_for_is_taken() -> None:
    assert QuantizationOverrides(method="gptq").applied_to(RECIPE).method == "gptq"
