"""The engine ort: memory against numbers worked out by hand."""

from __future__ import annotations

import pytest
from hand_counted import ALL_INT4, INT4, memory, small_spec

from edgekit import layout
from edgekit.devices import load_device
from edgekit.planning.engines import ort
from edgekit.planning.engines.ort import repacking_bytes
from edgekit.planning.memory import MemoryPlan
from edgekit.planning.planned_engine import EngineSetup
from edgekit.scheme import QuantizationConfig


def _repacked(quantization: QuantizationConfig, activation_type: str = "float32") -> int:
    return repacking_bytes(layout.plan_layout(small_spec(), quantization, activation_type, 1))


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


def _planned(activation_type: str) -> MemoryPlan:
    setup = EngineSetup(100, activation_type, threads=2)
    return memory(ort.ENGINE, setup, activation_type)


def test_the_cache_has_the_graphs_type_and_no_blocks() -> None:
    assert _planned("float32").kv_cache == 2 * 2 * 32 * 100 * 4
    assert _planned("float16").kv_cache == 2 * 2 * 32 * 100 * 2
    assert ort.ENGINE.kv_types("float16") == ("float16",)


def test_while_loading_the_largest_matrix_is_there_twice() -> None:
    found = _planned("float16")
    gate_up = 2 * 96 * 64 // 2  # codes of 4 bits
    assert found.runtime == 77_000_000
    assert [(part.size_bytes, part.when) for part in found.held_twice] == [(gate_up, "loading")]
    assert ort.ENGINE.reads_weights_to_load


def test_repacked_scales_are_held_twice() -> None:
    found = _planned("float32")
    assert (found.repacking, "running") in [(part.size_bytes, part.when) for part in found.held_twice]
    assert found.repacking > 0


@pytest.mark.parametrize(("device", "preference"), [("jetson", 0), ("rtx-3060", -1), ("pi", 0), ("apple-m1", 0)])
def test_it_runs_on_processors_and_another_engine_is_preferred(device: str, preference: int) -> None:
    profile = load_device(device)
    assert ort.ENGINE.preference(profile) == preference
    assert ort.ENGINE.processor(profile) == "cpu"
