"""Files under their names are whole; the order of syncs and renames is what a power failure needs."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from power_cuts import Recording, compile_recorder

from edgekit import durable
from edgekit.durable import free_space, rename, sync_folder, sync_tree, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"", b"new" * 100_000):
        write_file(path, content)
        assert path.read_bytes() == content
        assert names(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def named(file: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}")).partition(".partial-")[0])
        fsync(file)

    def renamed(self: Path, target: Path) -> Path:
        done.append("renamed")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", named)
    monkeypatch.setattr(Path, "replace", renamed)
    write_file(tmp_path / "file", b"content")
    assert done == [".file", "renamed", tmp_path.name]
    done.clear()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner").write_bytes(b"x")
    (tmp_path / "link").symlink_to("/dev/zero")
    sync_tree(tmp_path)
    assert done == ["inner", "sub", "file", tmp_path.name]


def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "sync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes and devices of Unix")
def test_pipes_and_devices_are_refused_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match="it is not a regular file"):
            write_file(path, b"content")
    assert names(tmp_path) == ["pipe"]
    assert not (tmp_path / "pipe").is_file()
    assert not Path("/dev/null").is_file()


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    script = "import os, signal; from pathlib import Path; from edgekit import durable\n"
    script += "durable.sync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
    script += f"durable.write_file(Path({str(tmp_path / 'file')!r}), b'new')"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    write_file(tmp_path / "other", b"content")
    assert names(tmp_path) == ["other"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_rename_replaces(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    rename(tmp_path / "new", tmp_path / "old")
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"new"


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(file: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refused)
    sync_folder(tmp_path)

    def broken(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert free_space(tmp_path / "missing" / "file").endswith(" are free there")


@pytest.mark.skipif(sys.platform != "linux", reason="the recorder is for Linux")
@pytest.mark.parametrize(
    ("statement", "whole"),
    [
        ("write_file(path, b'new' * 99)", True),
        ("(folder / 'part').write_bytes(b'new' * 99); (folder / 'part').replace(path)", False),
        ("(folder / 'part').write_bytes(b'new' * 99); sync_tree(folder); (folder / 'part').replace(path)", True),
        ("path.write_bytes(b'new' * 99); sync_tree(folder)", False),
    ],
)
def test_cuts_of_the_power(tmp_path: Path, statement: str, whole: bool) -> None:
    """After a cut at any moment there is the old content or the new; the simulation shows what lacks a sync."""
    folder, after, log = tmp_path / "folder", tmp_path / "after", tmp_path / "log"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    recording = Recording(folder)
    script = "from pathlib import Path; from edgekit.durable import *\n"
    script += f"folder = Path({str(folder)!r}); path = folder / 'file'; {statement}"
    environment = {**os.environ, "LD_PRELOAD": str(compile_recorder(tmp_path)), "POWER_LOG": str(log)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    recording.read(log.read_bytes())
    assert recording.count >= 2
    rng, found = random.Random(1), set()  # noqa: S311
    for moment in list(range(recording.count + 1)) * 20:
        after.mkdir()
        recording.cut(moment, rng, after)
        found.add((after / "file").read_bytes() if (after / "file").exists() else b"")
        shutil.rmtree(after)
    assert {b"old", b"new" * 99} <= found
    assert (found == {b"old", b"new" * 99}) is whole
