"""``--reasoning``, ``--chat-template`` and ``--stop`` reach the artifact, and ``plan`` shows the signs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_templates import CHATML
from invoke import Invoke
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest


def test_a_build_with_each_option(invoke: Invoke, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny")
    (tmp_path / "mine.jinja").write_text(CHATML, encoding="utf-8")
    done = invoke(
        "build", "--device", "cpu", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--no-gate",
        "--chat-template", tmp_path / "mine.jinja", "--stop", "END", "--stop", "<|user|>", "--reasoning",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.reasoning, manifest.reasoning_signs) == (True, ["--reasoning"])
    assert manifest.sampling["temperature"] == 0.6
    assert manifest.stop_texts == ["<|im_end|>", "END"]
    assert manifest.tokens["eos"] == [1, 2]
    assert (tmp_path / "out" / "chat_template.jinja").read_text(encoding="utf-8") == CHATML
    assert "note: the text '<|im_end|>' ends a turn in the chat template" in done.stderr
    assert "yes: --reasoning" in done.stderr


@pytest.mark.parametrize(
    ("options", "reasoning", "signs"),
    [((), True, ["the recipe says so"]), (("--no-reasoning",), False, ["--no-reasoning"])],
)
def test_a_plan_shows_whether_the_model_thinks(
    invoke: Invoke, options: tuple[str, ...], reasoning: bool, signs: list[str]
) -> None:
    command = ("plan", "deepseek-r1-distill-qwen-1.5b", "--device", "jetson", *options)
    found = invoke(*command, "--json").json()
    assert (found["reasoning"], found["reasoning_signs"]) == (reasoning, signs)
    assert f"{'yes' if reasoning else 'no'}: {signs[0]}" in invoke(*command).text


def test_a_template_file_that_is_not_valid(invoke: Invoke, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny")
    (tmp_path / "mine.jinja").write_text("{% if %}", encoding="utf-8")
    done = invoke(
        "build", "--device", "cpu", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--json",
        "--chat-template", tmp_path / "mine.jinja",
    )  # fmt: skip
    error = json.loads(done.stdout)["error"]
    assert "mine.jinja is not valid jinja2" in error["message"]
    assert not (tmp_path / "out").exists()
