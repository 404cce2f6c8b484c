"""What a build is asked for, checked before any work, and the JSON of its result."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from shared_models import SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.build.request import GPTQ_FORMATS, BuildRequest, BuildResult
from edgekit.checkpoint.gptq_config import V1, V2
from edgekit.devices import load_device
from edgekit.errors import UsageError
from edgekit.planning.planner import plan
from edgekit.recipes import load_recipe


def test_a_request_without_arguments_is_valid_and_cannot_be_changed() -> None:
    request = BuildRequest()
    assert request.device == "cpu"
    assert request.gate
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.device = "jetson"  # type: ignore[misc]
    assert dataclasses.replace(request, device="jetson").device == "jetson"


@pytest.mark.parametrize("field", ["calibration_tokens", "quality_tokens", "threads"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_below_1(field: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"{field} is {value}; it must be a whole number"):
        BuildRequest(**{field: value})  # type: ignore[arg-type]


def test_what_the_gate_measures_on_needs_the_gate() -> None:
    assert BuildRequest(quality_tokens=64).quality_tokens == 64
    assert BuildRequest(gate=False).quality_tokens is None
    with pytest.raises(UsageError, match="--quality-tokens was given with --no-gate"):
        BuildRequest(quality_tokens=64, gate=False)


def test_the_format_of_an_emitted_checkpoint() -> None:
    assert GPTQ_FORMATS == (V1, V2)
    for name in GPTQ_FORMATS:
        assert BuildRequest(emit=name).emit == name
    for name in ("awq", "", "GPTQ"):
        with pytest.raises(UsageError, match=f"emit is '{name}'; allowed: gptq, gptq_v2"):
            BuildRequest(emit=name)


@pytest.mark.parametrize("emitted", [None, Path("out-gptq")])
def test_the_json_of_a_result(models: SharedModels, emitted: Path | None) -> None:
    artifact = models.artifact()
    manifest = read_manifest(artifact)
    planned = plan(load_recipe("smollm2-135m"), load_device("cpu"))
    result = BuildResult(artifact, manifest, planned, 1.23456, None, emitted)
    found = result.to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) - {"emitted"} == {
        "artifact", "size_bytes", "bits_per_weight", "seconds", "peak_rss_bytes", "plan", "quality", "digest",
    }  # fmt: skip
    assert found.get("emitted") == (None if emitted is None else str(emitted))
    assert (found["artifact"], found["seconds"], found["peak_rss_bytes"]) == (str(artifact), 1.235, None)
    assert found["size_bytes"] == sum(p.stat().st_size for p in artifact.iterdir() if p.name != "edgekit.json")
    assert found["plan"] == planned.to_json()
