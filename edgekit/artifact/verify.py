"""Whether an artifact's files are those its manifest names: none missing, none surplus, every byte the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ArtifactError, VerificationError
from .manifest import FILE_NAME, Manifest, read_manifest

_CHUNK = 1 << 20  # bytes hashed at a time: the memory this needs, whatever the file's size


def verify(folder: Path, progress: Callable[[str, float, float], None] = lambda phase, done, total: None) -> Manifest:
    """Check every file of an artifact against its manifest.

    Args:
        folder: The artifact.
        progress: Called with the phase's name, bytes hashed and bytes in all.

    Returns:
        The manifest.

    Raises:
        ArtifactError: The manifest is missing or is none.
        VerificationError: Files differ; the message names each of them and how.
    """
    manifest = read_manifest(folder)
    problems = differences(folder, manifest, progress)
    if problems:
        raise VerificationError(
            f"{folder} is not what its {FILE_NAME} says: " + "; ".join(problems),
            hint="copy or build the artifact again",
        )
    return manifest


def differences(
    folder: Path, manifest: Manifest, progress: Callable[[str, float, float], None] = lambda phase, done, total: None
) -> list[str]:
    """What differs between an artifact's folder and its manifest, one phrase per file; empty when nothing does.

    Files of the right size are hashed; size alone condemns the others, so a truncated gigabyte is told at once.
    """
    expected = {name: _entry(folder, name, entry) for name, entry in manifest.files.items()}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()} - {FILE_NAME}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found)]
    total = sum(size for _, size in expected.values())
    done = 0
    for name in sorted(expected.keys() & found):
        sha256, size = expected[name]
        actual = (folder / name).stat().st_size
        if actual != size:
            problems.append(f"{name} has {actual} bytes, not {size}")
            continue
        digest = hashlib.sha256()
        with (folder / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress("verifying", done, total)
        if digest.hexdigest() != sha256:
            problems.append(f"{name} has sha256 {digest.hexdigest()}, not {sha256}")
    return problems + [f"{name} is not in the manifest" for name in sorted(found - expected.keys())]


def _entry(folder: Path, name: str, entry: Any) -> tuple[str, int]:
    """The hash and size of a manifest's file entry; its name must stay inside the artifact.

    Raises:
        ArtifactError: The entry is none.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name:
        raise ArtifactError(f"{folder / FILE_NAME} lists {name!r}, which is no path inside the artifact")
    sha256, size = (entry.get("sha256"), entry.get("size_bytes")) if isinstance(entry, dict) else (None, None)
    if not isinstance(sha256, str) or not isinstance(size, int):
        raise ArtifactError(f"{folder / FILE_NAME}: {name} lacks sha256 or size_bytes")
    return sha256, size
