"""A ``.tar.zst`` has the same bytes every time, whatever the times and owners of the files are."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from edgekit.deploy import archive
from edgekit.deploy.archive import write_archive, zstandard
from edgekit.errors import MissingPackageError


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    for name, mtime in (("one", 1), ("two", 10**9)):
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        for file in sorted(("b", "a", "sub/c"), reverse=mtime == 1):
            (folder / file).write_text(file * 1000)
            os.utime(folder / file, (mtime, mtime))
        (folder / "a").chmod(0o700)
        (folder / "b").chmod(0o600 if mtime == 1 else 0o664)
        write_archive(folder, tmp_path / f"{name}.tar.zst", "top")
    content = (tmp_path / "one.tar.zst").read_bytes()
    assert content == (tmp_path / "two.tar.zst").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(zstandard().decompress(content))) as read:
        members = {member.name: member for member in read}
        assert list(members) == ["top/a", "top/b", "top/sub/c"]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(0, 0, 0, "", "")}
        assert [m.mode for m in members.values()] == [0o755, 0o644, 0o644]
        found = read.extractfile("top/sub/c")
        assert found is not None
        assert found.read() == b"sub/c" * 1000


def test_without_zstandard_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(archive.importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"backports\.zstd") as caught:
        zstandard()
    assert "edgekit-llm[compile]" in caught.value.hint
