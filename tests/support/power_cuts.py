"""Cuts the power of builds: what the disk holds then is the old output or the new one, never neither.

    python tests/support/power_cuts.py --cuts 200

A build runs once with ``power.c``, which records what it does to files and folders. Then cuts are simulated: up to a
random operation, everything that was synced is on the disk, and of everything else a random part: writes may be lost or
torn, whatever their order, and new names may be there before or after others. This is more than journaling file systems
allow themselves. A rename is one step, also between two folders. After a cut, the same command must give what it gives
undisturbed, and leave nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kill_builds import WAYS, Builds

SOURCE = Path(__file__).with_name("power.c")
_HEAD = struct.Struct("=c3xIIIQQQ")  # struct record of power.c
_NEAR = 25  # operations before and after a rename, where half of the cuts are


@dataclass
class Node:
    """A file or a folder: what happened to it, by the number of the operation."""

    is_folder: bool
    content: bytes = b""  # before the first operation
    names: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[int, int, bytes | None]] = field(default_factory=list)  # offset and data, or size and None
    syncs: list[int] = field(default_factory=list)

    def synced_after(self, number: int, cut: int) -> bool:
        """Whether an operation was followed by a sync before the cut."""
        return any(number < each <= cut for each in self.syncs)


@dataclass(frozen=True)
class Naming:
    """A change of names, which happens as a whole: (folder, name, node; None removes the name)."""

    number: int
    changes: tuple[tuple[int, str, int | None], ...]


class Recording:
    """What a process did below a folder.

    Args:
        root: The folder, before the process started.
    """

    def __init__(self, root: Path) -> None:
        self.nodes: list[Node] = []
        self.namings: list[Naming] = []
        self.renames: list[int] = []
        self.count = 0
        self._current: dict[int, int] = {}  # node by inode number
        self._names: dict[int, dict[str, int]] = {}  # of the running process, by folder
        self._load(root)

    def _load(self, path: Path) -> int:
        folder = path.is_dir()
        node = self._new(path.stat().st_ino, folder)
        if folder:
            for each in path.iterdir():
                self.nodes[node].names[each.name] = self._load(each)
            self._names[node] = dict(self.nodes[node].names)
        else:
            self.nodes[node].content = path.read_bytes()
        return node

    def _new(self, inode: int, folder: bool) -> int:
        self.nodes.append(Node(folder))
        node = len(self.nodes) - 1
        self._current[inode] = node
        if folder:
            self._names[node] = {}
        return node

    def read(self, log: bytes) -> None:
        """Read the records of power.c."""
        at = 0
        while at < len(log):
            kind, first, second, _, a, b, offset = _HEAD.unpack_from(log, at)
            at += _HEAD.size
            data, name = log[at : at + first], os.fsdecode(log[at + first : at + first + second])
            at += first + second
            self._read(kind.decode(), a, b, offset, data, name)

    def _read(self, kind: str, a: int, b: int, offset: int, data: bytes, second: str) -> None:
        node = self._current.get(a)
        if node is None and kind not in "RX":
            return
        self.count += 1
        if node is not None and kind in "WT":
            self.nodes[node].changes.append((self.count, offset, data if kind == "W" else None))
        elif node is not None and kind == "S":
            self.nodes[node].syncs.append(self.count)
        elif kind in "RX":
            self._rename(kind, node, self._current.get(b), os.fsdecode(data), second)
        elif node is not None:
            name = os.fsdecode(data)
            target = None if kind == "U" else self._current.get(b) if kind == "L" else self._new(b, kind == "M")
            self._name((node, name, target))

    def _rename(self, kind: str, a: int | None, b: int | None, old: str, new: str) -> None:
        self.renames.append(self.count)
        moved = None if a is None else self._names[a].get(old)
        if a is not None and b is not None and kind == "X":
            self._name((a, old, self._names[b].get(new)), (b, new, moved))
        else:
            changes = [] if a is None else [(a, old, None)]
            self._name(*changes, *([] if b is None else [(b, new, moved)]))

    def _name(self, *changes: tuple[int, str, int | None]) -> None:
        self.namings.append(Naming(self.count, changes))
        for folder, name, node in changes:
            self._names[folder].pop(name, None)
            if node is not None:
                self._names[folder][name] = node

    def cut(self, number: int, rng: random.Random, folder: Path) -> None:
        """Write what the disk holds if the power is cut after an operation.

        Args:
            number: The operation.
            rng: Chooses among what was not synced.
            folder: An empty folder.
        """
        kept = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])  # the share of names that are there without a sync
        names = {n: dict(each.names) for n, each in enumerate(self.nodes) if each.is_folder}
        for naming in self.namings:
            if naming.number > number:
                break
            folders = {each for each, _, _ in naming.changes}
            synced = any(self.nodes[each].synced_after(naming.number, number) for each in folders)
            if synced or rng.random() < kept:
                for each, name, node in naming.changes:
                    names[each].pop(name, None)
                    if node is not None:
                        names[each][name] = node
        self._write(0, names, number, rng, rng.choice([0.0, 0.5, 1.0]), folder)

    def _write(
        self, node: int, names: dict[int, dict[str, int]], cut: int, rng: random.Random, kept: float, path: Path
    ) -> None:
        for name, each in names[node].items():
            if self.nodes[each].is_folder:
                (path / name).mkdir()
                self._write(each, names, cut, rng, kept, path / name)
            else:
                (path / name).write_bytes(self._content(self.nodes[each], cut, rng, kept))

    @staticmethod
    def _content(node: Node, cut: int, rng: random.Random, kept: float) -> bytes:
        content = bytearray(node.content)
        for number, at, data in node.changes:
            if number > cut:
                break
            if not node.synced_after(number, cut):
                if rng.random() >= kept:
                    continue
                if data is not None and rng.random() < 0.2:
                    data = data[: rng.randrange(len(data))]  # torn
            size = at if data is None else max(len(content), at + len(data))
            content = content[:size] + bytes(max(0, size - len(content)))
            if data is not None:
                content[at : at + len(data)] = data
        return bytes(content)


def compile_recorder(folder: Path) -> Path:
    """Compile power.c; returns the library to preload."""
    library = folder / "power.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def record(builds: Builds, way: str, recorder: Path, log: Path) -> Recording:
    """Run a build and record what it does in its work folder."""
    builds.prepare(way)
    recording = Recording(builds.work)
    log.unlink(missing_ok=True)
    environment = {**os.environ, **builds.environment, "LD_PRELOAD": str(recorder), "POWER_LOG": str(log)}
    command = [sys.executable, "-m", "edgekit.cli", *builds.arguments(WAYS[way])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{way}: {done.stderr}")
    recording.read(log.read_bytes())
    return recording


def restart(folder: Path) -> None:
    """Give temporary folders the names that they would have from another run of the system."""
    for path in list(folder.iterdir()):
        path.rename(path.with_name(re.sub(r"(?<=-)[0-9a-f]{8}(?=[0-9a-f]{8}$)", "0" * 8, path.name)))


def moments(recording: Recording, count: int, rng: random.Random) -> Iterator[int]:
    """Where to cut: anywhere, and as often near a rename."""
    for each in range(count):
        if each % 2 and recording.renames:
            near = rng.choice(recording.renames) + rng.randrange(-_NEAR, _NEAR)
            yield min(max(0, near), recording.count)
        else:
            yield rng.randrange(recording.count + 1)


def cut_power(
    root: Path, cuts: int, seed: int, ways: Sequence[str] = tuple(WAYS), repeats: int = 1
) -> tuple[Counter[str], list[str]]:
    """Cut the power of builds.

    Args:
        root: A new folder.
        cuts: How many cuts in all.
        seed: Of everything that is random.
        ways: Names of WAYS.
        repeats: After every so many cuts, the same command is run again.

    Returns:
        What was seen, and what was wrong.
    """
    builds, rng = Builds(root, ways), random.Random(seed)  # noqa: S311
    recorder = compile_recorder(root)
    seen, wrong = Counter[str](), list[str]()
    for index, way in enumerate(ways):
        recording = record(builds, way, recorder, root / "log.power")
        wrong += [f"{way}, recorded: {each}" for each in builds.different(way)]
        share = cuts // len(ways) + (index < cuts % len(ways))
        for number, moment in enumerate(moments(recording, share, rng)):
            shutil.rmtree(builds.work)
            builds.work.mkdir()
            recording.cut(moment, rng, builds.work)
            found = builds.problems(way)
            finished = not builds.different(way)
            seen[f"{way}: " + ("new" if finished else "old" if (builds.work / "x").exists() else "none yet")] += 1
            restart(builds.work)
            if number % repeats == 0:
                found += builds.repeat(way)
            wrong += [f"{way}, operation {moment} of {recording.count}: {each}" for each in found]
    return seen, wrong


def main() -> None:
    """Read the command line, cut, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is random")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="cut only these builds")
    parser.add_argument("--repeats", type=int, default=1, help="run the same command again after every so many cuts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="power-cuts-") as root:
        ways = arguments.way or tuple(WAYS)
        seen, wrong = cut_power(Path(root), arguments.cuts, arguments.seed, ways, arguments.repeats)
    for what, count in sorted(seen.items()):
        print(f"{count:5} {what}")
    print(*wrong, sep="\n")
    print(f"{arguments.cuts} cuts, {len(wrong)} faults")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
