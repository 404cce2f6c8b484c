"""``edgekit bundle``: everything a device needs to run an artifact, as one folder or one ``.tar.zst``.

    artifact/         the artifact
    bin/edgekit-run   the program
    lib/, include/    the C library and its headers, where the device can load a library
    licences/         the licences of all parts
    sbom.cdx.json     the parts and their hashes (``sbom.py``)
    bundle.json       what this is: see ``_about``
    smoke.sh          runs the smoke test and writes receipt.json
    SHA256SUMS        of all files, for ``sha256sum -c SHA256SUMS``
    SHA256SUMS.sig    with ``--sign``: its Ed25519 signature, 64 bytes, as ``openssl pkeyutl -sign -rawin`` writes it

The same artifact, device and edgekit give the same bytes. ``push.py`` copies a bundle to its device.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifact.manifest import FILE_NAME as MANIFEST_FILE
from ..artifact.manifest import Manifest
from ..artifact.signature import FILE_NAME as SIGNATURE_FILE
from ..artifact.signature import open_private_key, read_signature, sign_file
from ..artifact.signature import sign as sign_artifact
from ..artifact.verify import Verified, verified
from ..artifact.writer import check_place, disk_error, give_name, made_parents
from ..devices import DeviceProfile, load_device
from ..durable import rename, sync
from ..errors import (
    BudgetError,
    BundleError,
    DiskFullError,
    EdgekitError,
    OutputExistsError,
    UsageError,
    shown_command,
)  # fmt: skip
from ..hashing import sha256_file
from ..json_file import read_json_object
from ..json_text import json_text
from ..leftovers import locked_folder
from ..progress import Progress, no_progress
from ..units import format_bytes
from .archive import SUFFIX, holds_bundle, write_archive, zstandard
from .device_files import DeviceFiles, device_files
from .planned import planned_for, usable_by
from .receipt import edgekit_version
from .sbom import LINKED, Component, sbom_text

SUMS_SIGNATURE = "SHA256SUMS.sig"
SUMS, ABOUT, SMOKE, SBOM = "SHA256SUMS", "bundle.json", "smoke.sh", "sbom.cdx.json"
FORMAT, FORMAT_VERSION = "edgekit-bundle", 1
_ENGINE = "native"  # what edgekit-run runs
_SMOKE = """#!/bin/sh
# Runs the smoke test of this bundle and writes receipt.json. Arguments are passed on: ./smoke.sh --sustain 60
# If EDGEKIT_RUNNER is set, that command runs the program, for example qemu-aarch64-static.
cd "$(dirname "$0")" || exit 1
exec $EDGEKIT_RUNNER ./bin/edgekit-run artifact --smoke --device {device} --out receipt.json "$@"
"""


@dataclass(frozen=True)
class Bundle:
    """A bundle that lies in a folder.

    Attributes:
        folder: The folder.
        name: The artifact's name and the device's.
        machine: The architecture of the program, as ``uname -m`` prints it.
        files: Every file and its SHA-256, except ``SHA256SUMS``.
        notes: What a user should know, one sentence each.
    """

    folder: Path
    name: str
    machine: str
    files: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in (*self.files, *self.sums))

    @property
    def sums(self) -> tuple[str, ...]:
        """``SHA256SUMS`` and, if the bundle is signed, its signature."""
        return (SUMS, SUMS_SIGNATURE) if (self.folder / SUMS_SIGNATURE).is_file() else (SUMS,)


def check_plan(manifest: Manifest, device: DeviceProfile) -> None:
    """Refuse an artifact that edgekit-run cannot run on a device.

    Raises:
        BudgetError: It needs more memory than the device's profile calls usable, or the plan missed a limit that was
            set for the build.
        BundleError: The artifact is not quantized.
    """
    if not manifest.quantized:
        raise BundleError(
            f"cannot bundle {manifest.name}: edgekit-run runs quantized artifacts, and this one has float matrices",
            hint="edgekit build MODEL --device NAME builds a quantized one",
        )
    plan, usable = manifest.plan, usable_by(manifest.plan, device)
    needed = (plan.get("engine_bytes") or {}).get(_ENGINE) or (plan.get("memory_bytes") or {}).get("total")
    if needed is not None and needed > usable:
        raise BudgetError(
            f"{manifest.name} does not fit {device.name}: it needs {format_bytes(needed)} with {plan.get('context')} "
            f"tokens of context, and {format_bytes(usable)} are usable",
            hint=f"{_plan_command(device)} lists what fits; a shorter context needs less",
        )
    missed = [
        name
        for name, limit in (plan.get("budget") or {}).items()
        if limit.get("asked") and limit.get("verdict") in ("doubtful", "missed") and plan.get("device") == device.name
    ]
    if missed:
        raise BudgetError(
            f"the plan of {manifest.name} for {device.name} misses the limit set for {', '.join(missed)}",
            hint=f"build it again with another limit, or plan another model: {_plan_command(device)}",
        )


def _plan_command(device: DeviceProfile) -> str:
    """The command that plans for a device; a profile from a file is not known by its name."""
    try:
        known = load_device(device.name) == device
    except EdgekitError:
        known = False
    return shown_command("plan", "--device", device.name) if known else "edgekit plan with the same --device"


@contextlib.contextmanager
def make_bundle(
    artifact: Path,
    device: DeviceProfile,
    out: Path,
    *,
    native: DeviceFiles | None = None,
    progress: Progress = no_progress,
    expect: str | None = None,
    public_key: str | None = None,
    sign: str | None = None,
) -> Iterator[Bundle]:
    """Write a bundle. In the block, its folder can be pushed.

    Args:
        artifact: The artifact's folder.
        device: The device it is for.
        out: A folder, or a file that ends in ``.tar.zst``. An earlier bundle there is replaced.
        native: The compiled program and library; None: they are compiled, or taken from the cache.
        progress: Called with the phase's name, the bytes done and the bytes in total.
        expect, public_key: As for :func:`~edgekit.artifact.verify.verify`.
        sign: The file of the private key that signs the bundle, and the artifact in it if it is not signed.

    Yields:
        The bundle: ``out`` itself, or for a ``.tar.zst`` a temporary folder with the same files.

    Raises:
        ArtifactError: The artifact is damaged.
        BudgetError, BundleError: See :func:`check_plan` and :func:`~edgekit.deploy.device_files.device_files`.
        OutputExistsError: ``out`` is something else than a bundle.
        UsageError: ``out`` has no name of its own.
        MissingPackageError, CompileError: The program cannot be compiled, or the archive not be written.
        DiskFullError: There is not enough disk space.
    """
    found = verified(artifact, progress, expect=expect, public_key=public_key)
    manifest = found.manifest
    if sign is not None:
        open_private_key(sign)  # before any work
    check_plan(manifest, device)
    packed = out.name.endswith(SUFFIX)
    if packed:
        zstandard()
    _check_free(out, packed)
    name = f"{manifest.name}-{device.name}"
    try:
        with made_parents(out), locked_folder(out.parent, f".{out.name}.partial-") as work:
            native = native or device_files(device)  # compiles for minutes, so the folder is made first
            folder = work / name
            _copy_artifact(artifact, folder / "artifact", found)
            if sign is not None and read_signature(artifact) is None:
                sign_artifact(folder / "artifact", found.digest, sign)
            bundle = _fill(folder, name, found, device, native)
            if sign is not None:
                sign_file(folder / SUMS, folder / SUMS_SIGNATURE, sign)
            if packed:
                write_archive(folder, work / "packed", name, progress)
                with (work / "packed").open("rb+") as written:
                    sync(written.fileno())
                rename(work / "packed", out)
                yield bundle
                return
            give_name(folder, out, lambda: _check_free(out, packed))
    except OSError as error:
        problem = disk_error(error, out, None)
        if isinstance(problem, DiskFullError):
            raise problem from None
        raise BundleError(f"cannot write {out}: {error.strerror}: {error.filename}") from None
    yield Bundle(out, name, bundle.machine, bundle.files, bundle.notes)


def _check_free(out: Path, packed: bool) -> None:
    """Only an earlier bundle may be replaced."""
    if out.name in ("", ".."):
        raise UsageError(f"the bundle's name is {str(out)!r}, which names no new folder", hint="give one: --out NAME")
    check_place(out)
    if not os.path.lexists(out) or (packed and out.is_file() and holds_bundle(out)):
        return
    if not packed and out.is_dir():
        about = out / ABOUT
        if not any(out.iterdir()):
            return
        if about.is_file() and read_json_object(about, error=BundleError).get("format") == FORMAT:
            return
    raise OutputExistsError(f"{out} exists and is not a bundle", hint="choose another name with --out, or remove it")


def _copy_artifact(artifact: Path, folder: Path, found: Verified) -> None:
    """Put the files that were verified into a folder, and no others: something may have been added since."""
    signature = [] if read_signature(artifact) is None else [SIGNATURE_FILE]
    for name in (*found.manifest.files, MANIFEST_FILE, *signature):
        _link(artifact / name, folder / name)


def _fill(folder: Path, name: str, found: Verified, device: DeviceProfile, native: DeviceFiles) -> Bundle:
    manifest = found.manifest
    _copy(native.program, folder / "bin" / native.program.name, 0o755)
    if native.library is not None:
        _copy(native.library, folder / "lib" / native.library.name)
    for header in native.headers:
        _copy(header, folder / "include" / header.name)
    _write_licences(folder / "licences", manifest, native)
    _write(folder / SMOKE, _SMOKE.format(device=shlex.quote(device.name)), 0o755)
    _write(folder / ABOUT, json_text(_about(name, found, device, native), indent=2) + "\n")
    digests = _digests(folder)
    for each, entry in manifest.files.items():
        if digests.get(f"artifact/{each}") != entry["sha256"]:
            raise BundleError(f"cannot bundle {manifest.name}: {each} was changed after it was verified")
    _write(folder / SBOM, sbom_text(name, edgekit_version(), _components(manifest, native, digests)))
    digests = dict(sorted({**digests, SBOM: sha256_file(folder / SBOM)}.items()))
    _write(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    notes = (*native.notes, *_limit_notes(manifest, device))
    return Bundle(folder, name, native.target.machine, digests, notes)


def _limit_notes(manifest: Manifest, device: DeviceProfile) -> tuple[str, ...]:
    """Limits that were set for another engine than the bundle's are not checked by its smoke test."""
    plan = manifest.plan
    limits = [limit for limit in (plan.get("budget") or {}).values() if limit.get("asked")]
    if not limits or plan.get("engine") in (None, _ENGINE) or plan.get("device") != device.name:
        return ()
    decode = planned_for(plan, _ENGINE).get("decode_tok_s")
    expected = f" (expected: {decode['mid']:.3g} tok/s)" if decode else ""
    note = (
        f"the limits of this build were planned for the engine {plan['engine']}; bin/edgekit-run uses "
        f"{_ENGINE}{expected}, and its smoke test does not check them"
    )
    return (note,)


