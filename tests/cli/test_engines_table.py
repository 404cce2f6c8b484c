"""The table of a plan's engines."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from edgekit.cli.plan import command


def _plan(*arguments: str, columns: int = 160) -> str:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(command, arguments).stdout


def test_the_engines_stand_side_by_side_with_what_each_needs() -> None:
    text = _plan("deepseek-r1-distill-qwen-1.5b", "--device", "jetson")
    for pattern in (
        r"webgpu ~ +GPU, shared memory +1\.68 GB",
        r"native +CPU +1\.34 GB",
        r"cuda ~ +GPU, shared memory",
        r"webgpu, once its results are proven on the device: it is expected to be the fastest that fits, of those ",
        r"webgpu needs pip install \"edgekit-llm\[webgpu\]\" and libvulkan1",
        r"cuda needs NVIDIA's wheel of onnxruntime-gpu for this JetPack; where that is installed, auto takes cuda",
        r"in memory twice while webgpu or cuda loads the model: the largest matrix",
    ):
        assert re.search(pattern, text), pattern


def test_a_card_with_memory_of_its_own_holds_nothing_twice() -> None:
    assert "in memory twice" not in _plan("deepseek-r1-distill-qwen-1.5b", "--device", "rtx-4090")


def test_a_single_engine_is_no_table() -> None:
    assert "--engine auto" not in _plan("smollm2-135m", "--device", "pi", "--kv-type", "int8")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_is_no_wider_than_the_screen(columns: int) -> None:
    lines = _plan("deepseek-r1-distill-qwen-1.5b", "--device", "jetson", columns=columns).splitlines()
    rows = [line for line in lines if re.match(r"(webgpu ~|native|cuda ~|ort)  ", line)]
    assert len(rows) == 4
    assert max(map(len, rows)) <= columns
