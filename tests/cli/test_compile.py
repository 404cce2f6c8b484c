from __future__ import annotations

from pathlib import Path

import pytest
from invoke import Invoke

from edgekit.deploy import compile as module
from edgekit.deploy.compile import Compiled
from edgekit.deploy.targets import TARGETS, Target


def test_the_help_lists_every_target(invoke: Invoke) -> None:
    text = invoke("compile", "--help").text
    assert all(f"{target.name} " in text for target in TARGETS)


def test_an_unknown_target_has_the_exit_code(invoke: Invoke) -> None:
    outcome = invoke("compile", "linux-arm")
    assert outcome.exit_code == 10
    assert "linux-aarch64" in outcome.stderr


def test_the_files_are_listed(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(target: Target, folder: Path) -> Compiled:
        files = [folder / name for name in (target.library, "edgekit-run", "edgekit.h")]
        for file in files:
            file.write_bytes(b"12345")
        return Compiled(target, files[0], files[1], (files[2],))

    monkeypatch.setattr(module, "compile_native", compiled)
    outcome = invoke("compile", "musl-aarch64", "--out", tmp_path)
    assert outcome.exit_code == 0
    assert outcome.text.splitlines()[0] == f"{tmp_path / 'edgekit-run'}  5 B"
    found = invoke("compile", "musl-aarch64", "--out", tmp_path, "--json").json()
    assert (found["target"], found["program"]) == ("musl-aarch64", str(tmp_path / "edgekit-run"))
    assert [file["size_bytes"] for file in found["files"]] == [5, 5, 5]