def _about(name: str, found: Verified, device: DeviceProfile, native: DeviceFiles) -> dict[str, Any]:
    """``bundle.json``: what a program needs to know of a bundle."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "edgekit_version": edgekit_version(),
        "artifact": found.manifest.name,
        "artifact_digest": found.digest,
        "device": device.name,
        "device_title": device.title,
        "target": native.target.name,
        "machine": native.target.machine,
        "library": None if native.library is None else f"lib/{native.library.name}",
        "notes": list(native.notes),
    }


def _components(manifest: Manifest, native: DeviceFiles, digests: dict[str, str]) -> list[Component]:
    version, source = edgekit_version(), manifest.source

    def under(*folders: str) -> dict[str, str]:
        return {name: digest for name, digest in digests.items() if name.split("/")[0] in folders}

    origin = _origin(manifest, "")
    revision = str(source.get("revision") or source.get("version") or "")
    licence = str(manifest.recipe.get("licence") or "")
    return [
        Component("machine-learning-model", manifest.name, revision, licence, under("artifact"), origin),
        Component("application", "edgekit-run", version, "Apache-2.0", under("bin")),
        *([Component("library", "edgekit", version, "Apache-2.0", under("lib", "include"))] if native.library else []),
        *(Component("library", name, "", LINKED.get(name, ""), {}, "zig") for name in sorted(native.licences)),
    ]


def _origin(manifest: Manifest, unknown: str) -> str:
    """Where the weights are from: the hub's repository, the package, or "folder"."""
    source = manifest.source
    return str(source.get("repository") or source.get("package") or source.get("kind") or unknown)


