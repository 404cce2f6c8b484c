"""The README and docs/ work: sample output is what the commands print, and commands and examples run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, README, ROOT, TOP, blocks
from sample_output import WIDTH, refreshed
from tiny_artifact import write_tiny_artifact
from tiny_checkpoint import write_checkpoint

RUN_BY_THE_GATE = 2  # the README's first two sh blocks, which .ci/run runs as they stand


def of_page(page: Path) -> str:
    return page.name


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder in which the repository's paths can be used as in its root."""
    for name in TOP:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with ``edgekit`` and ``python`` on its path, and none of the user's settings."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("edgekit", " -m edgekit.cli"), ("python", ""), ("pytest", " -m pytest")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        script.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGEKIT_")}
    return kept | {
        "COLUMNS": f"{WIDTH}",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


def test_the_readme_shows_a_plan() -> None:
    assert [block for block in blocks(README, "console") if block.text.startswith("$ edgekit plan ")]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=of_page)
def test_sample_output_is_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == refreshed(text), "run: python tools/sample_output.py"


# Fields of a command that has other options, or another argument.
IN_OTHER_FORMS = {"plan": {"plans", "refused"}, "devices": {"device", "contradictions", "profile"}}


def documented_fields() -> dict[str, set[str]]:
    """Command -> the fields of its JSON object, from the table in docs/cli.md."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = text.partition("## JSON")[2].partition("## Exit codes")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", _without_members(fields))) for name, fields in rows}


def _without_members(fields: str) -> str:
    """A row of the table without what is in brackets, from the innermost ones outwards."""
    shorter = re.sub(r"\[[^][{}]*\]|\{[^][{}]*\}", "", fields)
    return fields if shorter == fields else _without_members(shorter)


@pytest.mark.slow
def test_json_has_the_documented_fields(environment: dict[str, str], tmp_path: Path) -> None:
    def output(*arguments: object) -> dict[str, object]:
        command = ["edgekit", *map(str, arguments), "--json"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=environment, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    checkpoint, text = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "text.txt"
    text.write_text("The capital of France is Paris. " * 60)
    outputs = {
        "plan": output("plan", "smollm2-135m", "--device", "pi"),
        "build": output("build", "--device", "cpu", "--checkpoint", checkpoint, "--out", "tiny"),
        "run": output("run", "tiny", "--prompt", "Hello", "--max-tokens", 2),
        "bench": output("bench", "tiny", "--prompt-tokens", 4, "--gen-tokens", 2, "--repeat", 1),
        "eval": output("eval", "tiny", "--reference", checkpoint, "--text", text, "--max-chunks", 1),
        "inspect": output("inspect", "tiny"),
        "verify": output("verify", "tiny"),
        "smoke": output("smoke", "tiny"),
        "devices": output("devices"),
        "recipes": output("recipes"),
        "keygen": output("keygen", "key"),
        "probe": output("probe", "--limits-only"),
    }
    documented = documented_fields()
    assert documented.keys() - outputs.keys() == {"bundle", "compile"}, "their tests have stand-ins for the compiler"
    for name, found in outputs.items():
        assert documented[name] - found.keys() <= IN_OTHER_FORMS.get(name, set()), name


def scripts() -> list[Path]:
    return [page for page in PAGES if blocks(page, "sh")[RUN_BY_THE_GATE if page == README else 0 :]]


@pytest.mark.slow
@pytest.mark.parametrize("page", scripts(), ids=of_page)
def test_commands_work(environment: dict[str, str], workplace: Path, page: Path) -> None:
    text = "".join(block.text for block in blocks(page, "sh")[RUN_BY_THE_GATE if page == README else 0 :])
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", text],
        cwd=workplace,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=of_page)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_artifact(tmp_path / "smollm2-135m-cpu", context_length=2048)  # the artifact that the examples load
    write_checkpoint(tmp_path / "checkpoint")  # the checkpoint that they build
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block.text, block.place, "exec"), names)  # noqa: S102
