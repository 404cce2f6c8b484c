"""Temporary folders: used by one process, removed with it or by the next one, and nothing else is ever touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit import leftovers
from edgekit.leftovers import (
    exchange,
    find_replaced,
    held,
    locked_file,
    locked_folder,
    make_ready,
    new_name,
    partial_name,
    remove_all,
    sweep,
)

DAY = 24 * 3600
STEMS = (".x.partial-", ".x.y.partial-", ".fetch-", "edgekit-probe-")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path, name: str, age_s: float = 0) -> Path:
    """A folder with a file in it, as a killed process leaves it, last changed some time ago."""
    (folder / name).mkdir()
    (folder / name / "file").write_text("content")
    for path in (folder / name / "file", folder / name):
        os.utime(path, (time.time() - age_s,) * 2)
    return folder / name


@contextmanager
def living(folder: Path, stem: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a temporary folder with a file in it."""
    script = "import sys, pathlib; from edgekit.leftovers import locked_folder\n"
    script += f"with locked_folder(pathlib.Path({str(folder)!r}), {stem!r}) as path:\n"
    script += "    (path / 'file').write_text('content'); print(path.name, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(stem)
        yield process


@pytest.mark.parametrize("stem", STEMS)
def test_a_folder_is_there_during_the_block(tmp_path: Path, stem: str) -> None:
    with locked_folder(tmp_path, stem) as folder, locked_folder(tmp_path, stem) as another:
        (folder / "file").write_text("")
        assert len({folder, another}) == len(names(tmp_path)) == 2
        assert sweep(tmp_path) == []
        assert len(names(tmp_path)) == 2
    assert names(tmp_path) == []


def test_it_may_get_another_name(tmp_path: Path) -> None:
    with locked_folder(tmp_path, ".x.partial-") as folder:
        folder.rename(tmp_path / "x")
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("stem", STEMS)
def test_what_a_killed_process_left_is_swept_by_the_next_but_not_what_a_living_one_uses(
    tmp_path: Path, stem: str
) -> None:
    with living(tmp_path, stem) as process:
        before = names(tmp_path)
        with locked_folder(tmp_path, stem):
            assert set(before) < set(names(tmp_path))
        assert names(tmp_path) == before
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path) == before
    with locked_folder(tmp_path, stem) as folder:
        assert names(tmp_path) == [folder.name]


