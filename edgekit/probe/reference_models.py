"""Builds the small models that the engines are timed with: the shapes of known models, random weights.

No speed depends on the values of weights. Fixed costs per layer dominate the narrow model, reading and multiplying
weights the wide one, and attention the longer prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..export.model import export_model
from ..export.onnx_graph import DATA_FILE
from ..host import drop_from_cache
from ..models import spec_from_config
from ..models.spec import ModelSpec, TensorRef
from ..planning.memory import Dimensions
from ..planning.work import Work, work_of
from ..progress import Progress, no_progress
from ..recipes import load_recipe
from ..scheme import QuantizationConfig
from ..weights.source import WeightSource

GEN_TOKENS = 16  # tokens generated after each prompt
_POOL = 1 << 22  # random weights, from which the rows of every tensor are taken


@dataclass(frozen=True)
class ReferenceShape:
    """The shape of a model to build.

    Attributes:
        recipe: The recipe whose shapes and formats are used.
        prompt_tokens: Lengths of the prompts it is timed with.
        changes: Keys of the recipe's ``[config]`` that are replaced.
    """

    recipe: str
    prompt_tokens: tuple[int, ...]
    changes: Mapping[str, int] = field(default_factory=dict)


# A wide and a narrow model, each with a prompt of the usual length and a longer one, for which attention matters in the
# narrow model. The wide one has enough layers that no cache holds much of its weights: with six layers, 185 MB for a
# cache of 32 MB, weights were read a tenth faster than those of the whole model.
SHAPES = (
    ReferenceShape("deepseek-r1-distill-qwen-1.5b", (128, 512), {"num_hidden_layers": 12, "vocab_size": 16384}),
    ReferenceShape("smollm2-135m", (128, 2048)),
)


@dataclass(frozen=True)
class TimedModel:
    """An artifact and the lengths of the prompts it is timed with."""

    folder: Path
    manifest: RuntimeFacts
    prompt_tokens: tuple[int, ...]


@dataclass(frozen=True)
class ReferenceModel(TimedModel):
    """A model that rates are fitted to: its work per token, and the dimensions of its KV cache."""

    work: Work
    dimensions: Dimensions


def build_models(
    folder: Path, progress: Progress = no_progress, shapes: Sequence[ReferenceShape] = SHAPES
) -> list[ReferenceModel]:
    """Build the models, each in a folder of its own.

    Args:
        folder: An empty folder.
        progress: Called with the phase's name, the work done and the total work.
        shapes: What to build.

    Raises:
        DiskFullError: There is not enough room.
    """
    return [_build(folder / shape.recipe, shape, progress) for shape in shapes]


def _build(folder: Path, shape: ReferenceShape, progress: Progress) -> ReferenceModel:
    recipe = load_recipe(shape.recipe)
    spec = spec_from_config({**recipe.config, **shape.changes})
    quantization = recipe.quantization
    context = max(shape.prompt_tokens) + GEN_TOKENS
    folder.mkdir()
    layout = export_model(
        folder,
        spec,
        _RandomSource(),
        quantization,
        activation_type="float32",
        max_context=context,
        threads=1,
        progress=lambda done, total: progress(f"building {recipe.name}'s shape", done, total),
    )
    # A file that was just written is cached in larger pages, from which an engine reads some 7 % faster than from an
    # artifact's that was not just built.
    drop_from_cache(folder / DATA_FILE)
    manifest = _manifest(recipe.name, spec, quantization, context)
    work = work_of(spec, layout, quantization)
    return ReferenceModel(folder, manifest, shape.prompt_tokens, work, Dimensions.of_spec(spec))


class _RandomSource(WeightSource):
    """A source of made-up tensors: normal with standard deviation 0.02, norms of ones."""

    def __init__(self) -> None:
        self._pool = np.random.default_rng(0).standard_normal(_POOL, np.float32) * np.float32(0.02)

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        if len(ref.shape) == 1:
            return np.ones(stop - start, np.float32)
        return np.resize(self._pool, (stop - start, ref.shape[1]))


def _manifest(name: str, spec: ModelSpec, quantization: QuantizationConfig, context: int) -> RuntimeFacts:
    """The part of a manifest that an engine reads."""
    model: dict[str, Any] = {"vocab_size": spec.vocab_size, "num_layers": spec.num_layers, "context_length": context}
    return RuntimeFacts(
        name=name, model=model, plan={"context": context}, quantization=asdict(quantization), activation_type="float32",
        reasoning=False, sampling={}, tokens={},
    )  # fmt: skip
