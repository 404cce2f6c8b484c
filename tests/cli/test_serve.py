from __future__ import annotations

from pathlib import Path

import pytest
from invoke import Invoke

pytest.importorskip("starlette", reason="needs the extra serve")


def test_an_address_that_others_reach_needs_a_key(
    invoke: Invoke, built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEKIT_API_KEY", raising=False)
    outcome = invoke("serve", built_artifact, "--host", "0.0.0.0", "--context", 64)  # noqa: S104
    assert outcome.exit_code == 2
    assert "--api-key-file" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parallel", 17], "parallel is 17; it must be from 1 to 16"),
        (["--port", 70000], "port"),
        (["--api-key-file", "missing"], "missing cannot be read"),
        (["--memory", "1kB"], "with its KV caches; this server may use 1.00 kB"),
        (["--memory", "much"], "'much' is not a size"),
    ],
)
def test_a_wrong_option_is_refused(invoke: Invoke, built_artifact: Path, arguments: list[object], message: str) -> None:
    outcome = invoke("serve", built_artifact, "--context", 64, *arguments)
    assert outcome.exit_code in (2, 95)
    assert message in outcome.stderr


def test_a_folder_that_is_no_artifact(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("serve", tmp_path).exit_code == 60
