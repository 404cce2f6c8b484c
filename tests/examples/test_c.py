"""The C examples: a conversation, and token ids that are those of the Python engine."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import cmake_project
import pytest
from shared_models import SharedModels
from tiny_checkpoint import write_checkpoint

from edgekit import native
from edgekit.build.pipeline import build
from edgekit.runtime.native_engine import NativeEngine

EXAMPLE = cmake_project.ROOT / "examples" / "c"


def compiled(tmp_path: Path, name: str) -> Path:
    library = Path(native.library()._name).parent
    include = Path(native.__file__).parent / "include"
    program = tmp_path / name
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    link = ["-L", library, "-l", "edgekit_native", f"-Wl,-rpath,{library}"]
    subprocess.run(["cc", *flags, "-I", include, EXAMPLE / f"{name}.c", *link, "-o", program], check=True)
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
    program = compiled(tmp_path, "tokens")
    done = subprocess.run(
        [program, artifact, str(count), *map(str, prompt)], capture_output=True, text=True, check=True
    )
    assert [int(line) for line in done.stdout.split()] == expected


@pytest.mark.parametrize("name", ["tokens", "chat"])
def test_errors_are_reported(tmp_path: Path, name: str) -> None:
    program = compiled(tmp_path, name)
    arguments = ["1", "1"] if name == "tokens" else []
    done = subprocess.run([program, tmp_path, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot open" in done.stderr
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"usage: {name} ARTIFACT" in done.stderr


def test_a_conversation(tmp_path: Path, models: SharedModels) -> None:
    program = compiled(tmp_path, "chat")
    done = subprocess.run(
        [program, models.artifact(), "3"], input=b"What is 2 + 2?\n\nAnd 3 + 3?", capture_output=True, check=True
    )
    assert done.stdout.count(b"\n") >= 2
    assert done.stderr.count(b" tokens, the first after ") == 2, "the empty line is no question"


@pytest.mark.slow
def test_an_interrupt_ends_the_answer_and_not_the_conversation(tmp_path: Path, models: SharedModels) -> None:
    folder = cmake_project.installed(tmp_path / "edgekit")
    built = cmake_project.build(EXAMPLE, tmp_path / "build", f"CMAKE_PREFIX_PATH={folder}")
    command = [built / "chat", models.smollm2(), "3000"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        assert chat.stderr is not None
        chat.stdin.write(b"Count to one thousand, in words.\n")
        chat.stdin.flush()
        assert chat.stdout.read(1) != b""
        chat.send_signal(signal.SIGINT)
        said = b""
        while b"]\n" not in said:
            said += chat.stderr.read(1)
        assert b"; cancelled]" in said
        rest = chat.communicate(b"What is the capital of France?\n", timeout=120)
        assert rest[0].strip() != b""
        assert b"cancelled" not in rest[1]
        assert chat.returncode == 0
