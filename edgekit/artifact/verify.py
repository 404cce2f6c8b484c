"""Checks that an artifact has exactly the files that its manifest lists, and that every byte is the same."""

from __future__ import annotations

from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ArtifactError, VerificationError
from ..hashing import sha256_file
from ..progress import Progress, no_progress
from .manifest import FILE_NAME, Manifest, read_manifest


def verify(artifact: str | PathLike[str], progress: Progress = no_progress) -> Manifest:
    """Check every file of an artifact against its manifest.

    Args:
        artifact: The artifact's folder.
        progress: Called with the phase's name, the bytes done and the bytes in total.

    Returns:
        The manifest.

    Raises:
        ArtifactError: The manifest is missing or not valid.
        VerificationError: Files differ; the message names each file and its difference.
    """
    folder = Path(artifact)
    manifest = read_manifest(folder)
    problems = differences(folder, manifest, progress)
    if problems:
        raise VerificationError(
            f"{folder} differs from its {FILE_NAME}: " + "; ".join(problems), hint="copy or build the artifact again"
        )
    return manifest


def differences(folder: Path, manifest: Manifest, progress: Progress = no_progress) -> list[str]:
    """List the differences between an artifact's folder and its manifest, one phrase per file.

    Only files of the right size are hashed, so a truncated file is reported at once.
    """
    expected = {name: _entry(folder, name, entry) for name, entry in manifest.files.items()}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()} - {FILE_NAME}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found)]
    total = sum(size for _, size in expected.values())
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("verifying", done, total)

    for name in sorted(expected.keys() & found):
        sha256, size = expected[name]
        actual = (folder / name).stat().st_size
        if actual != size:
            problems.append(f"{name} has {actual} bytes, not {size}")
            continue
        digest = sha256_file(folder / name, advance)
        if digest != sha256:
            problems.append(f"{name} has sha256 {digest}, not {sha256}")
    return problems + [f"{name} is not in the manifest" for name in sorted(found - expected.keys())]


def _entry(folder: Path, name: str, entry: Any) -> tuple[str, int]:
    """Check a file entry of the manifest and return its hash and size. The name must stay inside the artifact.

    Raises:
        ArtifactError: The entry is not valid.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name:
        raise ArtifactError(f"{folder / FILE_NAME} lists {name!r}, which is not a path inside the artifact")
    sha256, size = (entry.get("sha256"), entry.get("size_bytes")) if isinstance(entry, dict) else (None, None)
    if not isinstance(sha256, str) or not isinstance(size, int):
        raise ArtifactError(f"{folder / FILE_NAME}: {name} lacks sha256 or size_bytes")
    return sha256, size
