"""An error for an unsupported family says what kind of model it is."""

from __future__ import annotations

import pytest

from edgekit.errors import UnsupportedModelError
from edgekit.models import families, family
from edgekit.models.kinds import KINDS, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mixtral", "mixture of experts"),
        ("qwen3_moe", "mixture of experts"),
        ("qwen9moe", "mixture of experts"),
        ("qwen2_5_vl", "images or sound"),
        ("new_vl", "images or sound"),
        ("bert", "an encoder"),
        ("ModernBERT", "an encoder"),
        ("t5", "sequence to sequence"),
        ("whisper", "speech"),
        ("mamba2", "recurrent states"),
    ],
)
def test_the_reason_is_named(name: str, kind: str) -> None:
    assert kind in kind_of(name)
    with pytest.raises(UnsupportedModelError, match=f"is not supported: it is .*{kind}.*; supported: llama, qwen2"):
        family(name)


def test_dense_decoders_have_no_such_reason() -> None:
    assert not set(families()) & KINDS.keys()
    for name in (*families(), "mistral", "gemma2", "phi3", "olmo2", "gpt2"):
        assert kind_of(name) == ""
