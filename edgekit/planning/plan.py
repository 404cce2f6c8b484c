"""Does a model fit a device, how fast will it be, and if not, what does: recipe and profile in, :class:`Plan` out.

Nothing is read or fetched here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ..devices.profile import DeviceProfile
from ..errors import CheckpointError, ContextLengthError, RecipeError, UnknownNameError, UsageError, nearest
from ..layout import DataLayout, plan_layout
from ..models import families, spec_from_config
from ..models.spec import ModelSpec, untied
from ..recipes.recipe import Recipe
from ..scheme import QuantizationConfig
from .budget import Limit, Wanted, find_limits, usable_memory
from .engine_memory import native_memory, ort_memory, stated_memory, tokenizer_bytes
from .hardware import CUDA, ENGINES, Hardware, default_engine, hardware_of
from .latency import Latency, Predictor
from .memory import STATED_BITS_PER_WEIGHT, Dimensions, MemoryPlan, WeightBytes, kv_cache_bytes, weight_groups
from .offers import Offer, find_offers
from .widths import choose_widths
from .work import Work, stated_work, work_of

PROMPT_TOKENS = 128  # of the question that the first token answers: a paragraph
NATIVE_KV_TYPES = ("float16", "int8")


@dataclass(frozen=True)
class Options:
    """What a plan is made for.

    Attributes:
        engine: ``native`` or ``ort``; None: what ``auto`` takes on the device.
        kv_type: What keys and values are kept in; None: what the engine keeps by itself.
        prompt_tokens: Tokens of the prompt before the first token.
        power_mode: The device's; None: its full power.
        wanted: Limits the user named.

    Raises:
        UnknownNameError: No such engine.
        ValueError: ``prompt_tokens`` below 1.
    """

    engine: str | None = None
    kv_type: str | None = None
    prompt_tokens: int = PROMPT_TOKENS
    power_mode: str | None = None
    wanted: Wanted = field(default_factory=Wanted)

    def __post_init__(self) -> None:
        if self.engine is not None and self.engine not in ENGINES:
            raise UnknownNameError(f"there is no engine {self.engine!r}; {nearest(self.engine, ENGINES)}")
        if self.prompt_tokens < 1:
            raise ValueError(f"prompt_tokens is {self.prompt_tokens}; it must be at least 1")


@dataclass(frozen=True)
class Plan:
    """What a model needs on a device and how fast it will be there.

    ``usable_source`` says where ``usable_bytes`` is from; ``plan_only`` why the model cannot be built, or is empty;
    ``limits`` how the speed stands to what is wanted; ``offers`` is empty when it fits and keeps the user's limits.
    """

    model: str
    device: str
    context: int
    activation_type: str
    engine: str
    kv_type: str
    quantization: QuantizationConfig
    memory: MemoryPlan
    latency: Latency
    predictor: Predictor
    limits: tuple[Limit, ...]
    usable_bytes: int
    usable_source: str
    bits_per_weight: float
    power_mode: str | None = None
    plan_only: str = ""
    offers: tuple[Offer, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the memory is enough, while loading too."""
        return self.memory.peak <= self.usable_bytes

    @property
    def acceptable(self) -> bool:
        """Whether it fits and is expected to keep every limit the user named."""
        return self.fits and not any(limit.refused for limit in self.limits)

    def to_json(self) -> dict[str, Any]:
        """The ``plan`` object of the command line."""
        latency = self.latency
        intervals = {
            key: interval.to_json() if interval else None
            for key, interval in (
                ("ttft_s", latency.ttft_s),
                ("decode_tok_s", latency.decode_tok_s),
                ("decode_full_tok_s", latency.decode_full_tok_s),
                ("sustained_tok_s", latency.sustained_tok_s),
            )
        }
        return {
            "model": self.model,
            "device": self.device,
            "context": self.context,
            "fits": self.fits,
            "memory_bytes": self.memory.to_json(),
            "load_peak_bytes": self.memory.load_peak,
            "file_bytes": self.memory.file_bytes,
            "usable_bytes": self.usable_bytes,
            "usable_source": self.usable_source,
            "bits_per_weight": self.bits_per_weight,
            "activation_type": self.activation_type,
            "engine": self.engine,
            "kv_type": self.kv_type,
            "power_mode": self.power_mode,
            "prompt_tokens": latency.prompt_tokens,
            **intervals,
            "load_s": {name: float(f"{seconds:.3g}") for name, seconds in latency.load_s},
            "calibrated": latency.calibrated,
            "budget": {limit.name: limit.to_json() for limit in self.limits},
            "plan_only": self.plan_only or None,
            "offers": [offer.to_json() for offer in self.offers],
        }


