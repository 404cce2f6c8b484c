"""The Kotlin flow on a JVM. The compiler is inside a Python package, which EDGEKIT_KOTLIN_PYTHON has installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cmake_project
import pytest
from shared_models import SharedModels

EXAMPLES = cmake_project.ROOT / "examples"


@pytest.fixture
def jars() -> str:
    """A class path with the compiler, the standard library and kotlinx-coroutines."""
    python = os.environ.get("EDGEKIT_KOTLIN_PYTHON")
    if not python:
        pytest.skip("EDGEKIT_KOTLIN_PYTHON is not set; .ci/run sets it")
    return ":".join(
        map(str, sorted(Path(python).parents[1].glob("lib/python*/site-packages/run_kotlin_kernel/jars/*.jar")))
    )


@pytest.mark.slow
def test_the_flow_keeps_its_promises_and_the_example_answers(tmp_path: Path, models: SharedModels, jars: str) -> None:
    folder = cmake_project.installed(tmp_path / "edgekit")
    built = cmake_project.build(EXAMPLES / "java", tmp_path / "build", f"CMAKE_PREFIX_PATH={folder}")
    (tmp_path / "classes").mkdir()
    classes = f"{tmp_path / 'classes'}:{built / 'edgekit.jar'}:{jars}"
    sources = [*sorted((EXAMPLES / "kotlin").rglob("*.kt")), Path(__file__).with_name("Checks.kt")]
    compiler = ["java", "-cp", jars, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    options = ["-Werror", "-no-stdlib", "-no-reflect", "-cp", classes, "-d", tmp_path / "classes"]
    subprocess.run([*compiler, *options, *sources], check=True)
    java = ["java", "-Xcheck:jni", f"-Djava.library.path={built}", "-cp", classes]
    done = subprocess.run(
        [*java, "ChecksKt", models.artifact()], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all\n")
    done = subprocess.run(
        [*java, "ChatKt", models.artifact(), "3"],
        input="What is 2 + 2?\nAnd 3?\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count(" tokens, ") == 2
