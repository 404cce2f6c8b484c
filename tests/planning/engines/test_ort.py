"""The engine ort: memory against numbers worked out by hand."""

from __future__ import annotations

from edgekit import layout
from edgekit.models import ModelSpec, spec_from_config
from edgekit.planning.engines import ort
from edgekit.planning.engines.ort import repacking_bytes
from edgekit.scheme import QuantizationConfig, QuantizationScheme

INT4, INT8 = QuantizationScheme(4, 32, True), QuantizationScheme(8, 32, False)


ALL_INT4 = QuantizationConfig(INT4, INT4, INT4)


def _spec(**changes: object) -> ModelSpec:
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


def _repacked(quantization: QuantizationConfig, activation_type: str = "float32") -> int:
    return repacking_bytes(layout.plan_layout(_spec(), quantization, activation_type, 1))


def test_repacking_keeps_two_more_floats_a_block_on_cpus() -> None:
    per_layer = (64 + 32 + 32) * 2 + 64 * 2 + (96 + 96) * 2 + 64 * 3
    assert _repacked(ALL_INT4) == 2 * 4 * (2 * per_layer + 100 * 2)
    assert _repacked(ALL_INT4, "float16") == 0
    assert _repacked(QuantizationConfig.none()) == 0
    only_head = QuantizationConfig(None, INT4, INT4)
    assert _repacked(only_head) == 2 * 4 * 100 * 2, "the embedding is looked up, not multiplied"


def test_the_prefill_chunk_is_the_engines() -> None:
    from edgekit.runtime import ort_engine

    assert ort.PREFILL_CHUNK == ort_engine.PREFILL_CHUNK