@pytest.mark.parametrize("name", [".x.partial-4711", ".x.y.partial-4711", "of another system"])
def test_where_no_lock_can_tell_a_folder_must_be_unchanged_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "of another system":
        name = f".x.partial-{'0' * 8}{new_name('')[8:]}"
    monkeypatch.setattr(leftovers, "_LOCAL", frozenset())  # a disk that other machines may use
    left(tmp_path, name, age_s=DAY - 60)
    assert sweep(tmp_path) == []
    assert names(tmp_path) == [name]
    os.utime(tmp_path / name / "file", (time.time() - DAY - 60,) * 2)
    sweep(tmp_path)
    assert names(tmp_path) == [name]  # the folder itself has changed since
    os.utime(tmp_path / name, (time.time() - DAY - 60,) * 2)
    sweep(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell which disks are local")
def test_on_a_disk_of_this_machine_the_lock_tells_also_after_a_restart(tmp_path: Path) -> None:
    if not leftovers._is_local(tmp_path.stat().st_dev):
        pytest.skip("the tests' folder is not on a local disk")
    left(tmp_path, f".x.partial-{'0' * 8}{new_name('')[8:]}")
    sweep(tmp_path)
    assert names(tmp_path) == []
    assert not leftovers._is_local(0xFFFF)


def test_folders_with_folders_and_files_are_swept_too(tmp_path: Path) -> None:
    (left(tmp_path, new_name(".x.partial-")) / "onnx").mkdir()
    (tmp_path / new_name(".file.partial-")).write_text("content")
    (tmp_path / new_name(".file.replaced-")).write_text("content")  # no file of edgekit has this name
    sweep(tmp_path)
    assert [name.split("-")[0] for name in names(tmp_path)] == [".file.replaced"]


def test_what_is_also_written_gets_its_name_if_the_artifact_has_its_own(tmp_path: Path) -> None:
    with locked_folder(tmp_path, ".x-web.partial-") as folder:
        ready = make_ready(folder)
        assert names(tmp_path) == [ready.name]
        (tmp_path / "x").mkdir()
        assert sweep(tmp_path) == []  # its process lives
    assert names(tmp_path) == ["x"]
    left(tmp_path, new_name(".x-web.ready-"))
    named_now(tmp_path / "x")
    assert sweep(tmp_path) == [tmp_path / "x-web"]
    assert names(tmp_path) == ["x", "x-web"]
    left(tmp_path, new_name(".y-gptq.ready-"))  # the artifact y did not get its name
    left(tmp_path, new_name(".gptq.ready-"))
    assert sweep(tmp_path) == []
    assert names(tmp_path) == ["x", "x-web"]


def named_now(folder: Path) -> None:
    """Let a folder get its name after everything else, by the clock of its file system."""
    time.sleep(0.02)
    folder.rename(folder.with_name("other"))
    folder.with_name("other").rename(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="the times of renames are not kept")
@pytest.mark.parametrize("replaces", [False, True])
def test_what_is_also_written_is_lost_with_an_artifact_that_did_not_replace_the_old_one(
    tmp_path: Path, replaces: bool
) -> None:
    left(tmp_path, "x")
    if replaces:
        left(tmp_path, "x-web")
    time.sleep(0.02)
    left(tmp_path, new_name(".x-web.ready-"))
    left(tmp_path, new_name(".x.partial-"))  # the new artifact
    assert sweep(tmp_path) == []
    assert names(tmp_path) == (["x", "x-web"] if replaces else ["x"])
    (tmp_path / "x").rename(tmp_path / new_name(".x.replaced-"))  # without the exchange of names
    left(tmp_path, new_name(".x-web.ready-"))
    assert sweep(tmp_path) == [tmp_path / "x"] or replaces
    assert names(tmp_path) == (["x", "x-web"] if replaces else ["x"])


@pytest.mark.skipif(sys.platform == "win32", reason="the times of renames are not kept")
def test_what_is_also_written_replaces_an_earlier_one_once(tmp_path: Path) -> None:
    (left(tmp_path, "x-web") / "old").touch()
    time.sleep(0.02)
    ready = left(tmp_path, new_name(".x-web.ready-"))
    left(tmp_path, "x")
    named_now(tmp_path / "x")
    assert sweep(tmp_path) == [tmp_path / "x-web"]
    assert names(tmp_path / "x-web") == ["file"]
    old = partial_name(ready)
    (left(tmp_path, old.name) / "old").touch()  # it was exchanged: what it replaced is removed, whatever changes later
    named_now(tmp_path / "x")
    assert sweep(tmp_path) == []
    assert names(tmp_path) == ["x", "x-web"]
    (left(tmp_path, ready.name) / "old").touch()
    named_now(tmp_path / "x-web")
    named_now(ready)
    assert sweep(tmp_path) == []
    assert names(tmp_path) == ["x", "x-web"]
    assert names(tmp_path / "x-web") == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="the times of renames are not kept")
@pytest.mark.parametrize("can_exchange", [False, True])
def test_a_sweep_that_is_cut_short_loses_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    left(tmp_path, "x-web")
    (tmp_path / "x-web" / "file").rename(tmp_path / "x-web" / "old")
    time.sleep(0.02)
    left(tmp_path, new_name(".x-web.ready-"))
    left(tmp_path, "x")
    named_now(tmp_path / "x")

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(leftovers.shutil, "rmtree", cut)
        if not can_exchange:
            patched.setattr(leftovers, "exchange", lambda first, second: False)
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path)
    assert names(tmp_path / "x-web") == ["file"]
    (tmp_path / "x" / "receipt.json").touch()
    sweep(tmp_path)
    assert names(tmp_path) == ["x", "x-web"]
    assert names(tmp_path / "x-web") == ["file"]


def test_names_may_look_like_temporary_ones() -> None:
    folder = Path(".x.ready-1.partial-2.partial-" + "0" * 16)
    assert leftovers.ready_name(folder).name == ".x.ready-1.partial-2.ready-" + "0" * 16
    assert partial_name(leftovers.ready_name(folder)) == folder
    assert partial_name(Path("x")) == Path("x")


def test_a_file_is_there_during_the_block(tmp_path: Path) -> None:
    with locked_file(tmp_path, ".x.partial-") as (path, file):
        os.write(file, b"content")
        sweep(tmp_path)
        assert path.read_bytes() == b"content"
    assert names(tmp_path) == []


def test_all_that_this_process_has_made_is_removed_at_once(tmp_path: Path) -> None:
    with locked_folder(tmp_path, ".x.partial-") as folder, locked_file(tmp_path, ".y.partial-"):
        (folder / "file").write_text("content")
        assert len(names(tmp_path)) == 2
        remove_all()
        assert names(tmp_path) == []


