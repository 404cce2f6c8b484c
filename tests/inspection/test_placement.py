"""Sums and warnings of a placement, and the one function that build and smoke ask."""

from __future__ import annotations

import pytest
from shared_models import SharedModels

from edgekit.artifact.manifest import read_manifest
from edgekit.devices import load_device
from edgekit.errors import AcceleratorError, EngineFallbackWarning, UnknownNameError
from edgekit.inspection import placement, session_profile
from edgekit.inspection.placement import COPY, FAST, HOST, SLOW, Place, Placement, placement_of, slow_fallbacks

PLACES = (
    Place("attn.o_proj", "int4 block 32", "MatMulNBits", "GPU", FAST, 30, weight_bytes=600),
    Place("lm_head", "int8 block 32", "MatMulNBits", "CPU", SLOW, 1, weight_bytes=400, reason="there is no kernel"),
    Place("embedding", "int8 block 32", "Gather", "CPU", SLOW, 1, reason="there is no kernel"),
    Place("", "", "Softmax", "CPU", SLOW, 2, time_share=0.25, reason="it is not supported"),
    Place("", "", "MemcpyToHost", "GPU", COPY, 2, copied_bytes=8),
)


def test_sums_and_warnings() -> None:
    placed = Placement("gpu", "a kernel", PLACES)
    sums = {each.state: each for each in placed.sums()}
    assert {state: each.nodes for state, each in sums.items()} == {FAST: 30, SLOW: 4, COPY: 2, HOST: 0}
    assert (sums[FAST].weight_bytes, sums[SLOW].weight_bytes, sums[COPY].copied_bytes) == (600, 400, 8)
    assert (sums[FAST].time_share, sums[SLOW].time_share) == (None, 0.25)
    assert placed.warnings() == (
        "the engine gpu uses a slow fallback for lm_head, embedding (2 nodes): there is no kernel",
        "the engine gpu uses a slow fallback for Softmax (2 nodes, 25% of a token's time): it is not supported",
    )
    assert placed.to_json()["warnings"] == list(placed.warnings())


def test_slow_fallbacks_of_this_machine_are_the_placements(models: SharedModels) -> None:
    folder = models.artifact(formats="int8 head", device="jetson")
    manifest = read_manifest(folder)
    for device in (None, load_device("cpu")):
        (text,) = slow_fallbacks(folder, manifest, "ort", device)
        assert "lm_head (1 node" in text
    with pytest.raises(UnknownNameError, match="no engine 'orts'"):
        placement_of(folder, manifest, "orts")


def test_another_machine_is_known_by_its_profile(models: SharedModels) -> None:
    folder = models.artifact(formats="int8")
    manifest = read_manifest(folder)
    (text,) = slow_fallbacks(folder, manifest, "native", load_device("raspberry-pi-4-4gb"))
    assert "raspberry-pi-4-4gb" in text
    assert "none of amx_int8, asimddp" in text
    assert slow_fallbacks(folder, manifest, "native", load_device("raspberry-pi-5-8gb")) == ()
    assert slow_fallbacks(folder, manifest, "ort", load_device("raspberry-pi-4-4gb")) == ()


def test_auto_goes_on_with_the_next_engine(models: SharedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.artifact(formats="int8")

    def fail(*arguments: object) -> None:
        raise AcceleratorError("there is no GPU")

    monkeypatch.setattr(placement, "ranked_engines", lambda facts: ("webgpu", "native", "ort"))
    monkeypatch.setattr(session_profile, "profiled_placement", fail)
    with pytest.warns(EngineFallbackWarning, match="engine webgpu is not used, but native: there is no GPU"):
        found = placement_of(folder, read_manifest(folder), "auto")
    assert found.engine == "native"
