"""``edgekit bundle --push``: copies a bundle to its device, runs the smoke test there, and brings the receipt home.

Only files whose SHA-256 differs travel. Each is written under a temporary name and verified on the device; when all are
there, they get their names. A transfer that was cut leaves the files on the device as they were. The next push keeps
those that arrived whole under their temporary names, deletes the others, and sends what is missing.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ArtifactError, DiskFullError, PushError, TransferError
from ..hashing import sha256_file
from ..json_file import parse_json_object
from ..progress import Progress, no_progress
from ..units import KIB, format_bytes
from .bundle import SMOKE, SUMS, SUMS_SIGNATURE, Bundle
from .receipt import Receipt, parse_receipt
from .remote import Output, Remote

_FOLDERS = ("artifact", "bin", "include", "lib", "licences")  # those that belong to a bundle
_PARTIAL = ".edgekit-partial"
_MARGIN_BYTES = 4_000_000  # for the receipt, the kernels' cache and the file system's own
_FREE = "echo free $(df -Pk . | tail -n 1)"
_MARK = "edgekit-output:"  # what comes before this line was printed by the start of the device's shell
_SMOKE_CODES = (0, 62)  # passed, and failed with a receipt


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        device: What the device is called.
        folder: The bundle's folder on the device.
        sent: The files that travelled.
        sent_bytes: Their size.
        removed: Files of an earlier bundle that were deleted.
        receipt: The receipt, as the device wrote it.
        notes: What a user should know, one sentence each.
    """

    device: str
    folder: str
    sent: tuple[str, ...]
    sent_bytes: int
    removed: tuple[str, ...]
    receipt: Receipt
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _State:
    """The device before the push.

    Attributes:
        machine: The architecture.
        features: Of the processor.
        free_bytes: Free space; None if unknown.
        digests: The SHA-256 of each file there.
        arrived: The same of the files under temporary names, by their final names.
    """

    machine: str
    features: frozenset[str]
    free_bytes: int | None
    digests: dict[str, str]
    arrived: dict[str, str]


def push(bundle: Bundle, remote: Remote, *, sustain_s: float | None = None, progress: Progress = no_progress) -> Pushed:
    """Copy a bundle to a device, run its smoke test there, and fetch the receipt.

    Args:
        bundle: The bundle.
        remote: The device.
        sustain_s: Seconds of decode, to see whether heat slows the device down; None: none.
        progress: Called with the phase's name, the bytes done and the bytes in total.

    Raises:
        PushError: The device cannot be reached, lacks sha256sum, has another architecture, or cannot run the program.
        DiskFullError: It has too little space.
        TransferError: A file did not arrive as it was sent.
    """
    folder = f"{remote.folder}/{shlex.quote(bundle.name)}"
    state = _look(bundle, remote, folder)
    notes = _check_processor(bundle, remote, state)
    digests = bundle.files | {name: sha256_file(bundle.folder / name) for name in bundle.sums}
    changed = sorted(name for name, digest in digests.items() if state.digests.get(name) != digest)
    missing = [name for name in changed if state.arrived.get(name) != digests[name]]
    useless = [name for name, digest in state.arrived.items() if name not in changed or digest != digests[name]]
    free = _delete_partial(remote, folder, useless) if useless else state.free_bytes
    sizes = {name: (bundle.folder / name).stat().st_size for name in missing}
    needed = sum(sizes.values())
    if missing and free is not None and free < needed + _MARGIN_BYTES:
        raise DiskFullError(
            f"{remote.name} has {format_bytes(free)} free in {remote.folder}; the bundle needs "
            f"{format_bytes(needed + _MARGIN_BYTES)} more",
            hint="free space there, or push to a folder on another disk",
        )
    done = 0
    for name in missing:
        progress("sending", done, needed)
        _send(bundle, remote, folder, name, digests[name])
        done += sizes[name]
        progress("sending", done, needed)
    stale = state.digests.keys() - digests.keys()
    removed = tuple(sorted(name for name in stale if name.split("/")[0] in (*_FOLDERS, SUMS_SIGNATURE)))
    _finish(remote, folder, changed, removed)
    receipt = _smoke(remote, folder, sustain_s)
    return Pushed(remote.name, _unquoted(folder), tuple(missing), needed, removed, receipt, notes)


def _look(bundle: Bundle, remote: Remote, folder: str) -> _State:
    """Ask the device everything in one command, for a round trip can take a second."""
    found = _read(
        remote,
        f"mkdir -p {folder} || exit 1; cd {folder} || exit 1; echo machine $(uname -m); "
        f"grep -m 1 -E '^(Features|flags)' /proc/cpuinfo; {_FREE}; "
        "command -v sha256sum > /dev/null && echo has sha256sum; find . -type f -exec sha256sum {} +",
    )
    text = found.stdout
    machine = re.search(r"^machine (\S+)$", text, re.MULTILINE)
    if machine is None:
        words = (found.stderr or text).strip().splitlines()[-1:] or [f"exit code {found.code}"]
        raise PushError(
            f"cannot make the folder {_unquoted(folder)} on {remote.name}: {words[0]}",
            hint="push to a folder that this user may write to",
        )
    if not re.search(r"^has sha256sum$", text, re.MULTILINE):
        raise PushError(
            f"{remote.name} has no program sha256sum, which verifies the files there",
            hint="install coreutils or busybox on the device, or copy the bundle and run its smoke.sh by hand",
        )
    features = re.search(r"^(?:Features|flags)\s*:(.*)$", text, re.MULTILINE)
    found_files = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  \./(.+)$", text, re.MULTILINE)}
    arrived = {name.removesuffix(_PARTIAL): digest for name, digest in found_files.items() if name.endswith(_PARTIAL)}
    return _State(
        machine=machine[1],
        features=frozenset(features[1].split()) if features else frozenset(),
        free_bytes=_free_bytes(text),
        digests={name: digest for name, digest in found_files.items() if not name.endswith(_PARTIAL)},
        arrived=arrived,
    )


