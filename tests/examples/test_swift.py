"""The Swift package is not built: no compiler. Its use of the C API is compared with the headers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cmake_project import PACKAGE, ROOT

EXAMPLE = ROOT / "examples" / "swift"


@pytest.mark.slow
@pytest.mark.parametrize("system", ["Darwin", "iOS"])
def test_the_library_is_configured_for_apples_systems(system: str, tmp_path: Path) -> None:
    """There is no SDK, so nothing is compiled; clang's driver tells whether it takes the options of the link."""
    sdk = tmp_path / "iPhoneOS.platform" / "Developer" / "SDKs" / "iPhoneOS.sdk"  # CMake looks for such a name
    sdk.mkdir(parents=True)
    options = {
        "CMAKE_SYSTEM_NAME": system, "CMAKE_OSX_SYSROOT": sdk, "CMAKE_CXX_COMPILER": "clang++",
        "CMAKE_CXX_COMPILER_TARGET": "arm64-apple-macos13", "CMAKE_CXX_COMPILER_WORKS": 1,
        "CMAKE_HAVE_LIBC_PTHREAD": 1, "CMAKE_INSTALL_NAME_TOOL": "/bin/true",
    }  # fmt: skip
    if system == "Darwin":
        options["CMAKE_SYSTEM_PROCESSOR"] = "arm64"  # a Mac knows its own; the one of iOS is found
    command = [
        "cmake",
        "-S",
        PACKAGE,
        "-B",
        tmp_path / "build",
        *(f"-D{key}={value}" for key, value in options.items()),
    ]
    subprocess.run(command, check=True, capture_output=True)
    words = (tmp_path / "build" / "CMakeFiles" / "edgekit_native.dir" / "link.txt").read_text("utf-8").split()
    assert any("neon_dotprod" in word for word in words)
    assert not any("avx2" in word for word in words)
    flags = [word for word in words if word.startswith("-static")]
    (tmp_path / "x.cpp").write_text("")
    drive = ["clang++", "--target=arm64-apple-macos13", "-shared", *flags]
    done = subprocess.run([*drive, tmp_path / "x.cpp", "-###"], capture_output=True, text=True, check=False)
    assert "error:" not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_system_without_a_processor_is_an_error(tmp_path: Path) -> None:
    command = ["cmake", "-S", PACKAGE, "-B", tmp_path / "build", "-DCMAKE_SYSTEM_NAME=Linux"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "-DCMAKE_SYSTEM_PROCESSOR=aarch64" in done.stderr


def test_the_package_uses_names_of_the_headers_and_says_that_it_was_not_built() -> None:
    headers = "".join(path.read_text("utf-8") for path in sorted((PACKAGE / "include").glob("*.h")))
    source = (EXAMPLE / "Sources" / "Edgekit" / "Edgekit.swift").read_text("utf-8")
    used = set(re.findall(r"\b(?:ek|EK)_\w+", source))
    assert len(used) > 15
    assert {name for name in used if not re.search(rf"\b{name}\b", headers)} == set()
    assert "**Not built.**" in (EXAMPLE / "README.md").read_text("utf-8")
    targets = re.findall(r'name: "(\w+)"', (EXAMPLE / "Package.swift").read_text("utf-8"))
    assert {path.name for path in (EXAMPLE / "Sources").iterdir()} <= set(targets)
