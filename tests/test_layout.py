"""The layout of the data file: aligned, without overlap, complete."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoint import tiny_config

from edgekit.errors import UsageError
from edgekit.layout import MATRIX_ALIGNMENT, VECTOR_ALIGNMENT, DataLayout, check_matrices, plan_layout
from edgekit.models import spec_from_config
from edgekit.scheme import BITS, BLOCK_SIZES, QuantizationConfig, QuantizationScheme

schemes = st.one_of(
    st.none(), st.builds(QuantizationScheme, st.sampled_from(BITS), st.sampled_from(BLOCK_SIZES), st.booleans())
)
configs = st.builds(QuantizationConfig, schemes, schemes, schemes)


def slots(layout: DataLayout) -> list:
    found = [s for m in layout.matrices() for s in m.slots] + [v.slot for v in layout.vectors()]
    return sorted([*found, layout.rotary_cos, layout.rotary_sin], key=lambda s: s.offset)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(("llama", "qwen2", "qwen3")), configs, st.sampled_from(("float32", "float16")), st.integers(1, 256)
)
def test_slots_are_aligned_and_do_not_overlap(family: str, config: QuantizationConfig, kind: str, context: int) -> None:
    layout = plan_layout(spec_from_config(tiny_config(family)), config, kind, context)
    found = slots(layout)
    for before, after in itertools.pairwise(found):
        assert before.offset + before.size_bytes <= after.offset
    for slot in found:
        matrix = slot.name.endswith(".codes") or (slot.name.endswith("proj.weight") or slot.name == "lm_head.weight")
        assert slot.offset % (MATRIX_ALIGNMENT if matrix else VECTOR_ALIGNMENT) == 0
    assert layout.size_bytes == found[-1].offset + found[-1].size_bytes


def test_every_tensor_has_exactly_one_slot() -> None:
    spec = spec_from_config(tiny_config("qwen2"))
    layout = plan_layout(spec, QuantizationConfig.none(), "float32", 16)
    stored = [p.weight for m in layout.matrices() for p in m.parts]
    stored += [p.bias for m in layout.matrices() for p in m.parts if p.bias] + [v.source for v in layout.vectors()]
    assert sorted(t.name for t in stored) == sorted(t.name for t in spec.tensors())


def test_a_tied_model_stores_one_table() -> None:
    spec = spec_from_config(tiny_config("llama"))
    four, eight = QuantizationScheme(4, 32, True), QuantizationScheme(8, 32, True)
    shared = plan_layout(spec, QuantizationConfig(four, eight, eight), "float32", 16)
    apart = plan_layout(spec, QuantizationConfig(four, four, eight), "float32", 16)
    assert shared.shares_embedding
    assert not apart.shares_embedding
    assert apart.size_bytes > shared.size_bytes


def test_a_format_for_a_matrix_that_is_not_there() -> None:
    spec, four = spec_from_config(tiny_config("llama")), QuantizationScheme(4)
    known = QuantizationConfig(four, four, four, matrices={"model.layers.0.attn.qkv_proj": four})
    check_matrices(plan_layout(spec, known, "float32", 8), known)
    other = QuantizationConfig(four, four, four, matrices={"model.layers.99.attn.qkv_proj": four})
    with pytest.raises(UsageError, match=r"no matrix 'model\.layers\.99\.attn\.qkv_proj'"):
        check_matrices(plan_layout(spec, other, "float32", 8), other)
