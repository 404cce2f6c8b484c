"""An AWQ checkpoint's configuration, as AutoAWQ, older AutoAWQ and GPTQModel write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.checkpoint.awq_config import AwqConfig, read_awq_config
from edgekit.errors import CorruptFileError, UnsupportedModelError

AUTOAWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


def read(folder: Path, content: dict[str, Any] | None, **files: dict[str, Any]) -> AwqConfig:
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return read_awq_config(folder, {} if content is None else {"quantization_config": content})


def facts(found: AwqConfig) -> tuple[object, ...]:
    return found.group_size, found.zero_point, found.float_modules


def test_who_writes_what(tmp_path: Path) -> None:
    assert facts(read(tmp_path, AUTOAWQ | {"modules_to_not_convert": None})) == (128, True, ())
    kept = read(tmp_path, AUTOAWQ | {"modules_to_not_convert": ["mlp.gate", "layers.0."]})
    assert facts(kept) == (128, True, ("mlp.gate", "layers.0."))
    assert not kept.quantizes("model.layers.0.self_attn.q_proj")
    assert kept.quantizes("model.layers.1.self_attn.q_proj")
    assert facts(read(tmp_path, AUTOAWQ | {"version": "GEMV", "group_size": -1})) == (-1, True, ())
    assert facts(read(tmp_path, None)) == (None, True, ())
    gptqmodel = {"method": "awq", "format": "gemm", "bits": 4, "group_size": 32, "sym": True}
    assert facts(read(tmp_path, None, quantize_config=gptqmodel)) == (32, False, ())
    old = {"zero_point": True, "q_group_size": 64, "w_bit": 4, "version": "GEMM"}
    found = read(tmp_path, None, quant_config=old)
    assert facts(found) == (64, True, ())
    assert found.content == old
    auto_round = {"bits": 4, "group_size": 128, "sym": True, "packing_format": "auto_round:auto_awq"}
    for method in ("auto-round", "intel/auto-round"):
        assert facts(read(tmp_path, auto_round | {"quant_method": method})) == (128, False, ())
    own = {"a.down_proj": {"bits": 16, "data_type": "float"}, "a.up_proj": {"bits": 4}, "b": None}
    mixed = read(tmp_path, auto_round | {"quant_method": "auto-round", "extra_config": own})
    assert mixed.float_modules == ("a.down_proj",)
    assert found.source.endswith("quant_config.json")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"bits": 8}, UnsupportedModelError, "bits is 8; supported for AWQ: 4"),
        ({"version": "gemv_fast"}, UnsupportedModelError, "version is 'gemv_fast'; supported for AWQ: gemm, gemv"),
        ({"quant_method": "paroquant"}, UnsupportedModelError, "quant_method is 'paroquant'; .* 'awq' is supported"),
        ({"quant_method": "auto-round"}, UnsupportedModelError, "quant_method is 'auto-round'"),
        ({"quant_method": 3}, CorruptFileError, "quant_method is 3"),
        ({"rotation": "hadamard"}, UnsupportedModelError, "rotation is 'hadamard': the inputs of down_proj"),
        ({"adapter": {"rank": 4}}, UnsupportedModelError, "adapter is "),
        ({"version": 3}, CorruptFileError, "version is 3; it must be text"),
        ({"group_size": 0}, CorruptFileError, "group_size is 0"),
        ({"group_size": "x"}, CorruptFileError, "group_size is 'x'"),
        ({"zero_point": 1}, CorruptFileError, "zero_point is 1"),
        ({"modules_to_not_convert": "lm_head"}, CorruptFileError, "modules_to_not_convert is 'lm_head'"),
    ],
)
def test_values_that_are_not_read(tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read(tmp_path, AUTOAWQ | change)


def test_a_rotation_that_is_named_in_the_other_file(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"quantize_config\.json: rotation is 'random'"):
        read(tmp_path, AUTOAWQ, quantize_config={"method": "awq", "bits": 4, "rotation": "random"})
