"""What may stand under the name of a file that a command writes; nothing waits for a reader."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.artifact.manifest import FILE_NAME
from edgekit.output_file import output_problem, write_output

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="named pipes and devices of Unix")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _pipe_behind_a_link(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a named pipe": (os.mkfifo, "it is a named pipe, which may have no reader"),
    "a link to a named pipe": (_pipe_behind_a_link, "it is a named pipe, which may have no reader"),
    "a socket": (_socket, "it is a socket"),
    "a folder": (Path.mkdir, "it is a folder"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "a link to nowhere": (lambda path: path.symlink_to("none/file"), "there is no folder .*/none"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_a_file_is_refused_and_left_alone(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, problem = REFUSED[kind]
    monkeypatch.chdir(tmp_path)
    path = Path("x")  # the address of a socket is short
    make(path)
    before = os.lstat(path)
    assert re.fullmatch(problem, str(output_problem(path)))
    with pytest.raises(OSError, match=problem):
        write_output(path, b"content")
    assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("n" * 300, "File name too long"),
        ("none/file", "there is no folder .*/none"),
        ("file/inside", "Not a directory"),
        ("a\0b", "it is not a valid path"),
        ("", "it is a folder"),
    ],
)
def test_names_under_which_nothing_can_be_written(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file").write_text("")
    assert re.fullmatch(problem, str(output_problem(tmp_path / name)))


def test_an_empty_name() -> None:
    assert output_problem(Path("")) == "it has no name"


def test_a_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.stat_result([stat.S_IFBLK | 0o666, *[0] * 9])
    monkeypatch.setattr(os, "stat", lambda path: disk)
    assert output_problem(Path("/dev/sda")) == "it is a disk or another block device"


def test_files_that_must_not_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "file")
    assert output_problem(tmp_path / "file") == "Permission denied"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert output_problem(tmp_path / "file") == "Permission denied"  # it is replaced, which changes the folder
    assert output_problem(tmp_path / "new") == "Permission denied"


def test_files_are_written_and_links_stay_links(tmp_path: Path) -> None:
    for name, link in (("new", None), ("old", None), ("link", "target"), ("dangling", "made")):
        path = tmp_path / name
        if name == "old":
            path.write_text("old")
        if link is not None:
            path.symlink_to(link)
        write_output(path, b"content")
        assert path.read_bytes() == b"content"
        assert path.is_symlink() == (link is not None)


def test_what_has_nothing_to_lose_is_written(tmp_path: Path) -> None:
    write_output(Path("/dev/null"), b"content")
    with (tmp_path / "file").open("wb") as file:
        file.write(b"before ")
        file.flush()
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"content")
    assert (tmp_path / "file").read_bytes() == b"before content"
    assert output_problem(Path("/dev/fd/999999999")) == "Bad file descriptor"


@pytest.mark.parametrize("to", ["a pipe", "a file"])
def test_standard_output_gets_the_content_in_its_place(tmp_path: Path, to: str) -> None:
    program = """
from pathlib import Path
from edgekit.output_file import write_output
print("before")
write_output(Path("/dev/stdout"), b"content" * 20000 + b"\\n")
print("behind")
"""
    with (tmp_path / "output").open("wb") as file:
        stdout = file if to == "a file" else subprocess.PIPE
        done = subprocess.run([sys.executable, "-c", program], stdout=stdout, timeout=60, check=True)
    written = (tmp_path / "output").read_bytes() if to == "a file" else done.stdout
    assert written == b"before\n" + b"content" * 20000 + b"\nbehind\n"


def test_nothing_is_written_into_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / FILE_NAME).write_text("{}")
    (tmp_path / "link").symlink_to("artifact/new")
    for path in (tmp_path / "artifact" / "new", tmp_path / "artifact" / FILE_NAME, tmp_path / "link"):
        with pytest.raises(OSError, match="it is inside the artifact") as caught:
            write_output(path, b"content")
        assert caught.value.strerror == output_problem(path)
    assert os.listdir(tmp_path / "artifact") == [FILE_NAME]
