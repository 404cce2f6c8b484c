"""``edgekit eval``: on the held-out texts or on a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_checkpoint import write_checkpoint

from edgekit.build.pipeline import build
from edgekit.cli.eval import command
from edgekit.quality.evaluation import CHUNK_TOKENS

FIELDS = {"mean_kl", "p99_kl", "top1", "perplexity", "reference_perplexity", "tokens"}


def evaluated(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit.cli", "eval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_help_names_the_default_of_the_library() -> None:
    option = next(option for option in command.params if option.name == "chunk_tokens")
    assert option.default is None
    assert f"[default: {CHUNK_TOKENS}]" in option.help


def test_without_a_text_it_reads_the_gates_texts(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    result = build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out")
    done = evaluated(result.artifact, "--reference", checkpoint, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == FIELDS
    quality = result.manifest.quality
    assert quality is not None
    assert found == pytest.approx({key: quality[key] for key in FIELDS}, rel=1e-5)
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 30)
    other = evaluated(result.artifact, "--reference", checkpoint, "--text", tmp_path / "text.txt", "--json")
    assert json.loads(other.stdout)["tokens"] != found["tokens"]
