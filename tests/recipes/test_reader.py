"""Reading recipe files: required values, and errors for wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekit.errors import RecipeError
from edgekit.recipes import FolderSource, HubSource, PackageSource
from edgekit.recipes.reader import read_recipe
from edgekit.sampling import SamplingOverrides
from edgekit.scheme import QuantizationScheme

VALID = """
title = "Tiny"
licence = "MIT"
parameters = 1000
reasoning = false
max_context = 128

[source]
kind = "hub"
repository = "somebody/tiny"
revision = "0123456789012345678901234567890123456789"

[config]
model_type = "llama"
max_position_embeddings = 256

[quantization]
method = "rtn"
linear = { bits = 4, block_size = 32, symmetric = false }
embedding = "float"
lm_head = { bits = 8, block_size = 64, symmetric = true }

[sampling]
temperature = 0.7
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_has_the_values_of_its_file(tmp_path: Path) -> None:
    recipe = read_recipe(_write(tmp_path, VALID))
    assert recipe.name == "tiny"
    assert recipe.source == HubSource("somebody/tiny", "0123456789012345678901234567890123456789")
    assert recipe.config == {"model_type": "llama", "max_position_embeddings": 256}
    assert recipe.quantization.linear == QuantizationScheme(4, 32, False)
    assert recipe.quantization.embedding is None
    assert recipe.quantization.lm_head == QuantizationScheme(8, 64, True)
    assert recipe.sampling == SamplingOverrides(temperature=0.7)
    assert recipe.plan_only == ""


def test_sampling_may_be_left_out_and_then_changes_nothing(tmp_path: Path) -> None:
    text = VALID[: VALID.index("[sampling]")]
    assert read_recipe(_write(tmp_path, text)).sampling == SamplingOverrides()


def test_what_quantization_may_leave_out(tmp_path: Path) -> None:
    plain = read_recipe(_write(tmp_path, VALID)).quantization
    assert (plain.mean_bits, plain.rotate, plain.scale) == (None, False, False)
    more = VALID.replace('method = "rtn"', 'method = "rtn"\nmean_bits = 5.2\nrotate = true\nscale = true')
    said = read_recipe(_write(tmp_path, more)).quantization
    assert (said.mean_bits, said.rotate, said.scale) == (5.2, True, True)


