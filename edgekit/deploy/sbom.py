"""The parts of a bundle or a wheel as a software bill of materials: CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json/).

The serial number is a hash of the content, and there is no time, so that equal parts give equal files.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from ..json_text import json_text

LLVM_LICENCE = "Apache-2.0 WITH LLVM-exception"
# What zig links into the library and the program, by the names of `linked_licences`.
LINKED = {"libc++": LLVM_LICENCE, "libunwind": LLVM_LICENCE, "musl": "MIT"}
_SPDX = ("Apache-2.0", "MIT", "BSD-3-Clause", LLVM_LICENCE)  # others, such as a model's own licence, are names


@dataclass(frozen=True)
class Component:
    """A part of a bundle or a wheel.

    Attributes:
        kind: ``application``, ``library`` or ``machine-learning-model``.
        name, version: Its name and version; the version may be empty.
        licence: An SPDX expression or another licence's name; empty if unknown.
        files: Names in it and their SHA-256.
        origin: Where it is from, for people; may be empty.
    """

    kind: str
    name: str
    version: str
    licence: str
    files: dict[str, str]
    origin: str = ""

    def to_json(self) -> dict[str, Any]:
        """The component as CycloneDX has it."""
        found: dict[str, Any] = {"type": self.kind, "bom-ref": self.name, "name": self.name}
        if self.version:
            found["version"] = self.version
        if self.origin:
            found["description"] = f"from {self.origin}"
        if self.licence:
            known = self.licence in _SPDX
            found["licenses"] = [{"expression": self.licence} if known else {"license": {"name": self.licence}}]
        found["components"] = [
            {"type": "file", "bom-ref": name, "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
            for name, digest in sorted(self.files.items())
        ]
        if not found["components"]:
            del found["components"]
        return found


def sbom_text(name: str, version: str, components: list[Component]) -> str:
    """The file's text.

    Args:
        name: The name of the bundle or wheel.
        version: The version of edgekit that made it.
        components: Its parts, in the order of the file.
    """
    parts = [component.to_json() for component in components]
    digest = hashlib.sha256(json_text([name, version, parts]).encode()).digest()
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": f"whole:{name}", "name": name, "version": version},
            "tools": {"components": [{"type": "application", "name": "edgekit", "version": version}]},
        },
        "components": parts,
    }
    return json_text(document, indent=2) + "\n"
