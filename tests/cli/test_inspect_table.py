"""The tables of edgekit inspect, at the widths of a terminal."""

from __future__ import annotations

import pytest
from shared_models import SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.cli._inspect_table import print_contents, print_placement
from edgekit.inspection.contents import contents_of
from edgekit.inspection.placement import COPY, FAST, HOST, SLOW, Place, Placement

PLACES = (
    Place("mlp.gate_up_proj", "int4 block 32", "MatMulNBits", "WebGpu", FAST, 30, weight_bytes=6_000_000),
    Place("", "", "SkipSimplifiedLayerNormalization", "WebGpu", FAST, 61),
    Place("", "", "Softmax", "CPU", SLOW, 1, time_share=0.0004, reason="there is no kernel"),
    Place("", "", "MemcpyToHost", "WebGpu", COPY, 1, copied_bytes=196_608),
    Place("", "", "ReduceSum", "CPU", HOST, 6),
)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_contents_fit_the_terminal(
    models: SharedModels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    folder = models.artifact(formats="int8 head")
    manifest = read_manifest(folder)
    print_contents(contents_of(folder, manifest), manifest)
    text = capsys.readouterr().out
    table = [line for line in text.splitlines() if line.startswith(("part", "attn", "embedding", "sum"))]
    assert len(table) == 5
    assert max(map(len, table)) <= columns
    assert "8 bits, blocks of 64: 1 matrix, " in text
    assert "is unknown, so the time is the share of the bytes" in text or "The time is planned for" in text


@pytest.mark.parametrize("columns", [80, 120])
def test_the_placement_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_placement(Placement("webgpu", "onnxruntime WebGpu", PLACES))
    text = capsys.readouterr().out
    table = text.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= columns
    assert ("MatMulNBits" in table) == (columns == 120)
    assert "197 kB" in table
    assert "<0.1%" in table
    assert "fast kernel: 91 nodes, 6.00 MB of weights\n" in text
    assert "copied between host and device: 1 node, 197 kB for each token\n" in text
    assert "on the host, lengths only: 6 nodes\n" in text
    assert "warning: the engine webgpu uses a slow fallback for Softmax (1 node, 0% of a token's time)" in text
