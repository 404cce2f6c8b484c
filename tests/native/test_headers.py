"""The C headers: they compile as C and C++, and declare exactly the functions that the library exports."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edgekit import native

ROOT = Path(__file__).parents[2]
HEADERS = sorted((ROOT / "edgekit" / "native" / "include").glob("*.h"))
DECLARATION = re.compile(r"^EK_API [^;(]*?\b(ek_\w+)\(", re.MULTILINE)


def declared(header: Path) -> list[str]:
    return DECLARATION.findall(header.read_text(encoding="utf-8"))


def exported() -> set[str]:
    """The symbols of the library that the tests run with."""
    command = ["nm", "--dynamic", "--defined-only", "--format=posix", native.library()._name]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in symbols.splitlines()}


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
@pytest.mark.parametrize("compiler", [["cc", "-xc", "-std=c99"], ["c++", "-xc++", "-std=c++17"]], ids=["c", "c++"])
def test_each_header_compiles_alone(compiler: list[str], header: Path) -> None:
    flags = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I", str(header.parent)]
    subprocess.run([*compiler, *flags, "-"], input=f"#include <{header.name}>\n", text=True, check=True)


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_lines_fit(header: Path) -> None:
    assert [line for line in header.read_text(encoding="utf-8").splitlines() if len(line) > 120] == []


def test_every_exported_function_is_declared_once() -> None:
    assert sorted(exported()) == sorted(name for header in HEADERS for name in declared(header))


def test_every_function_is_bound_or_shown_in_the_example() -> None:
    used = (ROOT / "edgekit" / "native" / "__init__.py").read_text(encoding="utf-8")
    used += (ROOT / "examples" / "c" / "tokens.c").read_text(encoding="utf-8")
    names = {name for header in HEADERS for name in declared(header)}
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", used)) == []


def test_the_abi_version_is_the_bindings() -> None:
    header = (ROOT / "edgekit" / "native" / "include" / "edgekit.h").read_text(encoding="utf-8")
    assert f"#define EK_ABI_VERSION {native.ABI_VERSION}\n" in header
