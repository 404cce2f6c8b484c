"""The gate's lists of packages (``tools/lock.py``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lock
import pytest
from packaging.version import Version


@pytest.mark.parametrize("listed", lock.LOCKS, ids=lambda one: one.file.name)
def test_the_lists_meet_what_pyproject_asks_for(listed: lock.Lock) -> None:
    assert lock.missing(listed) == []
    text = listed.file.read_text(encoding="utf-8")
    assert text.count("==") == len(lock.pinned(text))
    assert all("--hash=sha256:" in block for block in text.split("==")[1:])


def test_the_lowest_list_has_the_lower_bounds() -> None:
    found = lock.pinned(lock.LOCKS[1].file.read_text(encoding="utf-8"))
    assert found["jinja2"] == Version("3.1.6")  # earlier ones let a template out of the sandbox: CVE-2025-27516
    assert found["numpy"] == Version("1.26.0")
    assert found["onnxruntime"] == Version("1.23.2")


def test_what_a_list_lacks_is_named(tmp_path: Path) -> None:
    listed = replace(lock.LOCKS[0], file=tmp_path / "list.txt", extras=("chat",))
    listed.file.write_text(
        "Click==8.0 \\\n    --hash=sha256:0\njinja2==3.1.6\nnumpy==2.4.6 ; python_version > '3'\nrich==15.0\n"
    )
    assert lock.missing(listed) == ["click>=8.1", "prompt_toolkit>=3.0.36"]
