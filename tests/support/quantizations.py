"""Quantization settings of builds without a recipe, changed for a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgekit.recipes import load_recipe
from edgekit.scheme import QuantizationConfig


def default_quantization(tied: bool = True, **changes: Any) -> QuantizationConfig:
    """What a build of a safetensors checkpoint without a recipe uses, with some fields changed.

    Args:
        tied: Whether the model's embedding and lm_head share a table.
        changes: Fields of QuantizationConfig.
    """
    recipe = load_recipe("smollm2-135m" if tied else "deepseek-r1-distill-qwen-1.5b")
    return replace(recipe.quantization, scale=True, **changes)
