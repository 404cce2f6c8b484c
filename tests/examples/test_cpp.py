"""The C++ example and edgekit.hpp, through find_package and through add_subdirectory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import cmake_project
import pytest
from cmake_project import PACKAGE, ROOT
from shared_models import SharedModels

from edgekit import native

EXAMPLE = ROOT / "examples" / "cpp"
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror")


@pytest.mark.slow
def test_the_classes_keep_their_promises(tmp_path: Path, models: SharedModels) -> None:
    library, checks = Path(native.library()._name), tmp_path / "checks"
    source = Path(__file__).with_name("checks.cpp")
    link = [library, f"-Wl,-rpath,{library.parent}", "-pthread"]
    subprocess.run(["c++", *FLAGS, "-I", PACKAGE / "include", source, *link, "-o", checks], check=True)
    done = subprocess.run([checks, models.artifact()], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all\n")


def test_the_fields_of_an_answer_are_those_of_the_c_api() -> None:
    headers = PACKAGE / "include"
    struct = re.search(r"typedef struct \{([^}]*)\} ek_completion;", (headers / "edgekit_text.h").read_text("utf-8"))
    assert struct is not None
    fields = set(re.findall(r"(\w+);", re.sub(r"/\*.*?\*/", "", struct[1], flags=re.DOTALL)))
    copied = set(re.findall(r"\bdone\.(\w+)", (headers / "edgekit.hpp").read_text("utf-8")))
    assert fields - copied - {"size"} == set()


@pytest.mark.slow
def test_another_version_of_the_library_is_refused(tmp_path: Path, models: SharedModels) -> None:
    library = Path(native.library()._name)
    (tmp_path / "main.cpp").write_text(
        "#include <edgekit.hpp>\n#include <cstdio>\n"
        "int main(int, char **argv) {\n"
        "  try { edgekit::Model model(argv[1]); } catch (const edgekit::Error &error) { std::puts(error.what()); }\n}\n"
    )
    (tmp_path / "other.c").write_text("int ek_abi_version(void) { return 99; }\n")
    link = [library, f"-Wl,-rpath,{library.parent}", "-pthread"]
    main, other = tmp_path / "main", tmp_path / "other.so"
    subprocess.run(["c++", *FLAGS, "-I", PACKAGE / "include", main.with_suffix(".cpp"), *link, "-o", main], check=True)
    subprocess.run(["cc", "-shared", "-fPIC", other.with_suffix(".c"), "-o", other], check=True)
    command = [main, models.artifact()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
    environment = {**os.environ, "LD_PRELOAD": str(other)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the library has ABI version 99; this program needs ")


@pytest.mark.slow
def test_the_example_answers_with_an_installed_package(tmp_path: Path, models: SharedModels) -> None:
    folder = cmake_project.installed(tmp_path / "edgekit")
    answers(cmake_project.build(EXAMPLE, tmp_path / "build", f"CMAKE_PREFIX_PATH={folder}"), models)


def answers(built: Path, models: SharedModels) -> None:
    command = [built / "chat", models.artifact(), "3"]
    done = subprocess.run(command, input=b"What is 2 + 2?\nAnd 3 + 3?\n", capture_output=True, check=True)
    assert done.stderr.count(b" tokens, the first after ") == 2


@pytest.mark.slow
def test_the_sources_are_part_of_another_project_and_can_be_installed(tmp_path: Path, models: SharedModels) -> None:
    built = cmake_project.build(
        EXAMPLE,
        tmp_path / "build",
        f"EDGEKIT_SOURCES={PACKAGE}",
        "EDGEKIT_INSTALL=ON",
        "CMAKE_EXPORT_COMPILE_COMMANDS=ON",
    )
    answers(built, models)
    assert not list(built.rglob("edgekit-run")), "a program that the other project did not ask for"
    flags = re.search(r'"command": "(.*chat\.cpp.*)"', (built / "compile_commands.json").read_text("utf-8"))
    assert flags is not None
    assert not re.search(r" -(O\d|W|m|f)", flags[1]), f"flags of edgekit in the other project: {flags[1]}"
    prefix = tmp_path / "prefix"
    subprocess.run(["cmake", "--install", built, "--prefix", prefix], check=True, capture_output=True)
    assert sorted(path.name for path in prefix.rglob("*.h*")) == ["edgekit.h", "edgekit.hpp", "edgekit_text.h"]
    answers(cmake_project.build(EXAMPLE, tmp_path / "again", f"CMAKE_PREFIX_PATH={prefix}"), models)


VERSION = re.search(r'^version = "(\d+)\.(\d+)\.(\d+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
PROJECT = """cmake_minimum_required(VERSION 3.20)
project(found LANGUAGES CXX)
foreach(version {versions})
  unset(edgekit_DIR CACHE)
  find_package(edgekit ${{version}} QUIET)
  message("${{version}} ${{edgekit_FOUND}} ${{edgekit_VERSION}}")
endforeach()
"""


def test_the_version_is_the_packages_and_is_checked(tmp_path: Path) -> None:
    assert VERSION is not None
    major, minor, patch = map(int, VERSION.groups())
    own = f"{major}.{minor}.{patch}"
    expected = {
        own: 1, f"{major}.{minor}": 1, f"{major}": 1,
        f"{major}.{minor}.{patch + 1}": 0, f"{major}.{minor + 1}": 0, f"{major + 1}": 0,
    }  # fmt: skip
    folder = cmake_project.installed(tmp_path / "edgekit")
    text = PROJECT.format(versions=" ".join(expected))
    (tmp_path / "CMakeLists.txt").write_text(text, encoding="utf-8")
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for version, found in expected.items():
        assert f"\n{version} {found} {own}" in "\n" + done.stderr, version