def test_the_other_kinds_of_source(tmp_path: Path) -> None:
    start, end = VALID.index("[source]"), VALID.index("[config]")

    def read(source: str) -> object:
        return read_recipe(_write(tmp_path, f"{VALID[:start]}[source]\n{source}\n{VALID[end:]}")).source

    digest = "ab" * 32
    package = f'kind = "package"\npackage = "a-b"\nversion = "0.1.2"\nsha256 = "{digest}"\nmember = "a/b.gguf"'
    assert read(package) == PackageSource("a-b", "0.1.2", digest, "a/b.gguf")
    assert read('kind = "folder"\npath = "weights"') == FolderSource(str(tmp_path / "weights"))
    assert read('kind = "folder"\npath = "/weights"') == FolderSource("/weights")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("licence =", "license =", ["unknown key 'license'", "did you mean licence"]),
        ("bits = 8", "bit = 8", ["quantization.lm_head: unknown key 'bit'", "bits"]),
        ("temperature", "temprature", ["sampling: unknown key 'temprature'", "temperature"]),
        ("repository =", "repo =", ["source: unknown key 'repo'"]),
        ("parameters = 1000\n", "", ["lacks parameters"]),
        ("symmetric = false", "symmetric = 0", ["quantization.linear.symmetric is 0", "true or false"]),
        (", symmetric = false", "", ["quantization.linear: lacks symmetric"]),
        ("parameters = 1000", 'parameters = "1000"', ["parameters is '1000'", "whole number"]),
        ("parameters = 1000", "parameters = true", ["parameters is True", "whole number"]),
        ("parameters = 1000", "parameters = 0", ["parameters is 0", "at least 1"]),
        ("block_size = 32", "block_size = 48", ["quantization.linear: block_size is 48", "32, 64, 128"]),
        ('embedding = "float"', 'embedding = "int4"', ["embedding is 'int4'", "table"]),
        ('"rtn"', '"awq"', ["quantization.method is 'awq'", "rtn, gptq"]),
        ('"rtn"', '"imported"', ["quantization.method is 'imported'", "rtn, gptq"]),
        ('"rtn"', '"rtn"\nrotate = 1', ["quantization.rotate is 1", "true or false"]),
        ('"rtn"', '"rtn"\nmean_bits = "5"', ["quantization.mean_bits is '5'", "a number"]),
        ("max_context = 128", "max_context = 512", ["max_context is 512", "256"]),
        ("max_context = 128", "max_context = 0", ["max_context is 0"]),
        ('model_type = "llama"\n', "", ["[config] lacks model_type"]),
        ("max_position_embeddings = 256", "", ["[config] lacks max_position_embeddings"]),
        ('"hub"', '"ftp"', ["source.kind is 'ftp'", "hub, package, folder"]),
        ("somebody/tiny", "tiny", ["repository is 'tiny'", "owner/name"]),
        ("0123456789012345678901234567890123456789", "main", ["revision is 'main'", "40"]),
        ("temperature = 0.7", "temperature = -1", ["temperature is -1", "0 (greedy) or more"]),
        ("temperature = 0.7", "top_p = 0", ["top_p is 0", "at most 1"]),
        ("temperature = 0.7", "temperature = nan", ["temperature is nan"]),
        ("temperature = 0.7", "top_k = 1.5", ["top_k is 1.5", "whole number"]),
        ('title = "Tiny"', 'title = " "', ["title is empty"]),
        ('title = "Tiny"', "title = Tiny", ["is not TOML"]),
        ('title = "Tiny"', 'name = "tiny"', ["unknown key 'name'", "the file's name"]),
        ('method = "rtn"', 'method = "rtn"\nmatrices = {}', ["quantization: unknown key 'matrices'"]),
        ('method = "rtn"\n', "", ["quantization: lacks method"]),
        (
            '"llama"',
            '"llama"\nnum_key_value_head = 2',
            ["[config]: unknown key 'num_key_value_head'", "num_key_value_heads?"],
        ),
        ('"llama"', '"llama"\ntie_word_embedding = true', ["unknown key 'tie_word_embedding'", "tie_word_embeddings?"]),
        ('"llama"', '"llama"\nrope_scalling = {}', ["unknown key 'rope_scalling'", "did you mean rope_scaling?"]),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert VALID.count(old) == 1
    path = _write(tmp_path, VALID.replace(old, new))
    with pytest.raises(RecipeError) as failure:
        read_recipe(path)
    for word in [str(path), *words]:
        assert word in failure.value.message


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"\.toml cannot be read: No such file"):
        read_recipe(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not TOML"):
        read_recipe(binary)


def test_there_must_be_something_to_calibrate(tmp_path: Path) -> None:
    text = re.sub(r"^linear = .*$", 'linear = "float"', VALID, flags=re.MULTILINE).replace('"rtn"', '"gptq"')
    with pytest.raises(RecipeError, match="method is 'gptq', but linear is float"):
        read_recipe(_write(tmp_path, text))


@pytest.mark.parametrize("value", ["nan", "0", "-1", '"x"', "999999999999"])
def test_shapes_out_of_range(tmp_path: Path, value: str) -> None:
    text = VALID.replace("[config]\n", f"[config]\nhidden_size = {value}\n")
    with pytest.raises(
        RecipeError, match=r"tiny\.toml: \[config\]: hidden_size is .*; it must be a whole number from 1"
    ):
        read_recipe(_write(tmp_path, text))


def test_keys_of_the_config_that_edgekit_does_not_read_are_allowed(tmp_path: Path) -> None:
    keys = (
        "attention_dropout", "bos_token_id", "head_dimension_unused", "initializer_range", "layer_norm_eps",
        "num_experts", "pretraining_tp", "qk_head_dim", "rope_interleave", "torch_dtype", "use_cache", "use_mrope",
    )  # fmt: skip
    more = "".join(f"{key} = 1\n" for key in keys)
    recipe = read_recipe(_write(tmp_path, VALID.replace("[quantization]", f"{more}\n[quantization]")))
    assert set(keys) < set(recipe.config)