def plan(
    recipe: Recipe,
    device: DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | None = None,
    candidates: Iterable[Recipe] = (),
    *,
    devices: Iterable[DeviceProfile] = (),
    options: Options | None = None,
) -> Plan:
    """Plan a model on a device.

    Args:
        recipe: The model.
        device: Where it is to run.
        context: Tokens to hold; by default the device's, at most the recipe's.
        quantization: Formats; by default the recipe's. Widths that are still to be chosen are planned as a typical
            model's.
        candidates: Recipes to look among for a smaller model when this one does not do.
        devices: Devices to look among for another when this one does not do.
        options: Engine, KV cache, prompt, power mode, limits.

    Raises:
        ContextLengthError: ``context`` is below 1 or above what the recipe allows.
        RecipeError: The recipe's ``[config]`` cannot be understood.
        UsageError: No choice of widths comes to the quantization's ``mean_bits``.
        UnknownNameError: The engine cannot run there, keeps no such KV cache, or the device has no such power mode.
        UnsupportedModelError: No family for a model that is not marked plan-only.
    """
    options = options or Options()
    asked = plan_without_offers(recipe, device, context, quantization, options)
    if asked.acceptable:
        return asked
    return replace(asked, offers=find_offers(asked, recipe, device, candidates, devices, options, draft))


def plan_without_offers(
    recipe: Recipe,
    device: DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | None = None,
    options: Options | None = None,
) -> Plan:
    """As :func:`plan`, without looking for what would do instead: for tables of many."""
    if context is None:
        context = min(device.default_context, recipe.max_context)
    if not 1 <= context <= recipe.max_context:
        raise ContextLengthError(
            f"planning {recipe.name}: a context of {context} tokens was asked for; allowed: 1 to {recipe.max_context}"
        )
    return draft(recipe, device, context, quantization or recipe.quantization, options or Options())


def draft(
    recipe: Recipe, device: DeviceProfile, context: int, quantization: QuantizationConfig, options: Options
) -> Plan:
    """The plan without offers."""
    engine = options.engine or default_engine(device)
    kind = device.activation_type
    kv_type = _kv_type(engine, kind, options.kv_type)
    hardware = hardware_of(device, engine, options.power_mode)
    model = _model(recipe, quantization, kind)
    if model is None:
        memory, work, bits_per_weight, cache = _stated(recipe, device, engine, context, kv_type)
    else:
        memory = _memory(model, device, engine, context, kv_type, hardware)
        work, cache = model.work, kv_cache_bytes(model.dimensions, 1, kv_type)
        bits_per_weight = model.weights.bits_per_weight
    predictor = Predictor(work, hardware, engine, cache)
    latency = predictor.predict(context, min(options.prompt_tokens, context), memory.file_bytes)
    usable, source = usable_memory(device, options.wanted)
    return Plan(
        model=recipe.name,
        device=device.name,
        context=context,
        activation_type=kind,
        engine=engine,
        kv_type=kv_type,
        quantization=quantization,
        memory=memory,
        latency=latency,
        predictor=predictor,
        limits=find_limits(device, options.wanted, latency.ttft_s, latency.decode_full_tok_s),
        usable_bytes=usable,
        usable_source=source,
        bits_per_weight=bits_per_weight,
        power_mode=options.power_mode,
        plan_only=recipe.plan_only,
    )


def with_artifact(planned: Plan, data_bytes: int, tokenizer_file_bytes: int) -> Plan:
    """The plan again with the sizes of what was built.

    Args:
        planned: Before the build.
        data_bytes: Of ``model.onnx.data``.
        tokenizer_file_bytes: Of ``tokenizer.json``.
    """
    memory = planned.memory
    tokenizer = tokenizer_bytes(0, tokenizer_file_bytes)
    larger, peak = data_bytes - memory.file_bytes, memory.load_peak + tokenizer - memory.tokenizer
    if planned.engine == "ort":  # native reads no matrix while it loads
        peak += larger
    memory = replace(memory, weights=memory.weights + larger, tokenizer=tokenizer, load_peak=peak)
    return replace(planned, memory=memory)


