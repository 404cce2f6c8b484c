"""The engine ``ort``: onnxruntime on the processor. ``test_io_binding.py`` tests what it shares with other engines."""

from __future__ import annotations

from pathlib import Path

from edgekit.artifact.manifest import read_manifest
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.ort_engine import ENGINE


def test_it_runs_every_artifact_on_the_processor(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    assert ENGINE.can_run(manifest)
    engine = ENGINE.open(artifact, manifest, EngineOptions(context=64, threads=1))
    assert (engine.name, engine.on_processor) == ("ort", True)
    assert engine.kernel.startswith("onnxruntime ")
    assert engine.kernel.endswith(" CPU")
    engine.close()
