"""The engine cuda: memory against numbers worked out by hand, and where it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hand_counted import memory

from edgekit.devices import Sourced, load_device
from edgekit.planning.engines import cuda
from edgekit.planning.memory import MemoryPlan
from edgekit.planning.planned_engine import EngineSetup

GATE_UP = 2 * 96 * 64 // 2  # the largest matrix: codes of 4 bits


def _planned(activation_type: str = "float16") -> MemoryPlan:
    setup = EngineSetup(100, activation_type, threads=2, accelerator_bytes=10**9)
    return memory(cuda.ENGINE, setup, activation_type)


def test_the_weights_count_once_and_whole() -> None:
    found = _planned()
    assert found.weights == found.file_bytes
    assert (found.unread_embedding, found.unread_rotary, found.repacking) == (0, 0, 0)
    assert found.kv_cache == 2 * 2 * 32 * 100 * 2
    assert cuda.ENGINE.kv_types("float16") == ("float16",)


def test_while_loading_the_largest_matrix_is_there_twice() -> None:
    found = _planned()
    assert found.load_peak == found.file_bytes + GATE_UP + found.runtime + found.tokenizer
    assert [(part.size_bytes, part.when, part.is_cache) for part in found.held_twice] == [
        (GATE_UP, "loading", False),
        (found.file_bytes, "loading", True),
    ]


def test_cudas_libraries_count() -> None:
    assert _planned().runtime == 77_000_000 + 10**9


def test_the_prefill_chunk_is_the_engines() -> None:
    from edgekit.runtime import cuda_engine

    assert cuda.PREFILL_CHUNK == cuda_engine.PREFILL_CHUNK


@pytest.mark.parametrize(
    ("device", "preference"),
    [("jetson", 0), ("rtx-3060", 1), ("jetson-nano-4gb", None), ("jetson-xavier-nx-8gb", None), ("apple-m1", None)],
)
def test_auto_expects_it_where_pip_finds_it(device: str, preference: int | None) -> None:
    assert cuda.ENGINE.preference(load_device(device)) == preference


def test_a_gpu_without_fast_kernels_is_left_out() -> None:
    card = load_device("rtx-3060")
    assert card.accelerator is not None
    old = replace(card, accelerator=replace(card.accelerator, compute_capability=Sourced("7.0", "made up")))
    assert cuda.ENGINE.preference(old) is None
    assert cuda.ENGINE.preference(replace(card, activation_type="float32")) is None


def test_it_says_where_its_wheel_is_from() -> None:
    assert "NVIDIA's wheel" in cuda.ENGINE.needs(load_device("jetson"))
    assert cuda.ENGINE.needs(load_device("rtx-3060")) == "pip install onnxruntime-gpu"
