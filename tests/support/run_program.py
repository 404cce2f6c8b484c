"""edgekit-run for tests: where it is, and what it prints."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from edgekit import native

PROGRAM = next(
    (
        path
        for folder in (Path(native.library()._name).parent, Path(sysconfig.get_path("scripts")))
        if (path := folder / "edgekit-run").is_file()
    ),
    None,
)


def run(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    assert PROGRAM is not None
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, input=stdin, timeout=60)


def result(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
