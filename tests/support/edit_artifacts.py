"""Edits an artifact at random, and counts the edits that ``verify`` does not see.

    python tests/support/edit_artifacts.py ARTIFACT --edits 10000

Bits are flipped, files cut, extended, added, removed, renamed, swapped or replaced by links, pipes and folders; values
of edgekit.json are changed. One edit in four is followed by a manifest that fits it, with its own digest, as somebody
would write it who wants to hide the edit: then ``verify`` is told which digest to expect. The key of a signed artifact
is demanded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.verify import verified
from edgekit.artifact.writer import hash_files
from edgekit.errors import EdgekitError

MANIFEST = "edgekit.json"
LONGEST_S = 5.0
Edit = Callable[[Path, random.Random], str]


def _file(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))


def flip(folder: Path, rng: random.Random) -> str:
    """One bit, in any file or, as often, in the manifest."""
    path = rng.choice([_file(folder, rng), folder / MANIFEST])
    content = bytearray(path.read_bytes() or b"\0")
    at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    content[at] ^= bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at} of {path.name} flipped"


def cut(folder: Path, rng: random.Random) -> str:
    """The end of a file is gone."""
    path = _file(folder, rng)
    size = path.stat().st_size
    to = rng.choice([0, max(0, size - 1), rng.randrange(max(1, size))])
    os.truncate(path, to)
    return f"{path.name} cut from {size} to {to} bytes"


def splice(folder: Path, rng: random.Random) -> str:
    """Bytes are inserted, removed, or replaced by others."""
    path = _file(folder, rng)
    content = path.read_bytes()
    at = rng.randrange(len(content) + 1)
    removed = rng.choice([0, 0, 1, rng.randrange(64)])
    inserted = rng.choice([b"", b"\n", b" ", rng.randbytes(rng.randrange(1, 64))])
    path.write_bytes(content[:at] + inserted + content[at + removed :])
    return f"{removed} bytes at {at} of {path.name} replaced by {inserted[:10]!r}"


def add(folder: Path, rng: random.Random) -> str:
    """A file or folder that does not belong there."""
    name = rng.choice(
        ["extra", "edgekit.json~", ".hidden", "sub/x", "model.onnx.data.1", "empty/", " ", "edgekit.sig.old"]
    )
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(rng.randbytes(rng.randrange(3)))
    return f"{name!r} added"


def remove(folder: Path, rng: random.Random) -> str:
    """A file is gone or has another name."""
    path = _file(folder, rng)
    if rng.random() < 0.5:
        path.unlink()
        return f"{path.name} removed"
    path.rename(folder / f"{path.name}2")
    return f"{path.name} renamed"


def swap(folder: Path, rng: random.Random) -> str:
    """Two files exchange their names."""
    first, second = rng.sample(sorted(path for path in folder.iterdir() if path.is_file()), 2)
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)
    return f"{first.name} and {second.name} swapped"


def kind(folder: Path, rng: random.Random) -> str:
    """Something else has the name of a file."""
    path = _file(folder, rng)
    outside = folder.parent / "outside"
    path.replace(outside)
    how = rng.choice(["pipe", "folder", "/dev/zero", "nowhere", path.name, str(outside)])
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    else:
        path.symlink_to(how)
    return f"{path.name} is a link to, or a {how}"


def value(folder: Path, rng: random.Random) -> str:
    """A value of the manifest is another one, or is spelled otherwise."""
    path = folder / MANIFEST
    fields: dict[str, Any] = json.loads(path.read_bytes())
    at: Any = fields
    name = rng.choice(sorted(fields))
    while isinstance(at[name], dict) and at[name] and rng.random() < 0.8:
        at = at[name]
        name = rng.choice(sorted(at))
    old = at[name]
    new = rng.choice([None, -1, 0, 1, 1e30, "x", [], {}, True, 2**63, 0.1, "0" * 64, "removed"])
    if isinstance(old, (int, float)) and rng.random() < 0.5:
        new = old + rng.choice([1, -1, 1e-9])
    if new == "removed":
        del at[name]
    else:
        at[name] = new
    path.write_text(json.dumps(fields, indent=rng.choice([None, 2, 3]), sort_keys=True, ensure_ascii=False) + "\n")
    return f"{name} of {MANIFEST} is {new!r}, not {str(old)[:30]!r}"


EDITS: dict[Edit, int] = {flip: 40, cut: 10, splice: 15, add: 6, remove: 6, swap: 5, kind: 5, value: 13}


def fit_manifest(folder: Path, rng: random.Random) -> bool:
    """Write a manifest that fits the files, as somebody would who hides an edit; False if that is not possible."""
    try:
        manifest = read_manifest(folder)
        paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        files = {path.relative_to(folder).as_posix(): hash_files([path])[path.name] for path in paths}
        del files[MANIFEST]
        files.pop("edgekit.sig", None)
        replace(manifest, files=files).write(folder)
    except (EdgekitError, OSError, KeyError):
        return False
    return True


def edit_artifact(artifact: Path, work: Path, edits: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Edit copies of an artifact.

    Args:
        artifact: The artifact, which stays as it is.
        work: A new folder for the copies.
        edits: How many.
        seed: Of the random edits.

    Returns:
        How often each kind of edit was made, and the edits that were not seen, or that ended in something else than an
        error of edgekit within five seconds.
    """
    rng, seen, wrong = random.Random(seed), Counter[str](), list[str]()  # noqa: S311
    found = verified(artifact)
    digest, key = found.digest, found.signed_by  # a signature that is gone is seen only by those who demand it
    copy = work / "copy"
    kinds, weights = list(EDITS), list(EDITS.values())
    for _ in range(edits):
        shutil.copytree(artifact, copy)
        edit = rng.choices(kinds, weights)[0]
        before = _content(copy)
        what = edit(copy, rng)
        while _content(copy) == before:  # a byte replaced by itself
            what = edit(copy, rng)
        hidden = rng.random() < 0.25 and fit_manifest(copy, rng)
        while _content(copy) == before:  # the manifest is what it was
            hidden = False
            what = edit(copy, rng)
        started = time.perf_counter()
        try:
            verified(copy, expect=digest if hidden else None, public_key=key)
            wrong.append(f"not seen: {what}, hidden: {hidden}")
        except EdgekitError:
            pass
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}: {what}")
        if time.perf_counter() - started > LONGEST_S:
            wrong.append(f"took more than {LONGEST_S:g} s: {what}")
        seen[edit.__name__ + (", hidden" if hidden else "")] += 1
        shutil.rmtree(copy)
        (work / "outside").unlink(missing_ok=True)
    return seen, wrong


def _content(folder: Path) -> dict[str, object]:
    """What a folder holds, to see that an edit changed something."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        if path.is_file() and not path.is_symlink()
        else path.lstat()
        for path in folder.rglob("*")
    }


def main() -> None:
    """Read the command line, edit, and print what was not seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="a small artifact, which is copied for each edit")
    parser.add_argument("--edits", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the random edits")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edit-artifacts-") as work:
        seen, wrong = edit_artifact(arguments.artifact, Path(work), arguments.edits, arguments.seed)
    for what, count in sorted(seen.items()):
        print(f"{count:6} {what}")
    print(*wrong, sep="\n")
    print(f"{arguments.edits} edits, {arguments.edits - len(wrong)} seen")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
