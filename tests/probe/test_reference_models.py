"""The models for timing engines: artifacts that an engine can open, and their work."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.probe.reference_models import GEN_TOKENS, SHAPES, ReferenceShape, build_models
from edgekit.recipes.registry import LIBRARY
from edgekit.runtime.engine import EngineOptions, open_engine

TINY = ReferenceShape("smollm2-135m", (8, 40), {"num_hidden_layers": 2, "vocab_size": 512})


def test_a_model_can_be_opened_and_has_its_shape(tmp_path: Path) -> None:
    phases: list[str] = []
    (model,) = build_models(tmp_path, lambda phase, done, total: phases.append(phase), [TINY])
    assert set(phases) == {"building smollm2-135m's shape"}
    assert (model.folder, model.prompt_tokens) == (tmp_path / "smollm2-135m", (8, 40))
    assert (model.work.layers, model.dimensions.vocab_size, model.dimensions.hidden_size) == (2, 512, 576)
    context = 40 + GEN_TOKENS
    engine = open_engine(model.folder, model.manifest, EngineOptions(context=context, threads=1))
    assert engine.vocab_size == 512
    assert np.isfinite(engine.evaluate([1, 2, 3])).all()
    engine.close()


def test_the_shapes_are_those_of_recipes_one_wide_and_one_narrow() -> None:
    wide, narrow = SHAPES
    assert {wide.recipe, narrow.recipe} <= set(LIBRARY.names())
    assert max(narrow.prompt_tokens) > max(wide.prompt_tokens)