def test_only_folders_with_names_of_edgekit_are_swept(tmp_path: Path) -> None:
    old = 400 * DAY
    for name in ("x", "x.rejected", ".x.partial", ".x.partial-old", ".x.partial-12ab", "x.partial-1234", ".fetch-x",
                 ".fetch-1", "edgekit-probe", "edgekit-probe-20261128", "edgekit-inspect-my_notes", ".git",
                 ".x.calibration"):  # fmt: skip
        left(tmp_path, name, old)
    (tmp_path / ".file.partial-77").write_text("a file")
    os.utime(tmp_path / ".file.partial-77", (1, 1))
    (left(tmp_path, ".deep.partial-77", old) / "folder").mkdir()  # edgekit writes files alone
    os.utime(tmp_path / ".deep.partial-77" / "folder", (1, 1))
    os.utime(tmp_path / ".deep.partial-77", (1, 1))
    elsewhere = left(tmp_path, "elsewhere", old)
    (tmp_path / ".link.partial-77").symlink_to(elsewhere)
    os.utime(tmp_path / ".link.partial-77", (1, 1), follow_symlinks=False)
    before = names(tmp_path)
    assert sweep(tmp_path) == []
    assert names(tmp_path) == before
    assert names(elsewhere) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders have no owner")
def test_a_folder_that_changes_while_it_is_looked_at_does_not_stay_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = left(tmp_path, new_name(".x.partial-"))

    def gone(folder: Path) -> float:
        raise FileNotFoundError(folder)

    monkeypatch.setattr(leftovers, "_newest", gone)
    sweep(tmp_path)
    assert folder.exists()
    monkeypatch.undo()
    sweep(tmp_path)
    assert not folder.exists()


def test_folders_of_other_users_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, ".x.partial-77", 2 * DAY)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    sweep(tmp_path)
    assert names(tmp_path) == [".x.partial-77"]


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    precious = left(tmp_path, "precious")
    (left(tmp_path, new_name(".x.partial-")) / "link").symlink_to(precious)
    sweep(tmp_path)
    assert names(tmp_path) == ["precious"]
    assert names(precious) == ["file"]


def test_an_artifact_without_its_name_gets_it_back(tmp_path: Path) -> None:
    lost, unfinished = left(tmp_path, new_name(".x.replaced-")), left(tmp_path, new_name(".x.partial-"))
    assert find_replaced(tmp_path / "x") == lost
    assert find_replaced(tmp_path / "y") is None
    with held(lost):  # the process that replaces it lives
        assert sweep(tmp_path) == []
    assert not unfinished.exists()
    assert sweep(tmp_path) == [tmp_path / "x"]
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x" / "file").read_text() == "content"


def test_one_that_was_replaced_is_removed(tmp_path: Path) -> None:
    left(tmp_path, "x")
    left(tmp_path, new_name(".x.replaced-"))
    assert sweep(tmp_path) == []
    assert names(tmp_path) == ["x"]


def test_an_older_edgekit_left_an_artifact_without_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, ".x.replaced-4711", 400 * DAY)
    assert sweep(tmp_path) == []  # it was renamed a moment ago
    monkeypatch.setattr(leftovers, "_RENAMED_S", -1)
    assert sweep(tmp_path) == [tmp_path / "x"]


def test_a_folder_that_cannot_be_read_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep(tmp_path / "missing") == []
    assert find_replaced(tmp_path / "missing" / "x") is None


def test_a_folder_swept_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    mkdir = Path.mkdir

    def swept_at_once(self: Path) -> None:
        mkdir(self)
        made.append(self)
        if len(made) < 3:
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", swept_at_once)
    with locked_folder(tmp_path, ".x.partial-") as folder:
        assert names(tmp_path) == [folder.name]
        assert len(made) == 3


def test_without_locks_folders_are_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked_folder(tmp_path, ".x.partial-") as folder:
        left(tmp_path, new_name(".y.partial-"))
        sweep(tmp_path)
        assert len(names(tmp_path)) == 2
        assert folder.is_dir()
    assert len(names(tmp_path)) == 1  # no lock tells whether its process lives


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not be able to")
def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    first, second = left(tmp_path, "first"), left(tmp_path, "second")
    (first / "file").write_text("another")
    if not exchange(first, second):
        pytest.skip("not on this file system")
    assert (second / "file").read_text() == "another"
    assert not exchange(first, tmp_path / "missing")
