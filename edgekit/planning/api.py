"""``edgekit.plan``: plans a model on a device, each given by name, by file or as an object."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..devices import DeviceProfile, load_device
from ..recipes import Recipe, load_recipe
from ..scheme import QuantizationConfig, QuantizationOverrides
from .plan import Plan, PlanOptions
from .planner import plan_recipe


def plan(
    model: str | Path | Recipe,
    device: str | Path | DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | QuantizationOverrides | None = None,
    candidates: Iterable[str | Path | Recipe] = (),
    *,
    devices: Iterable[str | Path | DeviceProfile] = (),
    options: PlanOptions | None = None,
) -> Plan:
    """Plan a model on a device: memory, speed, and alternatives when the plan is not acceptable.

    Args:
        model: A recipe, its name or its ``.toml`` file.
        device: A device profile, its name or alias, or its ``.toml`` file.
        context: Tokens to hold; None for the device's default, at most the recipe's maximum.
        quantization: A configuration that replaces the recipe's, or changes to it.
        candidates: Recipes to consider as a smaller model.
        devices: Devices to consider as another device.
        options: Engine, KV cache, prompt, power mode and limits.

    Raises:
        UnknownNameError: There is no such recipe, device, engine, KV cache type or power mode.
        RecipeError: The recipe file is invalid.
        DeviceProfileError: The device file is invalid, or this host's memory is unknown.
        ContextLengthError: ``context`` is below 1 or above the recipe's maximum.
        EngineError: No engine can run on the device.
        UsageError: No choice of widths has the quantization's ``mean_bits``.
        UnsupportedModelError: There is no family for a model that is not marked plan-only.
    """
    recipe = _recipe(model)
    if isinstance(quantization, QuantizationOverrides):
        quantization = quantization.applied_to(recipe.quantization)
    return plan_recipe(
        recipe,
        _device(device),
        context,
        quantization,
        [_recipe(candidate) for candidate in candidates],
        devices=[_device(each) for each in devices],
        options=options,
    )


def _recipe(model: str | Path | Recipe) -> Recipe:
    return model if isinstance(model, Recipe) else load_recipe(model)


def _device(device: str | Path | DeviceProfile) -> DeviceProfile:
    return device if isinstance(device, DeviceProfile) else load_device(device)
