"""The kernels of the native engine: those that the library says it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from shared_models import FLOAT, SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import EngineError
from edgekit.inspection.contents import HEAD
from edgekit.inspection.native_kernels import native_placement
from edgekit.inspection.placement import placement_of
from edgekit.probe.kernels import chosen_kernels

IN_SCALAR = """
import sys
from pathlib import Path
from edgekit.artifact.manifest import read_manifest
from edgekit.inspection.placement import slow_fallbacks
print(*slow_fallbacks(Path(sys.argv[1]), read_manifest(Path(sys.argv[1])), "native"), sep="\\n")
"""


def test_each_matrix_has_the_chosen_kernels(models: SharedModels) -> None:
    folder = models.artifact(formats="int8 head")
    placement = placement_of(folder, read_manifest(folder), "auto")
    assert placement.engine == "native"
    head = next(place for place in placement.places if place.part == HEAD)
    kernels = chosen_kernels()
    for role in ("decode", "prefill"):
        assert kernels[role].kernel in head.runs_on
    attention = next(place for place in placement.places if place.operator == "attention")
    assert (attention.runs_on, attention.nodes) == (kernels["attention"].kernel, 2)
    assert sum(place.nodes for place in placement.places if place.operator == "product") == 4 * 2 + 1


@pytest.mark.parametrize("formats", ["int8", "int8 head"])
def test_a_table_that_embedding_and_head_share_counts_once(models: SharedModels, formats: str) -> None:
    folder = models.artifact(formats=formats)
    placement = placement_of(folder, read_manifest(folder), "native")
    assert sum(each.weight_bytes for each in placement.sums()) <= (folder / "model.onnx.data").stat().st_size


def test_the_portable_kernels_are_a_slow_fallback(models: SharedModels) -> None:
    folder = models.artifact(formats="int8 head")
    found = subprocess.run(
        [sys.executable, "-c", IN_SCALAR, folder],
        env={"EDGEKIT_ISA": "scalar", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "slow fallback for embedding, attn.qkv_proj" in found
    assert "no vector instructions" in found


def test_without_a_layout_only_the_parts_are_unknown(models: SharedModels) -> None:
    folder = models.artifact(formats="int8")
    operators = [place.operator for place in native_placement(read_manifest(folder), None).places]
    assert operators == ["attention", "norms", "rotation, SiLU"]


def test_a_model_that_is_not_quantized_is_refused(models: SharedModels) -> None:
    folder = models.artifact(formats=FLOAT)
    with pytest.raises(EngineError, match="runs only quantized models"):
        placement_of(folder, read_manifest(folder), "native")
