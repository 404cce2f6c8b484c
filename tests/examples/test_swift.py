"""The Swift package is not built: no compiler. Its use of the C API is compared with the headers."""

from __future__ import annotations

import re

from cmake_project import PACKAGE, ROOT

EXAMPLE = ROOT / "examples" / "swift"


def test_the_package_uses_names_of_the_headers_and_says_that_it_was_not_built() -> None:
    headers = "".join(path.read_text("utf-8") for path in sorted((PACKAGE / "include").glob("*.h")))
    source = (EXAMPLE / "Sources" / "Edgekit" / "Edgekit.swift").read_text("utf-8")
    used = set(re.findall(r"\b(?:ek|EK)_\w+", source))
    assert len(used) > 15
    assert {name for name in used if not re.search(rf"\b{name}\b", headers)} == set()
    assert "**Not built.**" in (EXAMPLE / "README.md").read_text("utf-8")
    targets = re.findall(r'name: "(\w+)"', (EXAMPLE / "Package.swift").read_text("utf-8"))
    assert {path.name for path in (EXAMPLE / "Sources").iterdir()} <= set(targets)
