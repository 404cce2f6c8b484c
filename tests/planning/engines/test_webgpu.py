"""The engine webgpu: memory against numbers worked out by hand, and where it runs."""

from __future__ import annotations

import pytest
from hand_counted import memory

from edgekit.devices import load_device
from edgekit.planning.engines import webgpu
from edgekit.planning.memory import MemoryPlan
from edgekit.planning.planned_engine import EngineSetup

GATE_UP = 2 * 96 * 64 // 2  # the largest matrix: codes of 4 bits


def _planned(activation_type: str = "float16") -> MemoryPlan:
    setup = EngineSetup(100, activation_type, threads=2, accelerator_bytes=10**9)
    return memory(webgpu.ENGINE, setup, activation_type)


def test_the_weights_count_once_and_whole() -> None:
    found = _planned()
    assert found.weights == found.file_bytes
    assert (found.unread_embedding, found.unread_rotary, found.repacking) == (0, 0, 0)
    assert found.kv_cache == 2 * 2 * 32 * 100 * 2
    assert webgpu.ENGINE.kv_types("float16") == ("float16",)


def test_while_loading_the_largest_matrix_is_there_twice() -> None:
    found = _planned()
    assert found.load_peak == found.file_bytes + GATE_UP + found.runtime + found.tokenizer
    assert [(part.size_bytes, part.when, part.is_cache) for part in found.held_twice] == [
        (GATE_UP, "loading", False),
        (found.file_bytes, "loading", True),
    ]


def test_cudas_libraries_do_not_count() -> None:
    assert _planned().runtime == webgpu.RUNTIME_BYTES + webgpu.DRIVER_BYTES


def test_no_matrix_is_unpacked() -> None:
    from edgekit.planning.engines import cuda

    setup = EngineSetup(100, "float16", threads=2, accelerator_bytes=0)
    other = memory(cuda.ENGINE, setup, "float16")
    assert other.activations - _planned().activations == 2 * 96 * 64 * 2


def test_the_prefill_chunk_is_the_engines() -> None:
    from edgekit.runtime import webgpu_engine

    assert webgpu.PREFILL_CHUNK == webgpu_engine.PREFILL_CHUNK


@pytest.mark.parametrize(
    ("device", "preference", "processor"),
    [
        ("jetson", 1, "shared-gpu"),
        ("jetson-agx-thor", 1, "shared-gpu"),
        ("rtx-3060", 1, "gpu"),
        ("apple-m1", 1, "shared-gpu"),
        ("jetson-nano-4gb", None, "shared-gpu"),
        ("pi", None, "shared-gpu"),
        ("phone", None, "shared-gpu"),
    ],
)
def test_it_runs_where_pip_finds_it_and_there_is_a_gpu(device: str, preference: int | None, processor: str) -> None:
    profile = load_device(device)
    assert webgpu.ENGINE.preference(profile) == preference
    if preference is not None:
        assert webgpu.ENGINE.processor(profile) == processor


def test_it_says_what_to_install() -> None:
    assert webgpu.ENGINE.needs(load_device("jetson")) == 'pip install "edgekit-llm[webgpu]" and libvulkan1'
    assert webgpu.ENGINE.needs(load_device("apple-m1")) == 'pip install "edgekit-llm[webgpu]"'