def _read(remote: Remote, command: str) -> Output:
    """Run a command whose output is read: without what the start of the device's shell prints."""
    found = remote.run(f"echo; echo {_MARK}; {command}")
    return replace(found, stdout=found.stdout.split(f"\n{_MARK}\n", 1)[-1])


def _free_bytes(text: str) -> int | None:
    """Of what ``_FREE`` printed."""
    free = re.search(r"^free \S+ \d+ \d+ (\d{1,15}) ", text, re.MULTILINE)
    return int(free[1]) * KIB if free else None


def _delete_partial(remote: Remote, folder: str, names: list[str]) -> int | None:
    """Delete files under temporary names, and return the space that is free then."""
    words = " ".join(shlex.quote(f"./{name}{_PARTIAL}") for name in names)
    return _free_bytes(_read(remote, f"cd {folder} && rm -f {words}; {_FREE}").stdout)


def _check_processor(bundle: Bundle, remote: Remote, state: _State) -> tuple[str, ...]:
    same = {"arm64": "aarch64", "armv8l": "aarch64", "amd64": "x86_64"}
    found, wanted = same.get(state.machine, state.machine), same.get(bundle.machine, bundle.machine)
    if found != wanted:
        raise PushError(
            f"{remote.name} is {state.machine}, and the bundle's program is for {bundle.machine}",
            hint="bundle for a device with that architecture: edgekit devices lists them",
        )
    if found == "aarch64" and "asimd" in state.features and "asimddp" not in state.features:
        return (f"{remote.name} has no dot product instructions (asimddp), so the portable kernel runs, which is slow",)
    return ()


def _send(bundle: Bundle, remote: Remote, folder: str, name: str, digest: str) -> None:
    target = f"{folder}/{shlex.quote(name + _PARTIAL)}"
    made = remote.run(f"mkdir -p {folder}/{shlex.quote(str(Path(name).parent))}")
    if made.code:
        raise TransferError(f"cannot make a folder for {name} on {remote.name}: {made.stderr.strip()}")
    remote.send(bundle.folder / name, target)
    found = re.search(r"^\\?([0-9a-f]{64}) ", _read(remote, f"sha256sum {target}").stdout, re.MULTILINE)
    there = found[1] if found else "unknown"
    if there != digest:
        remote.run(f"rm -f {target}")
        raise TransferError(
            f"{name} did not arrive on {remote.name} as it was sent: its SHA-256 there is {there}, not {digest}",
            hint="run the command again; it sends what is missing",
        )


def _finish(remote: Remote, folder: str, changed: list[str], removed: tuple[str, ...]) -> None:
    """Give the files their names, ``SHA256SUMS`` last, and delete those of an earlier bundle."""
    lines = [f"cd {folder} || exit 1"]
    lines += [f"rm -f {shlex.quote(name)} || exit 1" for name in removed]
    for name in sorted(changed, key=lambda name: name in (SUMS, SUMS_SIGNATURE)):
        lines.append(f"mv -f {shlex.quote(name + _PARTIAL)} {shlex.quote(name)} || exit 1")
    if removed:  # folders that are empty now do not belong to the artifact
        lines.append("find artifact -depth -type d -exec rmdir {} + 2> /dev/null")
    lines += [f"chmod 755 bin/* {SMOKE} || exit 1", f"find . -type f -name '*{_PARTIAL}' -exec rm -f {{}} +"]
    found = remote.run("\n".join(lines))
    if found.code:
        raise TransferError(
            f"the files on {remote.name} could not be given their names: {found.stderr.strip()}",
            hint="run the command again",
        )


def _smoke(remote: Remote, folder: str, sustain_s: float | None) -> Receipt:
    options = "" if sustain_s is None else f" --sustain {sustain_s:g}"
    found = remote.run(f"cd {folder} && rm -f receipt.json && sh ./{SMOKE}{options}")
    if found.code not in _SMOKE_CODES:
        words = (found.stderr or found.stdout).strip().splitlines()[-3:]
        raise PushError(
            f"the smoke test on {remote.name} ended with exit code {found.code}: " + " ".join(words),
            hint=f"run it there: cd {folder} && sh ./{SMOKE}",
        )
    written = _read(remote, f"cat {folder}/receipt.json")
    if written.code:
        raise PushError(f"the smoke test on {remote.name} wrote no receipt: {written.stderr.strip()}")
    where = f"the receipt of {remote.name}"
    return parse_receipt(parse_json_object(written.stdout.encode(), where, ArtifactError), where)


def _unquoted(folder: str) -> str:
    return "".join(shlex.split(folder))
