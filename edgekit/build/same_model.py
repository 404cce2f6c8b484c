"""Compares a checkpoint with the recipe that was planned: they must be the same function, however numbers are written.

GGUF stores floats in 32 bits, and converters write 9.999999747e-06 for 1e-5, so floats are compared as float32.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any

from ..checkpoint.base import Checkpoint
from ..errors import TensorMismatchError
from ..models import ModelSpec, spec_from_config
from ..models.rope import Rope
from ..recipes.recipe import Recipe

_HINT = "leave MODEL out to build a checkpoint that has no recipe: edgekit build --checkpoint PATH"
_APART = {"layers", "rope", "context_length", "tied_embeddings", "embedding", "lm_head", "copied_head"}
# Frequencies that were computed in float32, as converters to GGUF do, differ in the last bits of each step.
_FREQUENCY_TOLERANCE = 1e-5


def stored_head(recipe: Recipe, opened: Checkpoint) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with the checkpoint's kind of lm_head: a GGUF file of a tied model may store the table twice.

    Args:
        recipe: What is to be built.
        opened: The checkpoint.

    Returns:
        The recipe, changed only if the checkpoint differs, and a note about it unless the checkpoint has one.
    """
    key = "tie_word_embeddings"
    planned, found = bool(recipe.config.get(key, False)), bool(opened.config.get(key, False))
    if planned == found:
        return recipe, ()
    table = int(recipe.config.get("vocab_size") or 0) * int(recipe.config.get("hidden_size") or 0)
    parameters = max(recipe.parameters + (-table if found else table), 1)
    changed = dataclasses.replace(recipe, parameters=parameters, config={**recipe.config, key: found})
    if any("lm_head" in note or "output.weight" in note for note in opened.notes):
        return changed, ()
    has = "uses the embedding as lm_head" if found else "stores an lm_head of its own, which is used"
    says = "tied" if planned else "not tied"
    return changed, (f"the recipe {recipe.name} says that the embedding is {says}, but the checkpoint {has}",)


def checked_spec(opened: Checkpoint, recipe: Recipe, origin: str) -> ModelSpec:
    """Read the checkpoint's model spec and compare it with the recipe's.

    Args:
        opened: The checkpoint.
        recipe: What was planned, after :func:`stored_head`.
        origin: Where the checkpoint is from, for the error message.

    Raises:
        TensorMismatchError: The checkpoint is of another model than the recipe.
    """
    spec, planned = spec_from_config(opened.config), spec_from_config(recipe.config)

    def differs(what: str, found: Any, expected: Any) -> TensorMismatchError:
        return TensorMismatchError(f"{what} of {origin} is {found}; the recipe {recipe.name} says {expected}", _HINT)

    for field in dataclasses.fields(spec):
        found, expected = getattr(spec, field.name), getattr(planned, field.name)
        if field.name not in _APART and not same_number(found, expected):
            raise differs(field.name, found, expected)
    if spec.context_length < recipe.max_context:
        raise differs("context_length", spec.context_length, f"max_context = {recipe.max_context}")
    for one, other in zip(spec.layers[0].linears, planned.layers[0].linears, strict=True):
        if (one.bias is None) is not (other.bias is None):
            raise differs(f"the bias of {one.role}", *("absent" if x.bias is None else "present" for x in (one, other)))
    return dataclasses.replace(spec, rope=_checked_rope(spec.rope, planned.rope, differs))


def same_number(found: Any, expected: Any) -> bool:
    """Whether two values are equal; floats as float32."""
    if isinstance(found, float) and isinstance(expected, float):
        return found == expected or _float32(found) == _float32(expected)
    return bool(found == expected)


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<d", value)


def _checked_rope(found: Rope, planned: Rope, differs: Any) -> Rope:
    """The checkpoint's rotary embedding, with the recipe's attn_factor if it lacks one, as GGUF files do."""
    angles = zip(found.inverse_frequencies(), planned.inverse_frequencies(), strict=True)
    if not all(math.isclose(a, b, rel_tol=_FREQUENCY_TOLERANCE) for a, b in angles):
        raise differs("the rotary embedding", _described(found), _described(planned))
    if same_number(found.attention_factor, planned.attention_factor):
        return found
    if found.attn_factor is None and planned.attn_factor is not None:
        return planned
    raise differs("the attention factor", f"{found.attention_factor:.8g}", f"{planned.attention_factor:.8g}")


def _described(rope: Rope) -> str:
    factor = f", factor {rope.factor:g}" if rope.scaling not in ("default", "factors") else ""
    return f"{rope.scaling}, theta {rope.theta:g}{factor}"