def _write_licences(folder: Path, manifest: Manifest, native: DeviceFiles) -> None:
    _copy(_own_licence(), folder / "edgekit.txt")
    for name, path in native.licences.items():
        _copy(path, folder / f"{name}.txt")
    recipe, source = manifest.recipe, manifest.source
    origin = _origin(manifest, "unknown")
    lines = [
        f"{manifest.name}: {recipe.get('title') or manifest.name}",
        f"Licence: {recipe.get('licence') or 'not stated by the recipe; ask the source of the model'}",
        f"Source: {origin} {source.get('revision') or source.get('version') or ''}".rstrip(),
        "Changes: the weights were quantized by edgekit; artifact/edgekit.json says how.",
    ]
    _write(folder / "model.txt", "\n".join(lines) + "\n")


def _own_licence() -> Path:
    """edgekit's licence: of the source tree, otherwise of the installed package."""
    in_tree = Path(__file__).parents[2] / "LICENSE"
    if in_tree.is_file():
        return in_tree
    installed = importlib.metadata.files("edgekit-llm") or []
    for file in installed:
        if file.name == "LICENSE":
            return Path(str(file.locate()))
    raise BundleError("edgekit's own LICENSE is missing from this installation", hint="install edgekit-llm again")


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def _link(source: Path, target: Path) -> None:
    """A hard link, which takes no space; a copy where the file system has none. Of a link, what it leads to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()  # of the hub's cache: others are refused
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # a reflink on file systems that have them, from Python 3.14 on


def _copy(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write(target: Path, text: str, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text.encode())
    target.chmod(mode)