def memory_by_engine(recipe: Recipe, device: DeviceProfile, planned: Plan) -> dict[str, int]:
    """Bytes each engine takes at most, the planned one and the other: whoever has the artifact may choose.

    Args:
        recipe, device: Of the plan.
        planned: After :func:`with_artifact`.
    """
    found = {planned.engine: planned.memory.peak}
    for engine in ENGINES:
        if engine != planned.engine:
            other = draft(recipe, device, planned.context, planned.quantization, Options(engine))
            saved = other.memory.tokenizer - planned.memory.tokenizer
            found[engine] = other.memory.peak - saved
    return found


def _kv_type(engine: str, activation_type: str, asked: str | None) -> str:
    """What keys and values are kept in: the native engine chooses, onnxruntime has the graph's type."""
    allowed = NATIVE_KV_TYPES if engine == "native" else (activation_type,)
    if asked is not None and asked not in allowed:
        raise UnknownNameError(
            f"the engine {engine} keeps no keys and values in {asked}; allowed: {', '.join(allowed)}"
        )
    return asked or allowed[0]


@dataclass(frozen=True)
class _Model:
    """What of a plan depends on the model and its formats alone."""

    dimensions: Dimensions
    layout: DataLayout
    weights: WeightBytes
    work: Work


# Offers plan one model many times, and a layout of a thousand matrices takes some milliseconds.
@lru_cache(maxsize=64)
def _model(recipe: Recipe, quantization: QuantizationConfig, activation_type: str) -> _Model | None:
    """None for a plan-only recipe of a family edgekit has no file for."""
    spec = _spec(recipe)
    if spec is None:
        return None
    if quantization.rotate:
        spec = untied(spec)
    if quantization.mean_bits is not None:
        try:
            quantization = choose_widths(spec, quantization, activation_type)
        except UsageError as error:
            raise UsageError(f"{recipe.name}: {error.message}", error.hint) from None
    layout = plan_layout(spec, quantization, activation_type, recipe.max_context)
    return _Model(Dimensions.of_spec(spec), layout, weight_groups(spec, layout), work_of(spec, layout, quantization))


def _memory(
    model: _Model, device: DeviceProfile, engine: str, context: int, kv_type: str, hardware: Hardware
) -> MemoryPlan:
    parts = (model.dimensions, model.layout, model.weights)
    if engine == "native":
        return native_memory(*parts, context=context, kv_type=kv_type, threads=hardware.cores)
    return ort_memory(*parts, context=context, accelerator_bytes=_accelerator_bytes(device))


def _accelerator_bytes(device: DeviceProfile) -> int | None:
    """What CUDA's libraries take; None where the processor runs the graph."""
    if device.execution_providers[0] != CUDA:
        return None
    runtime = device.accelerator.runtime if device.accelerator else None
    return runtime.value if runtime else 0


def _stated(
    recipe: Recipe, device: DeviceProfile, engine: str, context: int, kv_type: str
) -> tuple[MemoryPlan, Work, float, int]:
    """Memory, work, bits per weight and bytes of a position of a model edgekit has no graph for."""
    weights = round(recipe.parameters * STATED_BITS_PER_WEIGHT / 8)
    try:
        dimensions = Dimensions.of_latent_attention(recipe.config)
        work = stated_work(recipe.config, dimensions, STATED_BITS_PER_WEIGHT)
    except KeyError as missing:
        raise RecipeError(f"recipe {recipe.name}: [config] lacks {missing.args[0]}") from None
    accelerator = _accelerator_bytes(device) if engine == "ort" else None
    memory = stated_memory(
        dimensions, weights, engine=engine, context=context, kv_type=kv_type, accelerator_bytes=accelerator
    )
    return memory, work, STATED_BITS_PER_WEIGHT, kv_cache_bytes(dimensions, 1, kv_type)


def _spec(recipe: Recipe) -> ModelSpec | None:
    """The model's tensors; None for a plan-only recipe of a family edgekit has no file for."""
    if recipe.plan_only and recipe.config["model_type"] not in families():
        return None
    try:
        return spec_from_config(recipe.config)
    except CheckpointError as error:
        # The same words serve a checkpoint's own file and the recipe's copy of it: say which of the two it was.
        message = f"recipe {recipe.name}: {error.message.replace('config.json', '[config]')}"
        raise (RecipeError if type(error) is CheckpointError else type(error))(message, error.hint) from None
