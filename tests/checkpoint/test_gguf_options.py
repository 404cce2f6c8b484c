"""Metadata keys that change what a model computes are refused, and their usual values are not."""

import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.gguf_options import _ALLOWED, check_gguf_options
from edgekit.errors import UnsupportedModelError


def check(**keys):
    metadata = {f"llama.{key}": value for key, value in keys.items()}
    check_gguf_options(metadata, "x.gguf", "llama", head_dim=64, context=128)


@pytest.mark.parametrize("key", sorted(_ALLOWED))
def test_usual_values_are_allowed_and_others_refused(key):
    for value in _ALLOWED[key]:
        check(**{key: value})
    with pytest.raises(UnsupportedModelError, match=rf"x\.gguf: llama\.{key} is .*, which edgekit does not compute"):
        check(**{key: 0.37})


def test_values_that_follow_from_the_shape():
    check(**{"attention.scale": 0.125, "attention.sliding_window": 128})
    check(**{"attention.scale": 0.0, "attention.sliding_window": 0})
    with pytest.raises(UnsupportedModelError, match=r"attention\.scale is 0\.1, .*supported: 0, 0\.125"):
        check(**{"attention.scale": 0.1})
    with pytest.raises(UnsupportedModelError, match=r"sliding_window is 64; .* whole context of 128 tokens"):
        check(**{"attention.sliding_window": 64})


def test_a_file_is_checked(tmp_path, write_gguf, tiny_metadata, tiny_tensors):
    path = write_gguf(tmp_path / "x.gguf", {**tiny_metadata, "llama.logit_scale": 8.0}, tiny_tensors)
    with pytest.raises(UnsupportedModelError, match=r"logit_scale is 8\.0"):
        open_checkpoint(path)
