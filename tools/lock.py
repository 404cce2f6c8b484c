"""Write the lists of packages that the gate installs, .ci/requirements.txt and .ci/lowest.txt, with their hashes.

    python tools/lock.py             resolve pyproject.toml's requirements anew (needs the package uv)
    python tools/lock.py --check     say what pyproject.toml asks for and the lists do not have

The first list has the newest versions for Python 3.11, and everything that the tests need. The second has the lowest
versions that pyproject.toml allows, for Python 3.10, and what a part of the tests needs. The README's commands are run
with neither, as users run them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Lock:
    """A list of packages.

    Attributes:
        file: Where it is written.
        python: For this version of Python.
        extras: The extras of edgekit that it covers.
        lowest: Whether it has the lowest versions instead of the newest.
        more: What it has beside edgekit's requirements.
    """

    file: Path
    python: str
    extras: tuple[str, ...]
    lowest: bool = False
    more: tuple[str, ...] = ()


LOCKS = (
    Lock(ROOT / ".ci" / "requirements.txt", "3.11", ("test",)),
    Lock(
        ROOT / ".ci" / "lowest.txt", "3.10", ("build", "chat", "plot", "serve", "sign", "structured"), lowest=True,
        more=("hypothesis>=6.100", "pytest>=8.3", "pytest-xdist>=3.6", "safetensors>=0.5"),
    ),
)  # fmt: skip


def required(extras: tuple[str, ...], python: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for, with the extras that an extra names.

    Args:
        extras: Names of extras.
        python: The version of Python; requirements for others are left out.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    for requirement in map(Requirement, lines):
        if requirement.name == project["name"]:
            yield from required(tuple(requirement.extras), python)
        elif requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            yield requirement


def pinned(text: str) -> dict[str, Version]:
    """The packages of a list and their versions.

    Args:
        text: The list, as pip reads it.
    """
    lines = (
        line.split(";")[0].rstrip("\\ ")
        for line in text.splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    )
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def missing(lock: Lock) -> list[str]:
    """What a list lacks, or has in a version that is not allowed.

    Args:
        lock: The list.
    """
    found = pinned(lock.file.read_text(encoding="utf-8"))
    wanted = [*required(lock.extras, lock.python), *map(Requirement, lock.more)]
    return sorted(
        {
            str(one)
            for one in wanted
            if (at := found.get(canonicalize_name(one.name))) is None or at not in one.specifier
        }
    )


def write(lock: Lock) -> None:
    """Resolve the requirements and write the list.

    Args:
        lock: The list.
    """
    extras = [argument for extra in lock.extras for argument in ("--extra", extra)]
    resolution = ["--resolution", "lowest-direct"] if lock.lowest else []
    subprocess.run(
        [
            "uv", "pip", "compile", "pyproject.toml", "-", *extras, *resolution, "--quiet", "--generate-hashes",
            "--no-annotate", "--no-emit-index-url", "--custom-compile-command", "python tools/lock.py",
            "--python-version", lock.python, "--python-platform", "linux", "--output-file", str(lock.file),
        ],
        cwd=ROOT, input="\n".join(lock.more), text=True, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write or check the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a list lacks something")
    options = parser.parse_args(arguments)
    for lock in LOCKS:
        if not options.check:
            lock.file.unlink(missing_ok=True)  # uv would keep the versions in it
            write(lock)
        if lacks := missing(lock):
            sys.exit(f"{lock.file.relative_to(ROOT)} lacks {', '.join(lacks)}; python tools/lock.py writes it anew")
        print(f"{lock.file.relative_to(ROOT)}: {len(pinned(lock.file.read_text(encoding='utf-8')))} packages")


if __name__ == "__main__":
    main()
