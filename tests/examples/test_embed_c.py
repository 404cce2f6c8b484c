"""The C example, compiled as its comment shows, generates the same tokens as the Python engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tiny_checkpoint import write_checkpoint

from edgekit import native
from edgekit.build.pipeline import build
from edgekit.runtime.native_engine import NativeEngine

EXAMPLE = Path(__file__).parents[2] / "examples" / "embed.c"


def compiled(tmp_path: Path) -> Path:
    library = Path(native.library()._name).parent
    include = Path(native.__file__).parent / "include"
    program = tmp_path / "embed"
    command = [
        "cc",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-I",
        include,
        EXAMPLE,
        "-L",
        library,
        "-l",
        "edgekit_native",
    ]
    subprocess.run([*command, f"-Wl,-rpath,{library}", "-o", program], check=True)
    return program


def test_it_gives_the_tokens_of_the_python_engine(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    artifact = build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out").artifact
    prompt, count = [1, 104, 82, 70], 12
    engine = NativeEngine(artifact, len(prompt) + count, 1, False, "int8")
    expected, logits = [], engine.evaluate(prompt)
    for _ in range(count):
        expected.append(int(logits[-1].argmax()))
        logits = engine.evaluate([expected[-1]])
    done = subprocess.run(
        [compiled(tmp_path), artifact, str(count), *map(str, prompt)], capture_output=True, text=True, check=True
    )
    assert [int(line) for line in done.stdout.split()] == expected


def test_errors_are_reported(tmp_path: Path) -> None:
    done = subprocess.run([compiled(tmp_path), tmp_path, "1", "1"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot open" in done.stderr
