"""Checks that an artifact is what was built: every file, every byte, nothing more, and nothing that contradicts itself.

links           none leads out of the folder (``links.py``)
files           exactly those of ``edgekit.json``, with their sizes and SHA-256
edgekit.json    its own digest (``digest.py``)
edgekit.sig     the signature, if there is one (``signature.py``)
structure       the graph, the weight file, the tokenizer and the manifest agree (``structure.py``)
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ArtifactError, MissingPackageError, VerificationError
from ..hashing import sha256_file
from ..links import find_links
from ..progress import Progress, no_progress
from .digest import FIRST_VERSION, digest_of, parse_digest
from .manifest import FILE_NAME, Manifest, read_manifest
from .signature import FILE_NAME as SIGNATURE_FILE
from .signature import check_signature, open_public_key
from .structure import contradictions

_AGAIN = "copy or build the artifact again"


@dataclass(frozen=True)
class Verified:
    """What a verification found.

    Attributes:
        manifest: The manifest.
        digest: The artifact's digest.
        signed_by: The public key whose signature was checked; None if there is none, or it could not be checked.
        notes: What was not checked, one sentence each.
    """

    manifest: Manifest
    digest: str
    signed_by: str | None
    notes: tuple[str, ...]


def verify(
    artifact: str | PathLike[str],
    progress: Progress = no_progress,
    *,
    expect: str | None = None,
    public_key: str | PathLike[str] | None = None,
) -> Manifest:
    """Check an artifact: its files against its manifest, the manifest against its digest, and all against each other.

    Args:
        artifact: The artifact's folder.
        progress: Called with the phase's name, the bytes done and the bytes in total.
        expect: The digest that it must have, 64 hexadecimal digits.
        public_key: The key that must have signed it: a PEM file, or 64 hexadecimal digits.

    Returns:
        The manifest.

    Raises:
        ArtifactError: The manifest is missing or not valid.
        VerificationError: Something differs; the message names it.
        UsageError: ``expect`` or ``public_key`` is not valid.
        MissingPackageError: A signature is demanded, and the package cryptography is not installed.
    """
    return verified(artifact, progress, expect=expect, public_key=public_key).manifest


def verified(
    artifact: str | PathLike[str],
    progress: Progress = no_progress,
    *,
    expect: str | None = None,
    public_key: str | PathLike[str] | None = None,
) -> Verified:
    """As :func:`verify`, with all that was found."""
    folder = Path(artifact)
    wanted = None if expect is None else parse_digest(expect)
    key = None if public_key is None else open_public_key(public_key)
    manifest = read_manifest(folder)
    refuse_links(folder)
    digest = digest_of((folder / FILE_NAME).read_bytes(), manifest.digest)
    notes: list[str] = []
    if manifest.format_version < FIRST_VERSION:
        notes.append(
            f"this artifact has format version {manifest.format_version}, in which {FILE_NAME} has no digest of its "
            "own: whether that file was changed, only --expect tells"
        )
    problems = []
    if manifest.digest not in (None, digest):
        problems.append(f"{FILE_NAME} was changed: its digest is {digest}, not {manifest.digest}")
    problems += differences(folder, manifest, progress)
    if not problems:
        problems += contradictions(folder, manifest)
    if problems:
        raise VerificationError(f"{folder} differs from its {FILE_NAME}: " + "; ".join(problems), hint=_AGAIN)
    if wanted not in (None, digest):
        raise VerificationError(
            f"{folder} has the digest {digest}, not {wanted}", hint="it is another artifact, or was changed"
        )
    signed_by = None
    try:
        signed_by = check_signature(folder, digest, key)
    except MissingPackageError as missing:
        if key is not None:
            raise
        notes.append(f"the signature was not checked: {missing.message}")
    return Verified(manifest, digest, signed_by, tuple(notes))


def refuse_links(folder: Path) -> None:
    """Refuse an artifact with links that lead out of it. Nothing is read, so every session is loaded after this.

    Raises:
        VerificationError: It has some.
    """
    if found := list(find_links(folder)):
        raise VerificationError(
            f"{folder} is refused: " + "; ".join(f"{name} {problem}" for name, problem in found[:5]),
            hint="put the file itself in its place",
        )


def differences(folder: Path, manifest: Manifest, progress: Progress = no_progress) -> list[str]:
    """List the differences between an artifact's folder and its manifest, one phrase per file.

    Only files of the right size are hashed, so a truncated file is reported at once.
    """
    expected = {name: _entry(folder, name, entry) for name, entry in manifest.files.items()}
    own = {FILE_NAME, SIGNATURE_FILE}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()} - own
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
    problems += [f"{name} is not in the manifest" for name in sorted(found - expected.keys())]
    kept = {parent.as_posix() for name in expected for parent in PurePosixPath(name).parents}
    empty = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_dir() and not p.is_symlink())
    return problems + [f"the folder {name} is not in the manifest" for name in sorted(set(empty) - kept)]


def _entry(folder: Path, name: str, entry: Any) -> tuple[str, int]:
    """Check a file entry of the manifest and return its hash and size. The name must stay inside the artifact.

    Raises:
        ArtifactError: The entry is not valid.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name or not name.isprintable():
        raise ArtifactError(f"{folder / FILE_NAME} lists {name!r}, which is not a path inside the artifact")
    if name in (FILE_NAME, SIGNATURE_FILE):
        raise ArtifactError(f"{folder / FILE_NAME} lists {name!r}, which it cannot describe")
    sha256, size = (entry.get("sha256"), entry.get("size_bytes")) if isinstance(entry, dict) else (None, None)
    if not isinstance(sha256, str) or not isinstance(size, int):
        raise ArtifactError(f"{folder / FILE_NAME}: {name} lacks sha256 or size_bytes")
    return sha256, size
