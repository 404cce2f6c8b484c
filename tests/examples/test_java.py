"""The Java classes on a JVM that checks its native calls: answers, exceptions, cancelling, closed objects."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cmake_project
import pytest
from shared_models import SharedModels

EXAMPLE = cmake_project.ROOT / "examples" / "java"


@pytest.mark.slow
def test_the_classes_keep_their_promises_and_the_example_answers(tmp_path: Path, models: SharedModels) -> None:
    folder = cmake_project.installed(tmp_path / "edgekit")
    built = cmake_project.build(EXAMPLE, tmp_path / "build", f"CMAKE_PREFIX_PATH={folder}")
    jar, checks = built / "edgekit.jar", Path(__file__).with_name("Checks.java")
    subprocess.run(["javac", "-cp", jar, "-d", tmp_path / "checks", checks], check=True)
    java = ["java", "-Xcheck:jni", f"-Djava.library.path={built}", "-cp", f"{jar}:{tmp_path / 'checks'}"]
    done = subprocess.run(
        [*java, "Checks", models.artifact()], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all\n")
    assert "WARNING" not in done.stdout, "of -Xcheck:jni"
    done = subprocess.run(
        [*java, "Chat", models.artifact(), "3"],
        input="What is 2 + 2?\nAnd 3?\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count(" tokens, the first after ") == 2
