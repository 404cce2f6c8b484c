"""Files that are not what their names say are told by their names and first bytes."""

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, CorruptFileError, TruncatedFileError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_dangling_link_is_named_with_its_target(tiny_folder, name):
    (tiny_folder / name).unlink(missing_ok=True)
    (tiny_folder / name).symlink_to("../../blobs/gone")
    with pytest.raises(
        CheckpointError, match=rf"{name} is a link to \.\./\.\./blobs/gone, which does not exist"
    ) as caught:
        open_checkpoint(tiny_folder)
    assert "cache was cleaned" in caught.value.hint


def test_a_path_that_is_a_dangling_link(tmp_path):
    (tmp_path / "model.gguf").symlink_to("nowhere.gguf")
    for path in (tmp_path, tmp_path / "model.gguf"):
        with pytest.raises(CheckpointError, match=r"model\.gguf is a link to nowhere\.gguf") as caught:
            open_checkpoint(path)
        assert "restore the file" in caught.value.hint


def test_links_that_are_not_read_may_dangle(tiny_folder):
    (tiny_folder / "pytorch_model.bin").symlink_to("gone")
    with open_checkpoint(tiny_folder):
        pass


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize(
    ("content", "error", "words", "hint"),
    [
        (b"", TruncatedFileError, "is empty", "fetch the file again"),
        (LFS, CorruptFileError, "is a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in</html>", CorruptFileError, "is an error page.*<!doctype html>", "HF_TOKEN"),
        (b"\n<html><body>404</body></html>", CorruptFileError, "is an error page", "HF_TOKEN"),
        (b"Entry not found", CorruptFileError, "is an error page.*begins with 'entry not found'", "HF_TOKEN"),
        (b"Access to model x/y is restricted.", CorruptFileError, "is an error page", "HF_TOKEN"),
    ],
)
def test_what_was_saved_in_place_of_a_file(tiny_folder, name, content, error, words, hint):
    (tiny_folder / name).write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        open_checkpoint(tiny_folder)
    assert str(tiny_folder / name) in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("content", [b"", LFS, b"<html></html>"])
def test_a_file_given_by_its_path(tmp_path, content):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.gguf is (empty|a Git LFS pointer|an error page)"):
        open_checkpoint(tmp_path / "model.gguf")


@pytest.mark.parametrize("suffix", [".incomplete", ".part", ".aria2", ".crdownload"])
def test_a_download_that_is_not_finished(tmp_path, tiny_gguf, suffix):
    partial = tmp_path / "folder" / f"model.safetensors{suffix}"
    partial.parent.mkdir()
    partial.write_bytes(tiny_gguf.read_bytes())
    for path in (partial, partial.parent):
        with pytest.raises(CheckpointError, match="download that is not finished"):
            open_checkpoint(path)


def test_a_file_that_aria2_is_still_writing(tiny_folder, tiny_gguf):
    for path in (tiny_folder / "model.safetensors", tiny_gguf):
        path.with_name(f"{path.name}.aria2").write_bytes(b"x")
        with pytest.raises(CheckpointError, match=r"\.aria2 belongs to a download that is not finished"):
            open_checkpoint(path.parent)
