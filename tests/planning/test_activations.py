"""Buffers of the graph's operators, by hand."""

from __future__ import annotations

from hand_counted import small_spec

from edgekit.planning.activations import graph_activation_bytes as activation_bytes
from edgekit.planning.memory import Dimensions


def test_activations_by_hand() -> None:
    dimensions = Dimensions.of_spec(small_spec())
    expected = 4 * 8 * 128 * 4 + 2 * 8 * (64 + 32 + 32) * 4 + 3 * 8 * 2 * 96 * 4 + 4 * 8 * 64 * 4 + 100 * 8
    assert activation_bytes(dimensions, 128, "float32", chunk=8) == expected


def test_cuda_unpacks_the_largest_matrix() -> None:
    dimensions = Dimensions.of_spec(small_spec())
    assert dimensions.largest_linear == 2 * 96 * 64
    expected = 4 * 8 * 128 * 4 + 2 * 8 * 128 * 2 + 3 * 8 * 2 * 96 * 2 + 4 * 8 * 64 * 2 + 100 * 6 + 2 * 96 * 64 * 2
    assert activation_bytes(dimensions, 128, "float16", chunk=8) == expected


def test_a_short_context_needs_no_whole_chunk() -> None:
    dimensions = Dimensions.of_spec(small_spec())
    assert activation_bytes(dimensions, 4, "float32", chunk=256) == activation_bytes(dimensions, 4, "float32", chunk=4)


def test_norms_of_query_and_key_heads_split_and_copy_the_projections() -> None:
    plain, normed = (Dimensions.of_spec(small_spec(model_type=t, head_dim=16)) for t in ("llama", "qwen3"))
    more = activation_bytes(normed, 128, "float32", chunk=8) - activation_bytes(plain, 128, "float32", chunk=8)
    assert more == 2 * 8 * (64 + 32 + 32) * 4
