"""The SBOM has what CycloneDX 1.5 requires, and the same text for the same parts."""

from __future__ import annotations

import json
import re

from edgekit.deploy.sbom import Component, sbom_text

PARTS = [
    Component("machine-learning-model", "tiny", "abc", "llama3", {"artifact/model.onnx": "1" * 64}, "owner/tiny"),
    Component("library", "musl", "", "MIT", {}),
]


def test_it_has_the_required_fields() -> None:
    found = json.loads(sbom_text("tiny-jetson", "0.1.0", PARTS))
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", found["serialNumber"])
    model, musl = found["components"]
    assert model["licenses"] == [{"license": {"name": "llama3"}}]
    assert model["components"] == [
        {"type": "file", "bom-ref": "artifact/model.onnx", "name": "artifact/model.onnx",
         "hashes": [{"alg": "SHA-256", "content": "1" * 64}]}
    ]  # fmt: skip
    assert musl == {"type": "library", "bom-ref": "musl", "name": "musl", "licenses": [{"expression": "MIT"}]}
    parts = [found["metadata"]["component"], *found["components"], *model["components"]]
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(references)
    assert all(part["type"] and part["name"] for part in parts)


def test_the_same_parts_have_the_same_text() -> None:
    assert sbom_text("tiny", "1", PARTS) == sbom_text("tiny", "1", PARTS)
    assert sbom_text("tiny", "1", PARTS) != sbom_text("tiny", "2", PARTS)
