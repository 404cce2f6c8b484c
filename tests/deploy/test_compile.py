"""Compiling for other machines. What is compiled is read as ELF files; a target's code runs under qemu."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elf import read_elf
from shared_models import SharedModels
from tiny_artifact import write_tiny_artifact

from edgekit.deploy import compile as module
from edgekit.deploy.compile import Compiled, Toolchain, compile_native, sources_digest
from edgekit.deploy.targets import OLDEST_GLIBC, TARGETS, Target, target_named
from edgekit.errors import CompileError, MissingPackageError, OutputExistsError

MOST_LIBRARY_BYTES = {"x86_64": 1_000_000, "aarch64": 1_000_000, "arm64": 1_300_000}
MOST_PROGRAM_BYTES = 2_000_000
# Each takes minutes, so .ci/run chooses some.
CHOSEN = os.environ.get("EDGEKIT_TEST_TARGETS", ",".join(target.name for target in TARGETS)).split(",")
LINUX = [target for target in TARGETS if "linux" in target.zig]


def runs_here(target: Target) -> bool:
    if target in LINUX and target.machine == os.uname().machine:
        return True
    return target.is_static and shutil.which(f"qemu-{target.machine}-static") is not None


def test_a_missing_compiler_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="ziglang") as raised:
        Toolchain.find()
    assert 'pip install "edgekit-llm[compile]"' in raised.value.hint


def test_a_failed_compilation_shows_what_the_compiler_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cmake = tmp_path / "cmake"
    cmake.write_text("#!/bin/sh\necho many lines\necho 'error: no such header' >&2\nexit 3\n")
    cmake.chmod(0o755)
    monkeypatch.setattr(Toolchain, "find", lambda: Toolchain(Path("zig"), cmake, Path("ninja"), "0"))
    with pytest.raises(CompileError, match=r"linux-aarch64.*exit code 3\n.*\nerror: no such header"):
        compile_native(target_named("linux-aarch64"), tmp_path)


def test_what_is_there_from_the_same_sources_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(toolchain: Toolchain, target: Target, folder: Path, jobs: int | None) -> None:
        built.append(target.name)
        for name in (target.library, module.PROGRAM):
            (folder / name).write_bytes(b"code")

    monkeypatch.setattr(Toolchain, "find", lambda: Toolchain(Path("zig"), Path("cmake"), Path("ninja"), "0"))
    monkeypatch.setattr(module, "_build", build)
    target = target_named("linux-aarch64")
    first = compile_native(target, tmp_path)
    assert all(path.is_file() for path in (first.library, first.program, *first.headers))
    assert compile_native(target, tmp_path) == first
    assert built == ["linux-aarch64"]
    monkeypatch.setattr(module, "sources_digest", lambda: "other")
    compile_native(target, tmp_path)
    assert built == ["linux-aarch64"] * 2


def stand_ins(monkeypatch: pytest.MonkeyPatch, during: Callable[[], None]) -> None:
    def build(toolchain: Toolchain, target: Target, folder: Path, jobs: int | None) -> None:
        during()
        for name in (target.library, module.PROGRAM):
            (folder / name).write_bytes(b"code")

    monkeypatch.setattr(Toolchain, "find", lambda: Toolchain(Path("zig"), Path("cmake"), Path("ninja"), "0"))
    monkeypatch.setattr(module, "_build", build)


def test_what_is_not_of_an_earlier_compilation_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_named("linux-aarch64")
    out = tmp_path / target.name
    stand_ins(monkeypatch, lambda: pytest.fail("compiled"))
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="is not a folder that edgekit compile wrote"):
        compile_native(target, tmp_path)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / target.name).symlink_to(out)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / target.name).write_text("mine")
    for folder in ("link", "file"):
        with pytest.raises(OutputExistsError, match="is not a folder that edgekit compile wrote"):
            compile_native(target, tmp_path / folder)
    write_tiny_artifact(tmp_path / "artifact")
    with pytest.raises(OutputExistsError, match="is inside the artifact"):
        compile_native(target, tmp_path / "artifact")
    assert (out / "thesis.txt").read_text() == "mine"


def test_an_empty_folder_is_replaced_unless_it_gets_content_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_named("linux-aarch64")
    out = tmp_path / target.name
    out.mkdir()
    stand_ins(monkeypatch, lambda: None)
    assert compile_native(target, tmp_path).program.is_file()
    shutil.rmtree(out)
    out.mkdir()
    stand_ins(monkeypatch, lambda: (out / "thesis.txt").touch())
    with pytest.raises(OutputExistsError):
        compile_native(target, tmp_path)
    assert (out / "thesis.txt").exists()
    assert list(tmp_path.iterdir()) == [out], "nothing else is left"


def test_the_digest_covers_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(module.SOURCES, tmp_path / "native")
    monkeypatch.setattr(module, "SOURCES", tmp_path / "native")
    before = sources_digest()
    for name in ("kernels/neon.inl", "src/session.cpp", "run/main.cpp", "cmake/exports.map", "CMakeLists.txt"):
        with (tmp_path / "native" / name).open("a") as file:
            file.write("\n")
        assert sources_digest() != before
        before = sources_digest()
    (tmp_path / "native" / "__init__.py").write_text("")
    assert sources_digest() == before


@pytest.fixture(scope="module", params=CHOSEN)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Compiled once for all runs of the tests where EDGEKIT_TEST_NATIVE names a folder that is kept."""
    kept = os.environ.get("EDGEKIT_TEST_NATIVE")
    try:
        return compile_native(target_named(request.param), Path(kept) if kept else tmp_path_factory.mktemp("native"))
    except MissingPackageError as error:
        pytest.skip(error.message)


@pytest.mark.slow
def test_a_target_is_small_and_needs_only_an_old_system(compiled: Compiled) -> None:
    target = compiled.target
    assert compiled.library.stat().st_size <= MOST_LIBRARY_BYTES[target.machine]
    assert compiled.program.stat().st_size <= MOST_PROGRAM_BYTES
    if target not in LINUX:
        assert compiled.library.read_bytes()[:4] == b"\xcf\xfa\xed\xfe"  # Mach-O, 64 bits
        return
    for path in (compiled.library, compiled.program):
        elf = read_elf(path)
        assert elf.machine == target.machine
        assert not elf.has_symbols
        assert {version.split("_")[0] for version in elf.versions} <= {"GLIBC"}  # libc++ is linked statically
        newest = max((tuple(map(int, v.removeprefix("GLIBC_").split("."))) for v in elf.versions), default=(0,))
        assert newest <= tuple(map(int, OLDEST_GLIBC.split(".")))
        allowed = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
        allowed |= {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
        assert set(elf.needed) <= ({"libc.so"} if target.is_static else allowed)
    program = read_elf(compiled.program)
    assert (program.interpreter == "" and program.needed == ()) == target.is_static


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [name for name in CHOSEN if runs_here(target_named(name))], indirect=True)
def test_the_program_runs_an_artifact(compiled: Compiled, models: SharedModels) -> None:
    target = compiled.target
    emulator = shutil.which(f"qemu-{target.machine}-static")
    folder = models.artifact("llama", "int4 block 32")
    sets = (
        [[]] if target.machine == os.uname().machine else [["-cpu", cpu] for cpu in ("cortex-a72", "cortex-a76", "max")]
    )
    for options in sets:
        command = [emulator, *options] if emulator and target.machine != os.uname().machine else []
        done = subprocess.run([*command, compiled.program, folder, "--smoke"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
