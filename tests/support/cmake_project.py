"""Builds a CMake project as a user of edgekit does."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgekit import native

ROOT = Path(__file__).parents[2]
PACKAGE = Path(native.__file__).parent  # has include/ and cmake/


def installed(folder: Path) -> Path:
    """The layout of the Python package, with the library that the tests use; for CMAKE_PREFIX_PATH."""
    folder.mkdir()
    for path in (PACKAGE / "include", PACKAGE / "cmake", Path(native.library()._name)):
        (folder / path.name).symlink_to(path)
    return folder


def build(source: Path, folder: Path, *definitions: str, target: str = "all") -> Path:
    """Configure and build; returns the build folder."""
    commands = (
        ["cmake", "-S", source, "-B", folder, *(f"-D{definition}" for definition in definitions)],
        ["cmake", "--build", folder, "--parallel", "2", "--target", target],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder
