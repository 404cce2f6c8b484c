"""Links that lead out of a folder, dangle or loop are found; those of the hub's cache are allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.links import bad_link, find_links


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_text("content")
    return tmp_path / "folder"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("../outside/secret", "is a link to ../outside/secret, which is outside the folder"),
        ("/etc/hostname", "is a link to /etc/hostname, which is outside the folder"),
        ("sub/../../outside", "is a link to sub/../../outside, which is outside the folder"),
        ("nowhere", "is a link to nowhere, which does not exist"),
        ("link", "is a link to link, which leads back to itself"),
        ("..", "is a link to .., which is outside the folder"),
    ],
)
def test_bad_links(folder: Path, target: str, problem: str) -> None:
    (folder / "link").symlink_to(target)
    assert bad_link(folder / "link", folder) == problem
    assert list(find_links(folder)) == [("link", problem)]


def test_a_link_to_a_link_that_leads_out(folder: Path) -> None:
    (folder / "sub" / "second").symlink_to("../../outside/secret")
    (folder / "first").symlink_to("sub/second")
    assert [name for name, _ in find_links(folder)] == ["first", "sub/second"]


def test_a_file_in_a_folder_that_is_a_link(folder: Path) -> None:
    (folder / "away").symlink_to("../outside")
    problem = bad_link(folder / "away" / "secret", folder)
    assert problem == f"is reached through a link to {folder.parent / 'outside'}, which is outside the folder"


def test_what_stays_inside_is_allowed_however_the_folder_is_named(folder: Path) -> None:
    (folder / "link").symlink_to("file")
    (folder / "absolute").symlink_to(folder / "file")
    (folder.parent / "name").symlink_to(folder)
    for name in (folder, folder.parent / "name", Path(os.path.relpath(folder)), folder / "sub" / ".."):
        assert list(find_links(name)) == []
    assert bad_link(folder / "missing", folder) is None


def test_a_folder_whose_name_begins_alike_is_outside(folder: Path) -> None:
    (folder.parent / "folder-2").mkdir()
    (folder / "link").symlink_to("../folder-2")
    assert bad_link(folder / "link", folder) is not None


def test_the_cache_of_the_hub(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--owner--name"
    other = tmp_path / "hub" / "models--owner--other" / "blobs"
    snapshot = repository / "snapshots" / ("a" * 40)
    for each in (repository / "blobs", other, snapshot / "sub"):
        each.mkdir(parents=True)
    (repository / "blobs" / "1").write_text("content")
    (other / "2").write_text("content")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    (snapshot / "sub" / "file").symlink_to("../../../blobs/1")
    assert list(find_links(snapshot)) == []
    assert list(find_links(snapshot / "sub")) == []
    (snapshot / "other").symlink_to(other / "2")
    (snapshot / "repository").symlink_to("../..")
    assert [name for name, _ in find_links(snapshot)] == ["other", "repository"]


def test_what_is_neither_a_file_nor_a_folder(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert list(find_links(folder)) == [("pipe", "is neither a file nor a folder")]
