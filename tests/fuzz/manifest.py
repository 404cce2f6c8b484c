"""edgekit.json, and what verify and inspect make of it."""

import os

from fuzz_changes import json_change as change
from fuzz_files import artifact, scratch, written

from edgekit.artifact.manifest import FILE_NAME, read_manifest
from edgekit.artifact.structure import contradictions

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return [(artifact("manifest") / FILE_NAME).read_bytes()]


def read(data: bytes) -> None:
    good = artifact("manifest")
    folder = scratch() / "manifest-changed"
    if not folder.exists():
        folder.mkdir()
        for path in good.iterdir():
            (folder / path.name).hardlink_to(path)
        (folder / FILE_NAME).unlink()
    written(f"{folder.name}/{FILE_NAME}", data)
    manifest = read_manifest(folder)
    if all(os.path.isfile(folder / name) and "/" not in name for name in manifest.files):  # as verify has found before
        contradictions(folder, manifest)
    _ = manifest.quantized
