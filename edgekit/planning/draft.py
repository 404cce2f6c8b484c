"""Drafts one plan: a recipe, a device and options in, memory and latency out. ``planner.py`` adds the alternatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from ..arguments import check_whole
from ..devices.profile import DeviceProfile
from ..errors import CheckpointError, ContextLengthError, EngineError, RecipeError, UnknownNameError, UsageError
from ..layout import plan_layout
from ..models import families, spec_from_config
from ..models.spec import ModelSpec, untied
from ..recipes.recipe import Recipe
from ..schema.config import check_config
from ..scheme import QuantizationConfig
from .budget import find_limits, usable_memory
from .engine_choice import EnginePlan, in_order, reason
from .engines import engines_for, find_engine
from .hardware import accelerator_bytes, hardware_of, power_mode_note
from .kv_choice import because_it_fits
from .latency import Predictor
from .memory import Dimensions, MemoryPlan, kv_cache_bytes, tokenizer_bytes, weight_groups
from .plan import PROMPT_TOKENS, Plan, PlanOptions
from .planned_engine import EngineSetup, PlannedEngine
from .stated import STATED_BITS_PER_WEIGHT, stated_dimensions, stated_memory, stated_work
from .widths import choose_widths
from .work import Work, work_of

_PARAMETERS_OFF = 1.25  # names of models round their numbers: Qwen2.5-7B has 7.6e9


def draft(
    recipe: Recipe,
    device: DeviceProfile,
    context: int | None = None,
    quantization: QuantizationConfig | None = None,
    options: PlanOptions | None = None,
) -> Plan:
    """Plan a model on a device, without alternatives.

    Args:
        recipe: The model.
        device: Where it runs.
        context: Tokens to hold; None for the device's default, at most the recipe's maximum.
        quantization: Its formats; None for the recipe's. Widths that are still to be chosen are planned as for a
            typical model.
        options: Engine, KV cache, prompt, power mode and limits.

    Raises:
        ContextLengthError: ``context`` is below 1 or above the recipe's maximum, or the requested prompt is longer.
        EngineError: The requested engine cannot run on the device, or none can.
        RecipeError: The recipe's ``[config]`` is invalid.
        UnknownNameError: The engine does not have this type of KV cache, or the device has no such power mode.
        UnsupportedModelError: There is no family for a model that is not marked plan-only.
        UsageError: No choice of widths has the quantization's ``mean_bits``, or ``headless`` was requested of a device
            whose profile does not say what that leaves.
    """
    quantization, options = quantization or recipe.quantization, options or PlanOptions()
    context = _planned_context(recipe, device, context, options.prompt_tokens)
    model = _model(recipe, quantization, device.activation_type)
    usable, source = usable_memory(device, options.limits, options.headless)
    job = _Job(model, device, context, options, usable)
    chosen, because, engines = job.choice()
    return Plan(
        model=recipe.name,
        device=device.name,
        context=context,
        activation_type=device.activation_type,
        engine=chosen.engine,
        kv_type=chosen.kv_type,
        kv_because=chosen.kv_because,
        quantization=quantization,
        memory=chosen.memory,
        latency=chosen.latency,
        predictor=job.predictor(find_engine(chosen.engine), chosen.kv_type),
        limits=find_limits(device, options.limits, chosen.latency.ttft_s, chosen.latency.decode_full_tok_s),
        usable_bytes=usable,
        usable_source=source,
        bits_per_weight=model.bits_per_weight,
        reasoning=recipe.reasoning,
        reasoning_signs=recipe.reasoning_signs or ("the recipe says so",),
        power_mode=options.power_mode,
        headless=options.headless,
        plan_only=recipe.plan_only,
        engines=engines,
        engine_because=because,
        mode_note=power_mode_note(device, chosen.processor, options.power_mode),
    )


def _planned_context(recipe: Recipe, device: DeviceProfile, context: int | None, prompt_tokens: int | None) -> int:
    """The context that was requested, or the device's, which must hold the prompt if one was requested."""
    if context is None:
        context = min(device.default_context, recipe.max_context)
    check_whole("context", context)
    if not 1 <= context <= recipe.max_context:
        raise ContextLengthError(
            f"planning {recipe.name}: a context of {context} tokens was requested; allowed: 1 to {recipe.max_context}"
        )
    if prompt_tokens is not None and prompt_tokens > context:
        raise ContextLengthError(
            f"planning {recipe.name}: a prompt of {prompt_tokens} tokens was requested, which does not fit a context "
            f"of {context} tokens",
            hint=longer_context(prompt_tokens, recipe.max_context),
        )
    return context


