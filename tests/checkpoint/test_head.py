"""Which table is the lm_head: the stored tensors decide, and config.json where they allow."""

import json

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from edgekit.checkpoint import head, open_checkpoint
from edgekit.errors import CheckpointError
from edgekit.models import spec_from_config
from edgekit.weights.checkpoint import CheckpointWeights

EMBEDDING, HEAD = head.HUGGING_FACE
UNTIED = tiny_config("llama", tie_word_embeddings=False)


def opened(folder, said, change):
    """Open a folder whose config.json says ``tie_word_embeddings`` as given, with changed tensors."""
    tensors = random_tensors(UNTIED)
    change(tensors)
    write_checkpoint(folder, "llama", tensors)
    config = {k: v for k, v in UNTIED.items() if k != "tie_word_embeddings"}
    config |= {} if said is None else {"tie_word_embeddings": said}
    (folder / "config.json").write_text(json.dumps(config))
    return open_checkpoint(folder)


def head_of(checkpoint):
    """The first rows of the lm_head that the model uses, and whether it is the embedding."""
    spec = spec_from_config(checkpoint.config)
    rows = CheckpointWeights(checkpoint, spec).rows(spec.lm_head.weight, 0, 3)
    return np.asarray(rows, np.float32), spec.tied_embeddings


def equal_head(tensors):
    tensors[HEAD] = tensors[EMBEDDING].copy()


def last_weight_differs(tensors):
    equal_head(tensors)
    tensors[HEAD][-1, -1] += 1


def half_head(tensors):
    tensors[EMBEDDING] = tensors[EMBEDDING].astype(np.float16)
    tensors[HEAD] = tensors[EMBEDDING].astype(np.float32)


@pytest.mark.parametrize("said", [True, False, None])
def test_a_stored_head_with_other_values_is_used(tmp_path, said):
    with opened(tmp_path, said, lambda tensors: None) as checkpoint:
        rows, tied = head_of(checkpoint)
        assert not tied
        np.testing.assert_array_equal(rows, random_tensors(UNTIED)[HEAD][:3])
        assert checkpoint.config["tie_word_embeddings"] is False
        wanted = "config.json says tie_word_embeddings = true, but lm_head.weight is stored and differs"
        assert [note.startswith(wanted) for note in checkpoint.notes] == ([True] if said else [])


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("change", [equal_head, half_head])
def test_a_stored_head_equal_to_the_embedding_is_tied(tmp_path, said, change):
    with opened(tmp_path, said, change) as checkpoint:
        assert head_of(checkpoint)[1]
        assert len(checkpoint.notes) == (not said)


def test_tables_are_compared_to_the_end_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(head, "_PIECE_WEIGHTS", 7 * 144)
    with opened(tmp_path / "equal", True, equal_head) as checkpoint:
        assert head_of(checkpoint)[1]
    with opened(tmp_path / "other", True, last_weight_differs) as checkpoint:
        assert not head_of(checkpoint)[1]


def test_the_first_difference_ends_the_comparison():
    read = []

    def rows(info, start, stop):
        read.append((info.name, start, stop))
        return np.full((stop - start, 4), float(len(read)))

    info = {name: head.TensorInfo(name, "float32", (10**6, 4), None, 0, 16 * 10**6) for name in head.HUGGING_FACE}
    assert head.decide_head({"tie_word_embeddings": True}, info, head.HUGGING_FACE, rows).config == {head.KEY: False}
    assert read == [(EMBEDDING, 0, 2**18), (HEAD, 0, 2**18)]


def test_a_missing_head_is_tied_unless_the_config_says_otherwise(tmp_path):
    with opened(tmp_path / "tied", True, lambda t: t.pop(HEAD)) as checkpoint:
        assert head_of(checkpoint)[1]
        assert checkpoint.notes == ()
    with opened(tmp_path / "silent", None, lambda t: t.pop(HEAD)) as checkpoint:
        assert head_of(checkpoint)[1]
        assert "there is no lm_head.weight: the embedding is used as lm_head" in checkpoint.notes[0]
    with opened(tmp_path / "untied", False, lambda t: t.pop(HEAD)) as checkpoint:
        assert checkpoint.config["tie_word_embeddings"] is False
        assert checkpoint.notes == ()


def test_a_tied_table_may_be_stored_as_the_head(tmp_path):
    with opened(tmp_path, True, lambda t: t.pop(EMBEDDING)) as checkpoint:
        rows, tied = head_of(checkpoint)
        assert tied
        np.testing.assert_array_equal(rows, random_tensors(UNTIED)[HEAD][:3])
        assert "stored as lm_head.weight only" in checkpoint.notes[0]


def test_a_quantized_head_is_not_the_embedding():
    tensors = {EMBEDDING: head.TensorInfo(EMBEDDING, "float16", (4, 4), None, 0, 32), "lm_head.qweight": None}
    decided = head.decide_head({"tie_word_embeddings": True}, tensors, head.HUGGING_FACE, lambda *_: None)
    assert decided.config == {"tie_word_embeddings": False}
    assert len(decided.notes) == 1


@pytest.mark.parametrize("said", ["false", 1, [True]])
def test_a_value_that_is_not_a_boolean(tmp_path, said):
    words = r"config\.json: tie_word_embeddings is .*; it must be true or false"
    with pytest.raises(CheckpointError, match=words) as failure:
        opened(tmp_path, said, lambda tensors: None)
    assert type(failure.value) is CheckpointError


@pytest.mark.parametrize(("kind", "tied"), [("F32", True), ("F16", False)])
def test_gguf_output_equal_to_the_embedding(tmp_path, write_gguf, tiny_metadata, tiny_tensors, kind, tied):
    """32-bit values that are not halves, so that a copy in 16 bits is another table."""
    values = np.random.default_rng(0).standard_normal((262, 32)).astype("<f4")
    copy = values.astype("<f2") if kind == "F16" else values
    tensors = tiny_tensors | {"token_embd.weight": ("F32", (262, 32), values.tobytes())}
    tensors["output.weight"] = (kind, (262, 32), copy.tobytes())
    with open_checkpoint(write_gguf(tmp_path / "x.gguf", tiny_metadata, tensors)) as checkpoint:
        assert checkpoint.config["tie_word_embeddings"] is tied
        assert checkpoint.notes == (("output.weight equals token_embd.weight: one table is used for both",) * tied)


def test_gguf_output_of_a_type_that_cannot_be_read(tmp_path, write_gguf, tiny_metadata, tiny_tensors):
    tensors = {
        "output.weight": (15, (262, 256), bytes(262 * 292)),
        "token_embd.weight": (15, (262, 256), bytes(262 * 292)),
    }
    with open_checkpoint(write_gguf(tmp_path / "x.gguf", tiny_metadata, tensors)) as checkpoint:
        assert checkpoint.config["tie_word_embeddings"] is False
