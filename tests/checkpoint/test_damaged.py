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


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "additional_chat_templates",
     "quant_config.json", "quantize_config.json", "chat_templates/tool_use.jinja"],
)  # fmt: skip
def test_a_link_that_leads_out_is_refused(tiny_folder, tmp_path, name):
    outside = tmp_path / "outside"
    path = tiny_folder / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(outside)
    elif name.endswith(".jinja"):
        outside.write_text("secret")
    else:
        outside.mkdir()
    path.symlink_to(outside)
    with pytest.raises(CheckpointError, match=rf"{name} is a link to {outside}, which is outside the folder") as caught:
        open_checkpoint(tiny_folder)
    assert "put the file itself in its place" in caught.value.hint


def test_links_inside_the_folder_and_a_link_to_the_folder_are_followed(tiny_folder, tmp_path):
    (tiny_folder / "model.safetensors").rename(tiny_folder / "weights.bin")
    (tiny_folder / "model.safetensors").symlink_to("weights.bin")
    (tmp_path / "name").symlink_to(tiny_folder)
    with open_checkpoint(tmp_path / "name") as checkpoint:
        assert checkpoint.tensors


def test_the_cache_of_the_hub_is_followed(tiny_folder, tmp_path):
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "a1"
    snapshot.mkdir(parents=True)
    tiny_folder.rename(repository / "blobs")
    for path in (repository / "blobs").iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    with open_checkpoint(snapshot) as checkpoint:
        assert checkpoint.tokenizer


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
