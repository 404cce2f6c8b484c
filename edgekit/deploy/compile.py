"""Compiles the native library and edgekit-run for another machine, from the sources inside this package.

The compiler is zig: one PyPI package that brings the headers and libraries of every target. CMakeLists.txt says what is
compiled and with which flags; ``native/cmake/zig.cmake`` names the compiler.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..artifact.writer import check_place, disk_error, give_name
from ..errors import CompileError, DiskFullError, MissingPackageError, OutputExistsError
from ..leftovers import locked_folder
from .targets import Target

SOURCES = Path(__file__).parents[1] / "native"
PROGRAM = "edgekit-run"
_HEADERS = ("edgekit.h", "edgekit_text.h", "edgekit.hpp")
_SOURCE_SUFFIXES = (".cpp", ".h", ".inl", ".cmake", ".map", ".txt")
_STAMP = "built-from"  # the file that says what a folder was compiled from
_LAST_LINES = 20  # of the compiler's output, in an error


@dataclass(frozen=True)
class Compiled:
    """What was compiled for a target.

    Attributes:
        target: The target.
        library: The shared library, stripped.
        program: edgekit-run, stripped.
        headers: The headers of the library, for C and C++.
    """

    target: Target
    library: Path
    program: Path
    headers: tuple[Path, ...]


@dataclass(frozen=True)
class Toolchain:
    """The programs that compile.

    Attributes:
        zig, cmake, ninja: Their paths.
        version: zig's version.
    """

    zig: Path
    cmake: Path
    ninja: Path
    version: str

    @classmethod
    def find(cls) -> Toolchain:
        """The programs of the installed packages ziglang, cmake and ninja; cmake and ninja of the system will do.

        Raises:
            MissingPackageError: One is not installed.
        """
        spec = importlib.util.find_spec("ziglang")
        cmake, ninja = _program("cmake"), _program("ninja")
        missing = [name for name, found in (("ziglang", spec), ("cmake", cmake), ("ninja", ninja)) if found is None]
        if missing or spec is None or spec.origin is None or cmake is None or ninja is None:
            raise MissingPackageError.for_extra("compile", missing, "compiling for another machine")
        zig = Path(spec.origin).parent / ("zig.exe" if sys.platform == "win32" else "zig")
        version = subprocess.run([zig, "version"], capture_output=True, text=True, check=True).stdout.strip()
        return cls(zig, cmake, ninja, version)

    def cmake_arguments(self, target: Target) -> list[str]:
        """The definitions that make CMake compile for a target."""
        return [
            f"-DCMAKE_TOOLCHAIN_FILE={SOURCES / 'cmake' / 'zig.cmake'}",
            f"-DCMAKE_MAKE_PROGRAM={self.ninja}",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DEDGEKIT_ZIG={self.zig}",
            f"-DEDGEKIT_ZIG_TARGET={target.zig}",
            f"-DEDGEKIT_VERSION={_version()}",
        ]


def compile_native(target: Target, folder: Path, *, jobs: int | None = None) -> Compiled:
    """Compile the library and edgekit-run for a target, unless ``folder`` has them already, from the same sources.

    The first compilation for a target takes a few minutes, because zig compiles the C++ library too; it keeps that in
    its own cache.

    Args:
        target: What to compile for.
        folder: Receives the library, the program and the headers, under a folder named after the target. What was
            compiled there earlier is replaced.
        jobs: Compilers that run at once; None: one per core.

    Raises:
        MissingPackageError: zig, cmake or ninja is not installed.
        OutputExistsError: The folder named after the target has other content, or is inside an artifact.
        CompileError: It could not be compiled, or the folder cannot be written.
    """
    toolchain = Toolchain.find()
    out = folder / target.name
    compiled = Compiled(target, out / target.library, out / PROGRAM, tuple(out / "include" / name for name in _HEADERS))
    files = (compiled.library, compiled.program, *compiled.headers)
    stamp, expected = out / _STAMP, f"{sources_digest()} zig {toolchain.version} {target.zig}\n"
    if all(file.is_file() for file in files) and stamp.is_file() and stamp.read_text("utf-8") == expected:
        return compiled
    _check_replaceable(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            locked_folder(Path(tempfile.gettempdir()), "edgekit-compile-") as build,
            locked_folder(folder, f".{target.name}.partial-") as made,
        ):
            _build(toolchain, target, build, jobs)
            for file in (compiled.library, compiled.program):
                shutil.copy2(build / file.name, made / file.name)
            (made / "include").mkdir()
            for header in compiled.headers:
                shutil.copyfile(SOURCES / "include" / header.name, made / "include" / header.name)
            (made / stamp.name).write_text(expected, "utf-8")
            give_name(made, out, lambda: _check_replaceable(out))
    except OSError as error:
        problem = disk_error(error, out, None)
        if isinstance(problem, DiskFullError):
            raise problem from None
        raise CompileError(f"cannot compile for {target.name}: {error.strerror}: {error.filename}") from None
    return compiled


def _check_replaceable(out: Path) -> None:
    """Check that a folder is missing, empty, or of an earlier compilation."""
    check_place(out)
    is_empty = not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir()))
    if out.is_symlink() or not (is_empty or (out / _STAMP).is_file()):
        raise OutputExistsError(
            f"{out} exists and is not a folder that edgekit compile wrote",
            hint="--out chooses another folder; the target gets a folder in it",
        )


def sources_digest() -> str:
    """The SHA-256 of all sources and build files, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in _SOURCE_SUFFIXES:
            digest.update(f"{path.relative_to(SOURCES).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _build(toolchain: Toolchain, target: Target, build: Path, jobs: int | None) -> None:
    parallel = ["--parallel", str(jobs or os.cpu_count() or 1)]
    for arguments in (
        ["-S", str(SOURCES), "-B", str(build), "-G", "Ninja", *toolchain.cmake_arguments(target)],
        ["--build", str(build), "--target", "edgekit_native", "edgekit_run", *parallel],
    ):
        done = subprocess.run([toolchain.cmake, *arguments], capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
            raise CompileError(
                f"cannot compile for {target.name}: cmake ended with exit code {done.returncode}\n" + "\n".join(said)
            )


def _version() -> str:
    try:
        return importlib.metadata.version("edgekit-llm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # the modules are used without an installation


def _program(name: str) -> Path | None:
    """A program of this Python environment, or of the system."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    return None if found is None else Path(found)
