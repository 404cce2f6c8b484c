"""``edgekit.plan``: plans whatever MODEL may be. A checkpoint is opened for it, but no weight is read or fetched."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..arguments import check_kind, check_truth, one_or_several
from ..devices import DeviceProfile
from ..planning import planner
from ..planning.choice import as_requested
from ..planning.plan import Plan, PlanOptions
from ..progress import Progress, no_progress
from ..recipes import Recipe, load_recipe
from ..scheme import QuantizationConfig, QuantizationOverrides
from .model import find_model, open_model
from .request import BuildRequest

Quantization = QuantizationConfig | QuantizationOverrides | None


def plannable(
    model: str | Path | Recipe,
    quantization: Quantization = None,
    progress: Progress = no_progress,
    reasoning: bool | None = None,
    lora: str | Path | Sequence[str | Path] = (),
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe to plan for a model, with the formats that a build would use.

    Args:
        model: What ``model.py`` describes.
        quantization: A configuration that replaces the recipe's, or changes to it.
        progress: Called with the bytes of a repository's small files.
        reasoning: Whether the model thinks before it answers; None for what the recipe or the checkpoint says.
        lora: Folders or repositories of LoRA adapters that a build would merge.

    Returns:
        The recipe, and notes about how the name and the checkpoint were read.

    Raises:
        ValueError: A value has another type.
        EdgekitError: There is no such model, its checkpoint cannot be used, or its codes would have to be changed.
    """
    check_truth("reasoning", reasoning, optional=True)
    check_kind("quantization", quantization, QuantizationConfig, QuantizationOverrides)
    lora = one_or_several("lora", lora)
    with ExitStack() as stack:
        opened = open_model(find_model(model), stack, progress)
        recipe, notes, checkpoint = opened.recipe.with_reasoning(reasoning), opened.notes, opened.checkpoint
        if lora:
            from .adapters import adapted, merge, open_adapters  # imports numpy

            adapters = open_adapters(lora, stack, progress)
            recipe = adapted(recipe, adapters)
            checkpoint = None if checkpoint is None else merge(checkpoint, adapters)
        asked = recipe.with_quantization(quantization).quantization
        if checkpoint is not None:
            from .conversation import plan_conversation  # imports numpy
            from .inputs import carried_quantization, notes_of
            from .same_model import stored_head

            recipe, changed = stored_head(recipe, checkpoint)
            asked = carried_quantization(asked, quantization, recipe.quantization, checkpoint)
            conversation = plan_conversation(BuildRequest(), recipe, checkpoint)
            notes = (*notes, *changed, *notes_of(checkpoint), *conversation.notes)
        return dataclasses.replace(recipe, quantization=asked), notes


def plan(
    model: str | Path | Recipe,
    device: str | Path | DeviceProfile,
    context: int | None = None,
    quantization: Quantization = None,
    candidates: Iterable[str | Path | Recipe] = (),
    *,
    devices: Iterable[str | Path | DeviceProfile] = (),
    options: PlanOptions | None = None,
    reasoning: bool | None = None,
    lora: str | Path | Sequence[str | Path] = (),
) -> Plan:
    """Plan a model on a device: memory, speed, and alternatives when the plan is not acceptable.

    Args:
        model: A recipe, its name, alias or ``.toml`` file; a checkpoint's folder or ``.gguf`` file; or a Hugging Face
            repository, of which only the small files are fetched.
        device, context, quantization, candidates, devices, options, reasoning: See
            :func:`edgekit.planning.planner.plan`.
        lora: Folders or repositories of LoRA adapters that a build would merge.

    Raises:
        ValueError: A value has another type.
        EdgekitError: As for :func:`edgekit.planning.planner.plan`, or the checkpoint cannot be used.
    """
    recipe, notes = plannable(model, quantization, reasoning=reasoning, lora=lora)
    smaller = as_requested(map(load_recipe, one_or_several("candidates", candidates)), quantization, reasoning)
    planned = planner.plan(recipe, device, context, candidates=smaller, devices=devices, options=options)
    return dataclasses.replace(planned, notes=notes)