def longer_context(prompt_tokens: int, longest: int) -> str:
    """What to do about a prompt that does not fit.

    Args:
        prompt_tokens: Its length.
        longest: The longest context that can be planned.
    """
    if prompt_tokens > longest:
        return f"the longest context, and so the longest prompt, has {longest} tokens"
    return f"plan a longer context with --context; allowed: up to {longest}"


def with_artifact(planned: Plan, data_bytes: int, tokenizer_file_bytes: int) -> Plan:
    """The plan with the sizes of the files that were built.

    Args:
        planned: The plan before the build.
        data_bytes: Size of ``model.onnx.data``.
        tokenizer_file_bytes: Size of ``tokenizer.json``.
    """
    engines = tuple(
        replace(each, memory=_built(each.engine, each.memory, data_bytes, tokenizer_file_bytes))
        for each in planned.engines
    )
    memory = _built(planned.engine, planned.memory, data_bytes, tokenizer_file_bytes)
    return replace(planned, memory=memory, engines=engines)


def _built(engine: str, memory: MemoryPlan, data_bytes: int, tokenizer_file_bytes: int) -> MemoryPlan:
    tokenizer, larger = tokenizer_bytes(0, tokenizer_file_bytes), data_bytes - memory.file_bytes
    loading = memory.loading + (larger if find_engine(engine).reads_weights_to_load else 0)
    return replace(memory, weights=memory.weights + larger, tokenizer=tokenizer, loading=loading)


def memory_by_engine(recipe: Recipe, device: DeviceProfile, planned: Plan) -> dict[str, int]:
    """Peak memory in bytes with each engine that runs on the device; whoever has the artifact may choose any of them.

    With an engine other than the plan's, keys and values have the type that the engine takes by itself.

    Args:
        recipe, device: Those of the plan.
        planned: The plan after :func:`with_artifact`.
    """
    found = {planned.engine: planned.memory.peak}
    for name in sorted(engine.name for engine in engines_for(device)):
        if name != planned.engine:
            own = find_engine(name).kv_types(device.activation_type)[0]
            other = draft(recipe, device, planned.context, planned.quantization, PlanOptions(name, own))
            saved = other.memory.tokenizer - planned.memory.tokenizer
            found[name] = other.memory.peak - saved
    return found


def _kv_type(engine: PlannedEngine, activation_type: str, asked: str | None) -> str:
    """The type of keys and values: the one requested, otherwise the engine's default."""
    allowed = engine.kv_types(activation_type)
    if asked is not None and asked not in allowed:
        raise UnknownNameError(
            f"the engine {engine.name} does not support a KV cache in {asked}; allowed: {', '.join(allowed)}"
        )
    return asked or allowed[0]


@dataclass(frozen=True)
class _Model:
    """The part of a plan that depends only on the model and its formats. ``memory`` is that with an engine."""

    dimensions: Dimensions
    work: Work
    bits_per_weight: float
    memory: Callable[[PlannedEngine, EngineSetup], MemoryPlan]


