"""Opening a path: which kinds of checkpoint are recognized, and the errors for paths that cannot be opened."""

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError, TruncatedFileError


def test_weights_without_a_config(tiny_folder):
    (tiny_folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"weights but no config\.json"):
        open_checkpoint(tiny_folder)


def test_empty_folder_and_missing_path(tmp_path):
    with pytest.raises(CheckpointError, match="found: nothing"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"nowhere does not exist"):
        open_checkpoint(tmp_path / "nowhere")


def test_the_error_for_a_weight_file_names_its_folder(tiny_folder):
    with pytest.raises(CheckpointError, match=r"without its config\.json") as caught:
        open_checkpoint(tiny_folder / "model.safetensors")
    assert str(tiny_folder) in caught.value.hint


def test_a_file_that_is_cut_off_may_be_a_piece(tiny_gguf):
    piece = tiny_gguf.with_name("tiny.gguf-split-a")
    piece.write_bytes(tiny_gguf.read_bytes()[:-40])
    with pytest.raises(TruncatedFileError, match="is truncated") as caught:
        open_checkpoint(piece)
    assert "cat tiny.gguf* > joined.gguf" in caught.value.hint


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"notes\.txt is not a GGUF file"):
        open_checkpoint(tmp_path / "notes.txt")


def test_folder_with_one_gguf_and_with_two(tiny_gguf):
    folder = tiny_gguf.parent
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.format == "gguf"
        assert checkpoint.files == (tiny_gguf,)
    (folder / "other.gguf").write_bytes(tiny_gguf.read_bytes() + bytes(100))
    (folder / "split-00001-of-00002.gguf").write_bytes(b"1")
    (folder / "split-00002-of-00002.gguf").write_bytes(b"2")
    with pytest.raises(CheckpointError, match=r"3 models in GGUF format: other\.gguf \(\d+.*, tiny\.gguf \(") as caught:
        open_checkpoint(folder)
    assert "split-00001-of-00002.gguf (2 B in 2 parts)" in caught.value.message
    assert caught.value.hint == f"give the path of one of them: {folder / 'other.gguf'}"


def test_a_projector_for_images_beside_a_model_is_not_used(tiny_gguf):
    tiny_gguf.with_name("mmproj-tiny.gguf").write_bytes(tiny_gguf.read_bytes())
    with open_checkpoint(tiny_gguf.parent) as checkpoint:
        assert checkpoint.files == (tiny_gguf,)
        assert checkpoint.notes == ("mmproj-tiny.gguf is not used: the artifact is for text",)


def test_a_gguf_file_is_recognized_by_its_content(tiny_gguf):
    renamed = tiny_gguf.rename(tiny_gguf.with_name("model_part_0000"))
    with open_checkpoint(renamed) as checkpoint:
        assert checkpoint.format == "gguf"
