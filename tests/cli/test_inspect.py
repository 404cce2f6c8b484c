from __future__ import annotations

from pathlib import Path

from invoke import Invoke
from shared_models import SharedModels

from edgekit import native


def test_the_contents_and_the_placement(invoke: Invoke, models: SharedModels) -> None:
    folder = models.artifact(formats="int8 head")
    outcome = invoke("inspect", folder, "--engine", "native")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert "attn.qkv_proj" in outcome.text
    assert "engine native: " in outcome.text
    portable = "scalar" in native.library().ek_kernel_name().decode()
    assert ("slow fallback: 0 nodes" in outcome.text) is not portable
    assert ("the portable kernels are used" in outcome.text) is portable
    without = invoke("inspect", folder)
    assert "fast kernel" not in without.text


def test_json(invoke: Invoke, models: SharedModels) -> None:
    folder = models.artifact(formats="int8 head")
    found = invoke("inspect", folder, "--json").json()
    assert found.keys() == {"artifact", "name", "bits_per_weight", "contents", "placement"}
    assert found["placement"] is None
    assert sum(part["size_bytes"] for part in found["contents"]["parts"]) == found["contents"]["size_bytes"]
    placed = invoke("inspect", folder, "--engine", "ort", "--json").json()["placement"]
    assert placed["engine"] == "ort"
    assert [each["state"] for each in placed["sums"]] == ["fast", "slow", "copy", "host"]
    assert placed["warnings"] == []


def test_bad_input(invoke: Invoke, models: SharedModels, artifact: Path) -> None:
    folder = models.artifact(formats="int8 head")
    wrong = invoke("inspect", folder, "--engine", "nativ", "--json")
    assert "native" in wrong.json()["error"]["message"] + str(wrong.json()["error"]["hint"])
    assert invoke("inspect", folder / "nothing").exit_code != 0
    foreign = invoke("inspect", artifact)  # written by hand, without config.json
    assert foreign.exit_code == 60
    assert "config.json" in foreign.stderr