@dataclass(frozen=True)
class _Job:
    """What the plans of one model with each engine have in common."""

    model: _Model
    device: DeviceProfile
    context: int
    options: PlanOptions
    usable_bytes: int

    def engines(self) -> tuple[EnginePlan, ...]:
        """The device's engines that support the request, in the order in which ``auto`` takes them.

        Raises:
            EngineError: No engine runs on the device.
            UnknownNameError: No engine of the device has the requested KV cache.
        """
        found = engines_for(self.device)
        if not found:
            raise EngineError(f"no engine runs on {self.device.name}")
        asked = self.options.kv_type
        able = [each for each in found if asked is None or asked in each.kv_types(self.device.activation_type)]
        if not able:
            _kv_type(found[0], self.device.activation_type, asked)
        return in_order([self.engine(each) for each in able])

    def choice(self) -> tuple[EnginePlan, str, tuple[EnginePlan, ...]]:
        """The engine of the plan, why it is that one, and all engines, as for :meth:`engines`.

        Raises:
            EngineError: The requested engine cannot run on the device.
        """
        engines = self.engines()
        if self.options.engine is None:
            return engines[0], reason(engines), engines
        wanted = find_engine(self.options.engine)
        if wanted.preference(self.device) is None:
            allowed = ", ".join(sorted(engine.name for engine in engines_for(self.device)))
            raise EngineError(f"the engine {wanted.name} cannot run on {self.device.name}; allowed: {allowed}")
        chosen = self.engine(wanted)
        if chosen.engine not in {each.engine for each in engines}:
            engines = (*engines, chosen)
        return chosen, "it was requested", engines

    def engine(self, engine: PlannedEngine) -> EnginePlan:
        """The model with one engine; unless requested, keys and values get a smaller type where needed."""
        found = self._with_cache(engine, _kv_type(engine, self.device.activation_type, self.options.kv_type))
        if found.fits or self.options.kv_type is not None:
            return found
        because = because_it_fits(found)
        for smaller in engine.kv_types(self.device.activation_type)[1:]:
            found = replace(self._with_cache(engine, smaller), kv_because=because)
            if found.fits:
                break
        return found

    def _with_cache(self, engine: PlannedEngine, kv_type: str) -> EnginePlan:
        predictor = self.predictor(engine, kv_type)
        setup = EngineSetup(
            context=self.context,
            kv_type=kv_type,
            threads=predictor.hardware.cores,
            accelerator_bytes=accelerator_bytes(self.device, engine),
        )
        memory = self.model.memory(engine, setup)
        prompt_tokens = min(self.options.prompt_tokens or PROMPT_TOKENS, self.context)
        return EnginePlan(
            engine=engine.name,
            preference=engine.preference(self.device) or 0,
            processor=predictor.hardware.processor,
            kv_type=kv_type,
            memory=memory,
            usable_bytes=self.usable_bytes,
            latency=predictor.predict(self.context, prompt_tokens, memory.file_bytes),
            needs=engine.needs(self.device),
        )

    def predictor(self, engine: PlannedEngine, kv_type: str) -> Predictor:
        """Predicts the speed with one engine and type of keys and values."""
        hardware = hardware_of(self.device, engine, self.options.power_mode)
        return Predictor(self.model.work, hardware, engine, kv_cache_bytes(self.model.dimensions, 1, kv_type))


# Alternatives plan one model many times, and the layout of a thousand matrices takes some milliseconds.
@lru_cache(maxsize=64)
def _model(recipe: Recipe, quantization: QuantizationConfig, activation_type: str) -> _Model:
    spec = _spec(recipe)
    if spec is None:
        return _stated_model(recipe)
    if quantization.rotate:
        spec = untied(spec)
    if quantization.mean_bits is not None:
        try:
            quantization = choose_widths(spec, quantization, activation_type)
        except UsageError as error:
            raise UsageError(f"{recipe.name}: {error.message}", error.hint) from None
    dimensions, layout = Dimensions.of_spec(spec), plan_layout(spec, quantization, activation_type, recipe.max_context)
    weights = weight_groups(spec, layout)
    return _Model(
        dimensions,
        work_of(spec, layout, quantization),
        weights.bits_per_weight,
        lambda engine, setup: engine.memory(dimensions, layout, weights, setup),
    )


def _stated_model(recipe: Recipe) -> _Model:
    """A model that edgekit has no graph for."""
    bits = STATED_BITS_PER_WEIGHT
    weights = round(recipe.parameters * bits / 8)
    try:
        dimensions = stated_dimensions(recipe.config)
        work = stated_work(recipe.config, dimensions, bits)
    except KeyError as missing:
        raise RecipeError(f"recipe {recipe.name}: [config] lacks {missing.args[0]}") from None
    return _Model(
        dimensions,
        work,
        STATED_BITS_PER_WEIGHT,
        lambda engine, setup: stated_memory(dimensions, weights, engine, setup),
    )


def _spec(recipe: Recipe) -> ModelSpec | None:
    """The model's tensors; None for a plan-only recipe of a family edgekit has no file for."""
    if recipe.plan_only and recipe.config["model_type"] not in families():
        try:
            check_config(recipe.config, f"recipe {recipe.name}: [config]")
        except CheckpointError as error:
            raise RecipeError(error.message) from None
        return None
    try:
        spec = spec_from_config(recipe.config)
    except CheckpointError as error:
        # The same message serves a checkpoint's config.json and the recipe's copy of it: name the recipe's.
        message = f"recipe {recipe.name}: {error.message.replace('config.json', '[config]')}"
        raise (RecipeError if type(error) is CheckpointError else type(error))(message, error.hint) from None
    if not 1 / _PARAMETERS_OFF <= recipe.parameters / spec.parameters <= _PARAMETERS_OFF:
        raise RecipeError(
            f"recipe {recipe.name}: parameters is {recipe.parameters}, but the shapes in [config] have "
            f"{spec.parameters}; a tied table counts once"
        )
    if recipe.max_context > spec.context_length:
        raise RecipeError(
            f"recipe {recipe.name}: max_context is {recipe.max_context}, but with dynamic rope scaling edgekit offers "
            f"the original context of {spec.context_length} tokens at most"
        )
    return spec
