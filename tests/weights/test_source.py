"""The checks that all sources of weights share."""

from __future__ import annotations

import numpy as np
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.errors import NonFiniteWeightError
from edgekit.models.spec import TensorRef
from edgekit.weights.source import check_finite, unusable_weight

# More than check_finite reads at a time, in 128 columns.
MANY_ROWS = 40_000
REF = TensorRef("model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", (9, 9))


def test_finite_weights_pass_and_each_tensor_is_read() -> None:
    tensors, spec = tiny_weights("llama")
    source = ArrayWeights(tensors)
    check_finite(source, spec)
    assert [name for name, _, _ in source.reads] == [ref.name for ref in spec.tensors()]
    assert {name: stop for name, _, stop in source.reads} == {ref.name: ref.shape[0] for ref in spec.tensors()}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("model.embed_tokens.weight", (3, 7)),
        ("model.layers.1.self_attn.q_proj.bias", (5,)),
        ("model.norm.weight", (143,)),
        ("lm_head.weight", (0, 0)),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_bad_weight_is_named(name: str, index: tuple[int, ...], value: float) -> None:
    tensors, spec = tiny_weights("qwen2")
    tensors[name][index] = value
    tensors["lm_head.weight"][200, 1] = np.nan  # a later one
    with pytest.raises(NonFiniteWeightError) as caught:
        check_finite(ArrayWeights(tensors), spec)
    assert caught.value.message == f"{name} holds {value:g} at {list(index)}: weights must be finite"
    assert "damaged" in caught.value.hint


def test_a_large_matrix_is_read_in_pieces() -> None:
    tensors, spec = tiny_weights("qwen2", vocab_size=MANY_ROWS, hidden_size=128, num_attention_heads=2)
    name = "model.embed_tokens.weight"
    tensors[name][MANY_ROWS - 1, 2] = np.inf
    source = ArrayWeights(tensors)
    with pytest.raises(NonFiniteWeightError, match=rf"{name} holds inf at \[{MANY_ROWS - 1}, 2\]"):
        check_finite(source, spec)
    assert len(source.reads) > 1
    assert source.reads[0][2] == source.reads[1][1]


def test_a_value_that_float16_cannot_store() -> None:
    error = unusable_weight(REF, 1e6, np.dtype(np.float16), 2, 3)
    assert error.message == f"{REF.name} holds 1e+06 at [2, 3]: too large for float16 weights"
    assert "float32" in error.hint
    assert unusable_weight(REF, 1e39, np.dtype(np.float32), 2, 3).hint == ""
