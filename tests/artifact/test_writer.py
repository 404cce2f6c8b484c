"""Folders appear whole or not at all, and unrelated folders are never deleted."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.artifact import writer
from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.writer import check_output, disk_error, hash_files, hash_named, set_aside, whole_folder
from edgekit.errors import ArtifactError, BuildError, DiskFullError, OutputExistsError, TokenizerError


def artifact(folder: Path, content: str = "old") -> Path:
    folder.mkdir(parents=True)
    (folder / "edgekit.json").write_text(content)
    return folder


def write(out: Path, error: BaseException, *, force: bool = False, aside: Path | None = None) -> None:
    """Write a folder and raise an error at the end; ``aside``: keep it there first."""
    with whole_folder(out, force) as partial:
        (partial / "edgekit.json").write_text("new")
        if aside is not None:
            set_aside(partial, aside)
        raise error


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with whole_folder(out, force=False) as partial:
        (partial / "file").write_text("content")
        assert partial.parent == out.parent
        assert not out.exists()
    assert names(out.parent) == ["out"]
    assert (out / "file").read_text() == "content"


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_nothing_is_left_if_the_block_fails(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write(tmp_path / "out", error)
    assert names(tmp_path) == []


def test_an_error_names_the_output_folder_and_not_the_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError) as caught, whole_folder(tmp_path / "out", force=False) as partial:
        raise TokenizerError(f"{partial / 'tokenizer.json'} is damaged", hint="a hint")
    assert str(caught.value) == caught.value.message == f"{tmp_path / 'out' / 'tokenizer.json'} is damaged"
    assert caught.value.hint == "a hint"


def test_force_replaces_an_artifact_only_at_the_end(tmp_path: Path) -> None:
    out = artifact(tmp_path / "out")
    with pytest.raises(ValueError, match="a bug"):
        write(out, ValueError("a bug"), force=True)
    assert (out / "edgekit.json").read_text() == "old"
    with whole_folder(out, force=True) as partial:
        (partial / "edgekit.json").write_text("new")
        assert (out / "edgekit.json").read_text() == "old"
    assert (out / "edgekit.json").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_an_artifact_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputExistsError), whole_folder(out, force=False):
        artifact(out, "somebody else's")
    assert (out / "edgekit.json").read_text() == "somebody else's"
    assert names(tmp_path) == ["out"]


def test_a_full_disk_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=r"no space to write to .*out: No space left"):
        write(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_existing_folders_need_force(tmp_path: Path) -> None:
    out = artifact(tmp_path / "out")
    with pytest.raises(OutputExistsError, match="out already exists") as caught:
        check_output(out, force=False)
    assert "--force" in caught.value.hint
    check_output(out, force=True)
    check_output(tmp_path / "new", force=False)
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", force=True)


def test_force_never_replaces_anything_else(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "link").symlink_to(artifact(tmp_path / "elsewhere"))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("precious", "file", "link", "dangling"):
        with pytest.raises(OutputExistsError, match=f"{name} exists and is not an artifact"):
            check_output(tmp_path / name, force=True)
    with pytest.raises(OutputExistsError, match=r"is not a folder with quantize_config\.json"):
        check_output(tmp_path / "elsewhere", force=True, marker="quantize_config.json")


def test_nothing_is_written_into_an_artifact(tmp_path: Path) -> None:
    out = artifact(tmp_path / "out")
    (tmp_path / "link").symlink_to(out)
    for inner in (out / "new", out / "deep" / "new", tmp_path / "link" / "new"):
        with pytest.raises(OutputExistsError, match="is inside the artifact"):
            check_output(inner, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_mount_point_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "out")
    with pytest.raises(OutputExistsError, match="out is a mount point") as caught:
        check_output(tmp_path / "out", force)
    assert caught.value.hint == f"choose a folder inside it: --out {tmp_path / 'out'}/NAME"
    check_output(tmp_path / "out" / "new", force)
    (tmp_path / "USB DISK").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(OutputExistsError) as caught:
        check_output(tmp_path / "USB DISK", force)
    assert shlex.split(caught.value.hint)[-1] == str(tmp_path / "USB DISK" / "NAME")


def test_a_parent_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match=r"cannot create the folder .*file"):
        check_output(tmp_path / "file" / "out", force=False)


def test_folders_above_the_output_are_made_last_and_removed_after_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    check_output(out, force=False)
    assert names(tmp_path) == []
    with pytest.raises(OutputExistsError):
        write(out, OutputExistsError("something failed"))
    assert names(tmp_path) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputExistsError):
        write(out, OutputExistsError("something failed"))
    assert (names(tmp_path), names(tmp_path / "a")) == (["a"], [])
    with whole_folder(out, False) as partial:
        (partial / "edgekit.json").write_text("new")
    assert out.is_dir()


def test_a_rejected_folder_is_kept_under_another_name(tmp_path: Path) -> None:
    rejected = artifact(tmp_path / "out.rejected", "older")
    with pytest.raises(ValueError, match="rejected"):
        write(tmp_path / "out", ValueError("rejected"), aside=rejected)
    assert (rejected / "edgekit.json").read_text() == "new"
    assert names(tmp_path) == ["out.rejected"]


def test_files_are_hashed_by_name(tmp_path: Path) -> None:
    contents = {"b": b"bb" * 3_000_000, "a": b"", "c": b"c"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    seen: list[tuple[int, int]] = []
    hashed = hash_files([tmp_path / name for name in contents], lambda done, total: seen.append((done, total)))
    assert list(hashed) == ["a", "b", "c"]
    for name, content in contents.items():
        assert hashed[name] == {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    assert seen[-1] == (6_000_001, 6_000_001)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_files_of_one_name_need_names_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "w", tmp_path / "b" / "w"]
    for path in paths:
        path.parent.mkdir()
        path.write_text(path.parent.name)
    with pytest.raises(ValueError, match="2 files have only 1 names"):
        hash_files(paths)
    assert hash_files([paths[0], paths[0]]) == {"w": hash_named({"x": paths[0]})["x"]}
    hashed = hash_named({"b/w": paths[1], "a/w": paths[0]})
    assert list(hashed) == ["a/w", "b/w"]
    assert hashed["a/w"]["sha256"] == hashlib.sha256(b"a").hexdigest()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_errors_for_a_full_disk(number: int) -> None:
    error = disk_error(OSError(number, "full"), Path("x"), 2_000_000)
    assert isinstance(error, DiskFullError)
    free = "" if number == errno.EFBIG else r"; [\d.]+ [kMGT]?B are free there"  # a limit of the process or file system
    assert re.fullmatch(r"no space to write 2\.00 MB to x: full" + free, error.message)
    assert "--out" in error.hint


def test_other_write_errors() -> None:
    error = disk_error(OSError(errno.EIO, "broken"), None, None)
    assert type(error) is BuildError
    assert error.message == "cannot write: broken"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_force_and_a_race_of_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    """Each finished build replaces what it finds; none fails, and nothing is left."""
    if not can_exchange:
        monkeypatch.setattr(writer, "exchange", lambda first, second: False)
    out = tmp_path / "out"
    with whole_folder(out, force=True) as first, whole_folder(out, force=True) as second:
        assert first != second
        (first / "edgekit.json").write_text("first")
        (second / "edgekit.json").write_text("second")
    assert (out / "edgekit.json").read_text() == "first"  # it ends last
    assert names(tmp_path) == ["out"]


def test_the_old_artifact_stays_if_it_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "exchange", lambda first, second: False)
    out, rename = artifact(tmp_path / "out"), Path.rename

    def fail(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(errno.EIO, "broken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(BuildError, match="broken"), whole_folder(out, force=True) as partial:
        (partial / "edgekit.json").write_text("new")
    assert (out / "edgekit.json").read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process at a chosen moment")
def test_an_artifact_survives_a_kill_while_it_is_replaced(tmp_path: Path) -> None:
    """Where two folders cannot exchange their names, the next build gives the old artifact its name back."""
    out = artifact(tmp_path / "out")
    script = f"""
import os, signal, pathlib
from edgekit.artifact import writer
writer.exchange = lambda first, second: False
rename = pathlib.Path.rename
def kill(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.rename = kill
with writer.whole_folder(pathlib.Path({str(out)!r}), True) as partial:
    (partial / "edgekit.json").write_text("new")
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(ArtifactError, match="out was being replaced") as caught:
        read_manifest(out)
    assert ".out.replaced-" in caught.value.hint
    with whole_folder(tmp_path / "another", force=False):
        assert (out / "edgekit.json").read_text() == "old"
    assert names(tmp_path) == ["another", "out"]


def test_what_a_killed_build_left_is_no_obstacle_for_one_with_the_same_process_id(tmp_path: Path) -> None:
    (tmp_path / f".out.partial-{os.getpid()}").mkdir()
    with whole_folder(tmp_path / "out", force=False) as partial:
        (partial / "file").write_text("content")
    assert (tmp_path / "out" / "file").is_file()
