"""The configuration of GPTQ checkpoints: both files, both sets of names, and exceptions for single modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.checkpoint.gptq_config import GptqConfig, read_gptq_config
from edgekit.errors import CorruptFileError, TensorMismatchError, UnsupportedModelError

MINIMAL = {"bits": 4, "group_size": 128}


def read(folder: Path, file: dict[str, Any] | None = None, copy: dict[str, Any] | None = None) -> GptqConfig:
    """Read a configuration written to quantize_config.json, to config.json, or to both."""
    if file is not None:
        (folder / "quantize_config.json").write_text(json.dumps(file))
    return read_gptq_config(folder, {} if copy is None else {"quantization_config": copy})


def test_defaults_are_autogptqs(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert (config.bits, config.group_size, config.desc_act, config.symmetric) == (4, 128, False, True)
    assert config.label is None
    assert config.source == str(tmp_path / "quantize_config.json")
    assert config.content == MINIMAL


@pytest.mark.parametrize(
    "names",
    [
        {"quant_method": "gptq", "checkpoint_format": "gptq_v2"},
        {"method": "GPTQ", "format": "GPTQ_V2"},
        {"quant_method": "gptq", "method": "gptq", "checkpoint_format": "gptq_v2", "format": "gptq_v2"},
        {"quant_method": None, "method": "gptq", "checkpoint_format": "gptq_v2", "format": None},
    ],
)
def test_older_and_newer_names_mean_the_same(tmp_path: Path, names: dict[str, Any]) -> None:
    assert read(tmp_path, MINIMAL | names).label == "gptq_v2"


def test_either_file_may_have_keys_that_the_other_lacks(tmp_path: Path) -> None:
    config = read(tmp_path, {"bits": 8, "sym": False}, {"bits": 8, "group_size": 32, "quant_method": "gptq"})
    assert (config.bits, config.group_size, config.symmetric) == (8, 32, False)
    assert config.content == {"bits": 8, "sym": False}


def test_the_copy_alone_is_enough(tmp_path: Path) -> None:
    config = read(tmp_path, None, {**MINIMAL, "quant_method": "gptq"})
    assert config.bits == 4
    assert config.source.endswith("config.json, quantization_config")


@pytest.mark.parametrize("key", ["bits", "group_size", "desc_act", "sym", "checkpoint_format"])
def test_files_that_contradict_each_other_are_named(tmp_path: Path, key: str) -> None:
    one: dict[str, Any] = {**MINIMAL, "desc_act": True, "sym": True, "checkpoint_format": "gptq"}
    other: dict[str, Any] = {"bits": 8, "group_size": 64, "desc_act": False, "sym": False, "format": "gptq_v2"}
    changed = {key: other["format" if key == "checkpoint_format" else key]}
    message = rf"quantize_config\.json says {key} = .*, but .*config\.json, quantization_config says"
    with pytest.raises(TensorMismatchError, match=message):
        read(tmp_path, one, {**one, **changed})


def test_without_a_description_codes_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"in GPTQ format, but quantize_config\.json is missing"):
        read(tmp_path)


DYNAMIC = {
    r"-:.*k_proj": {},
    r"+:model\.layers\.1\.": {"bits": 8, "group_size": 64, "desc_act": True, "sym": False},
    r".*q_proj": {"bits": 8},
}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("model.layers.0.v_proj", (4, 128, False, True)),  # no pattern matches
        ("model.layers.1.v_proj", (8, 64, True, False)),
        ("model.layers.0.q_proj", (8, 128, False, True)),  # values that are not overridden stay
        ("model.layers.1.q_proj", (8, 64, True, False)),  # the first pattern that matches decides
        ("model.layers.1.k_proj", None),  # stays in float
        ("x.model.layers.1.v_proj", (4, 128, False, True)),  # a pattern matches from the start of the name
    ],
)
def test_exceptions_for_modules(tmp_path: Path, module: str, expected: tuple[Any, ...] | None) -> None:
    config = read(tmp_path, {**MINIMAL, "dynamic": DYNAMIC}).for_module(module)
    found = None if config is None else (config.bits, config.group_size, config.desc_act, config.symmetric)
    assert found == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bits": None}, CorruptFileError, "lacks bits"),
        ({"group_size": None}, CorruptFileError, "lacks group_size"),
        ({"bits": True}, CorruptFileError, "bits is true; it must be a whole number"),
        ({"bits": 4.0}, CorruptFileError, "bits is 4.0; it must be a whole number"),
        ({"bits": 2}, UnsupportedModelError, "bits is 2; supported: 4, 8"),
        (
            {"group_size": -2},
            CorruptFileError,
            "group_size is -2; it must be a whole number from 1 to 2147483647, or -1",
        ),
        ({"desc_act": 1}, CorruptFileError, "desc_act is 1; it must be true or false"),
        ({"quant_method": "awq"}, UnsupportedModelError, "quant_method is 'awq'; supported: 'gptq'"),
        ({"checkpoint_format": "bitblas"}, UnsupportedModelError, "supported: 'gptq', 'gptq_v2'"),
        ({"is_marlin_format": True}, UnsupportedModelError, "checkpoint_format is 'marlin'; supported"),
        ({"rotation": "hadamard"}, UnsupportedModelError, "rotation is 'hadamard': the inputs of down_proj"),
        ({"rotation": "random"}, UnsupportedModelError, "rotation is 'random'"),
        ({"adapter": {"name": "lora", "rank": 64}}, UnsupportedModelError, "adapter is .*: a low-rank adapter"),
        ({"dynamic": {".*": {"method": "awq"}}}, UnsupportedModelError, r"dynamic '\.\*': quant_method is 'awq'"),
        ({"dynamic": {".*": {"format": "marlin"}}}, UnsupportedModelError, r"dynamic '\.\*': checkpoint_format"),
        (
            {"checkpoint_format": "gptq", "dynamic": {".*": {"format": "gptq_v2"}}},
            UnsupportedModelError,
            r"dynamic '\.\*': checkpoint_format is 'gptq_v2'; supported: 'gptq'",
        ),
        ({"dynamic": {".*": {"pack_dtype": "int8"}}}, UnsupportedModelError, r"dynamic '\.\*': pack_dtype is 'int8'"),
        ({"dynamic": {".*": {"rotation": "random"}}}, UnsupportedModelError, r"dynamic '\.\*': rotation is 'random'"),
        ({"pack_dtype": "int64"}, UnsupportedModelError, "pack_dtype is 'int64'; supported: 'int32'"),
        ({"dynamic": [1]}, CorruptFileError, r"dynamic is \[1\]; it must be an object"),
        ({"dynamic": {".*": 4}}, CorruptFileError, r"dynamic '\.\*' is 4; it must be an object"),
        ({"dynamic": {"-:[": {}}}, CorruptFileError, r"dynamic: '\[' is not a valid regular expression"),
    ],
)
def test_invalid_values_are_named(tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"quantize_config\.json.*{message}"):
        read(tmp_path, {**MINIMAL, **change})


def test_a_rotation_that_is_named_in_the_copy_alone(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json, quantization_config: rotation is 'hadamard'"):
        read(tmp_path, MINIMAL, MINIMAL | {"rotation": "hadamard"})


@pytest.mark.parametrize("key", ["rotation", "adapter", "transform_config", "is_marlin_format"])
def test_what_is_switched_off_changes_nothing(tmp_path: Path, key: str) -> None:
    for value in (None, False) if key == "is_marlin_format" else (None, False, "", {}):
        assert read(tmp_path, {**MINIMAL, key: value}).bits == MINIMAL["bits"]


def test_an_invalid_exception_names_its_pattern(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"dynamic '\.\*': group_size is 0"):
        read(tmp_path, {**MINIMAL, "dynamic": {".*": {"group_size": 0}}})
