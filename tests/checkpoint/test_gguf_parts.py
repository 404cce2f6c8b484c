"""Split GGUF models: any part stands for the set, and what is wrong with a set is named."""

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.gguf_parts import cut_hint, gguf_models
from edgekit.errors import CheckpointError, CorruptFileError, TruncatedFileError


@pytest.fixture
def write_parts(tmp_path, write_gguf, tiny_metadata, tiny_tensors):
    """Write a model in three parts with one tensor each: ``write(folder, {part: changed metadata})``; the paths."""

    def write(folder="parts", changes=None, tensors=None, first=None):
        (tmp_path / folder).mkdir()
        paths = []
        for i, (name, tensor) in enumerate((tensors or tiny_tensors).items()):
            path = tmp_path / folder / f"tiny-{i + 1:05}-of-00003.gguf"
            metadata = (tiny_metadata | (first or {})) if i == 0 else {}  # later parts have the split's keys only
            metadata |= {"split.no": i, "split.count": 3, "split.tensors.count": 3} | (changes or {}).get(i, {})
            paths.append(write_gguf(path, metadata, {name: tensor}))
        return paths

    return write


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_opens_the_model(write_parts, tiny_gguf, given):
    paths = write_parts()
    with open_checkpoint(paths[given]) as split, open_checkpoint(tiny_gguf) as whole:
        assert split.files == tuple(paths)
        assert split.config == whole.config
        assert split.tensors.keys() == whole.tensors.keys()
        assert split.tokenizer.special == whole.tokenizer.special
        for name, info in whole.tensors.items():
            assert (split.rows(name, 0, info.shape[0]) == whole.rows(name, 0, info.shape[0])).all()


def test_a_folder_with_one_set_opens(write_parts):
    paths = write_parts()
    with open_checkpoint(paths[0].parent) as checkpoint:
        assert checkpoint.files == tuple(paths)


@pytest.mark.parametrize("gone", [0, 2])
def test_missing_parts_are_named(write_parts, gone):
    paths = write_parts()
    paths[gone].unlink()
    for what in (paths[1], paths[0].parent):
        with pytest.raises(CheckpointError, match=rf"of 3 of a split GGUF .* missing: {paths[gone].name}") as caught:
            open_checkpoint(what)
        assert "put all 3 parts into" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({1: {"split.no": 2}}, "split.no is 2 and its split.count 3; expected 1 and 3"),
        ({2: {"split.count": 4}}, "split.no is 2 and its split.count 4; expected 2 and 3"),
        ({2: {"general.architecture": "qwen2"}}, "its architecture is qwen2; .*00001-of-00003.gguf has another"),
        ({0: {"split.tensors.count": 4}}, r"hold 3 tensors; split.tensors.count says 4"),
        ({0: {"split.count": "3"}}, "split.count is '3'; it must be a whole number"),
    ],
)
def test_parts_of_different_sets(write_parts, changes, words):
    with pytest.raises(CorruptFileError, match=words):
        open_checkpoint(write_parts(changes=changes)[0])


def test_a_part_that_repeats_tensors(write_parts, write_gguf, tiny_tensors):
    paths = write_parts()
    metadata = {"split.no": 1, "split.count": 3, "split.tensors.count": 3}
    write_gguf(paths[1], metadata, {name: tiny_tensors[name] for name in ("blk.0.attn_q.weight", "token_embd.weight")})
    with pytest.raises(CorruptFileError, match=r"repeats 1 tensors of other parts; first: 'token_embd\.weight'"):
        open_checkpoint(paths[0])


def test_a_name_that_does_not_fit_its_part(write_parts):
    paths = write_parts()
    renamed = paths[1].rename(paths[1].with_name("second.gguf"))
    with pytest.raises(CheckpointError, match=r"second\.gguf is part 2 of 3 of a split GGUF model, but its name"):
        open_checkpoint(renamed)


def test_a_truncated_part_is_named(write_parts):
    paths = write_parts()
    paths[2].write_bytes(paths[2].read_bytes()[:-40])
    with pytest.raises(TruncatedFileError, match="00003-of-00003"):
        open_checkpoint(paths[0])


def test_models_are_grouped_by_their_names():
    names = ["b-00002-of-00002.gguf", "b-00001-of-00002.gguf", "b-00001-of-00003.gguf", "A.GGUF", "notes.txt"]
    assert gguf_models(names) == {
        "A.GGUF": ["A.GGUF"],
        "b-00001-of-00002.gguf": ["b-00001-of-00002.gguf", "b-00002-of-00002.gguf"],
        "b-00001-of-00003.gguf": ["b-00001-of-00003.gguf"],
    }


@pytest.mark.parametrize("name", ["m.gguf-split-a", "m.gguf.part1of2", "m.gguf.001", "m.Q8_0.gguf.part_2"])
def test_pieces_that_were_cut_are_joined_with_cat(name):
    assert "cat m" in cut_hint(name)
    assert cut_hint("m.gguf") == ""
