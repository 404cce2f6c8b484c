"""Bytes of weights, KV cache and tokenizer: by hand, and against the exporter's layout."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hand_counted import ALL_INT4, INT4, INT8, small_spec

from edgekit import layout
from edgekit.models import ModelSpec, spec_from_config
from edgekit.planning.memory import Dimensions, MemoryPlan, WeightBytes, kv_cache_bytes, tokenizer_bytes, weight_groups
from edgekit.recipes import all_recipes, load_recipe
from edgekit.scheme import QuantizationConfig, QuantizationScheme


def _weight_bytes(
    spec: ModelSpec, quantization: QuantizationConfig, activation_type: str, max_context: int
) -> WeightBytes:
    return weight_groups(spec, layout.plan_layout(spec, quantization, activation_type, max_context))


def test_weights_by_hand() -> None:
    """One row of 64 inputs: 32 bytes of codes and 2 scales of 4; of 96 inputs: 48 bytes and 3 scales."""
    found = _weight_bytes(small_spec(), ALL_INT4, "float32", 128)
    wide, narrow = 32 + 2 * 4, 48 + 3 * 4
    rows_of_64 = (64 + 32 + 32) + 64 + (96 + 96)
    assert found.linears == 2 * (rows_of_64 * wide + 64 * narrow)
    assert found.embedding == found.lm_head == 100 * wide
    assert found.norms_and_biases == (2 * 2 + 1) * 64 * 4
    assert found.rotary == 2 * 128 * 8 * 4
    assert found.parameters == 2 * 100 * 64 + 2 * (rows_of_64 * 64 + 64 * 96) + 5 * 64
    stored = found.linears + found.embedding + found.lm_head + found.norms_and_biases
    assert found.bits_per_weight == pytest.approx(8 * stored / found.parameters)
    assert found.total == stored + found.rotary + found.padding


def test_float16_halves_scales_norms_and_tables_but_not_codes() -> None:
    wide, narrow = (_weight_bytes(small_spec(), ALL_INT4, kind, 128) for kind in ("float32", "float16"))
    assert narrow.rotary * 2 == wide.rotary
    assert narrow.norms_and_biases * 2 == wide.norms_and_biases
    assert wide.embedding - narrow.embedding == 100 * 2 * 2


@pytest.mark.parametrize(
    ("embedding", "lm_head", "tables"), [(INT8, INT8, 1), (INT8, INT4, 2), (None, None, 1), (None, INT8, 2)]
)
def test_a_tied_table_is_stored_once_when_both_uses_agree(
    embedding: QuantizationScheme | None, lm_head: QuantizationScheme | None, tables: int
) -> None:
    config = QuantizationConfig(INT4, embedding, lm_head)
    tied = _weight_bytes(small_spec(tie_word_embeddings=True), config, "float32", 128)
    assert tied.embedding > 0
    assert (tied.lm_head > 0) is (tables == 2)
    assert _weight_bytes(small_spec(), config, "float32", 128).lm_head > 0


def test_biases_count() -> None:
    plain, biased = (
        _weight_bytes(small_spec(model_type=kind), ALL_INT4, "float32", 128) for kind in ("llama", "qwen2")
    )
    assert biased.norms_and_biases - plain.norms_and_biases == 2 * (64 + 32 + 32) * 4
    assert biased.linears == plain.linears


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize(
    "config",
    [
        QuantizationConfig.none(),
        ALL_INT4,
        QuantizationConfig(INT8, INT4, INT8),
        QuantizationConfig(QuantizationScheme(4, 128, False), None, QuantizationScheme(8, 64, True)),
        None,
    ],
)
@pytest.mark.parametrize("name", [r.name for r in all_recipes() if r.config["model_type"] != "deepseek_v3"])
def test_the_exporter_stores_exactly_this(name: str, config: QuantizationConfig | None, kind: str) -> None:
    recipe = load_recipe(name)
    spec, config = spec_from_config(recipe.config), config or recipe.quantization
    planned = _weight_bytes(spec, config, kind, recipe.max_context)
    stored = layout.plan_layout(spec, config, kind, recipe.max_context)
    assert planned.total == stored.size_bytes
    assert planned.total - planned.rotary - planned.padding == stored.weight_bytes


def test_int4_block_128_throughout_is_four_and_a_quarter_bits() -> None:
    spec = spec_from_config(load_recipe("deepseek-r1-distill-qwen-1.5b").config)
    scheme = QuantizationScheme(4, 128, True)
    found = _weight_bytes(spec, QuantizationConfig(scheme, scheme, scheme), "float32", 32768)
    assert found.bits_per_weight == pytest.approx(4 + 32 / 128, abs=0.01)
    assert found.total < 1.02e9


def test_the_cache_holds_keys_and_values_of_every_layer() -> None:
    dimensions = Dimensions.of_spec(small_spec())
    assert kv_cache_bytes(dimensions, 128, "float32") == 2 * (2 * 2 * 16) * 128 * 4
    assert kv_cache_bytes(dimensions, 128, "float16") * 2 == kv_cache_bytes(dimensions, 128, "float32")


def test_the_parts_sum_up() -> None:
    parts = MemoryPlan(1, 10, 100, 1000, tokenizer=100_000, runtime=10_000, loading=5)
    assert parts.total == parts.peak == 111_111
    assert replace(parts, loading=90_000).peak == 200_000
    assert parts.to_json() == {
        "weights": 1,
        "repacking": 10,
        "kv_cache": 100,
        "activations": 1000,
        "tokenizer": 100_000,
        "runtime": 10_000,
        "total": 111_111,
    }


def test_int8_stores_a_scale_for_each_key_and_value_of_a_head() -> None:
    dimensions = Dimensions.of_spec(small_spec())
    assert kv_cache_bytes(dimensions, 128, "int8") == 2 * 2 * 2 * 128 * (16 + 4)


PROCESS = """
import numpy, onnxruntime, click, jinja2
from tokenizers import Tokenizer, models
alphabet = {chr(97 + i): i for i in range(26)}
pairs = [(a, b) for a in alphabet for b in alphabet]
words = [a + b for a, b in pairs]
merges = pairs + [(x, y) for x in words for y in words][:150_000 - 26 - len(pairs)]
vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(m) for m in merges)])}
text = Tokenizer(models.BPE(vocabulary, merges)).to_str()
import os, sys
if len(sys.argv) > 1:
    open(sys.argv[1], "w").write(text)
"""


MEASURE = """
import re, sys
from tokenizers import Tokenizer
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = resident()
tokenizer = Tokenizer.from_file(sys.argv[1])
assert tokenizer.get_vocab_size() == 150_000 and tokenizer.encode("hello").ids
print(resident() - before)
"""


# A made-up vocabulary has shorter tokens than a real one: by its file, which is smaller, it cannot be held.
TOKENIZER_TOLERANCE = 0.5


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_a_large_tokenizer_takes_about_what_is_planned(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    subprocess.run([sys.executable, "-c", PROCESS, str(file)], check=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(file)], check=True, timeout=120, capture_output=True, text=True
    )
    resident = int(done.stdout)
    assert tokenizer_bytes(150_000) == pytest.approx(resident, rel=TOKENIZER_TOLERANCE)
