"""The engine native: memory against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_counted import memory

from edgekit.devices import load_device
from edgekit.planning.engines import native
from edgekit.planning.memory import MemoryPlan
from edgekit.planning.planned_engine import EngineSetup


def test_the_native_engines_numbers_are_those_of_its_source() -> None:
    kernels = (Path(__file__).parents[3] / "edgekit" / "native" / "kernels" / "kernels.h").read_text()
    assert f"prefill_rows = {native.PREFILL_CHUNK};" in kernels
    assert f"kKvBlock = {native.KV_BLOCK};" in kernels


def _planned(context: int, kv_type: str = "float16", threads: int = 2) -> MemoryPlan:
    setup = EngineSetup(context, kv_type, threads)
    return memory(native.ENGINE, setup)


def test_the_cache_is_whole_blocks_of_64_positions() -> None:
    position = 2 * 2 * 32  # layers, keys and values, width
    assert [_planned(n).kv_cache for n in (1, 64, 65, 128)] == [64 * position * 2] * 2 + [128 * position * 2] * 2
    assert _planned(64, "int8").kv_cache == 64 * (position + 2 * 4 * 4), "a float32 scale for each of 4 rows"


def test_scratch_by_hand() -> None:
    """Of 100 tokens: 7 packs of 16 rows. K is 64 or 96, both padded to 128."""
    rows = 100 * (64 + 128 + 64 + 16) * 4  # hidden, qkv, attended, head_dim
    narrow_pack = 16 * (128 + 4 * 128 // 32 + 4 * 2)  # codes, sums, scales of two blocks
    wide_pack = 16 * (128 + 4 * 128 // 32 + 4 * 3)
    parts = 8 * 4 * 2 * 2 * (16 + 2) * 4
    thread = 16 * (128 + 8 * 3) + 2 * 100 * 128 * 4
    positions, logits = 4 * 100, 100 * 4
    expected = rows + 7 * (narrow_pack + wide_pack) + parts + 2 * thread + positions + logits
    assert _planned(100).activations == expected
    assert _planned(100, threads=3).activations - expected == thread + parts // 2


def test_loading_reads_the_start_of_each_matrix_only() -> None:
    found = _planned(100)
    assert found.load_peak == found.runtime + found.tokenizer + 4 * 2 * 65536
    assert not native.ENGINE.reads_weights_to_load
    assert found.repacking == 0


@pytest.mark.parametrize("device", ["jetson", "pi"])
def test_it_runs_on_every_processor(device: str) -> None:
    profile = load_device(device)
    assert native.ENGINE.preference(profile) == 1
    assert native.ENGINE.processor(profile) == "cpu"
    assert native.ENGINE.kv_types("float32") == native.ENGINE.kv_types("float16") == ("float16", "int8")
