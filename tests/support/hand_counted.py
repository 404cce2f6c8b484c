"""A model whose bytes can be counted by hand, in the formats that the planner's tests use."""

from __future__ import annotations

from edgekit.layout import plan_layout
from edgekit.models import ModelSpec, spec_from_config
from edgekit.planning.memory import Dimensions, MemoryPlan, weight_groups
from edgekit.planning.planned_engine import EngineSetup, PlannedEngine
from edgekit.scheme import QuantizationConfig, QuantizationScheme

INT4, INT8 = QuantizationScheme(4, 32, True), QuantizationScheme(8, 32, False)
ALL_INT4 = QuantizationConfig(INT4, INT4, INT4)


def small_spec(**changes: object) -> ModelSpec:
    """The model; ``changes`` override keys of its config.json."""
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
    }
    return spec_from_config(config | changes)


def memory(engine: PlannedEngine, setup: EngineSetup, activation_type: str = "float32") -> MemoryPlan:
    """An engine's memory for the model in 4 bits."""
    spec = small_spec()
    layout = plan_layout(spec, ALL_INT4, activation_type, 128)
    return engine.memory(Dimensions.of_spec(spec), layout, weight_groups(spec, layout), setup)
