"""A folder is read as its tensors are stored, whatever its config.json says."""

import json

import numpy as np
import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.marks import FORMATS
from edgekit.checkpoint.stored import READERS
from edgekit.errors import UnsupportedModelError


@pytest.fixture
def describe(tiny_folder, tiny_config):
    """Add keys to the folder's config.json."""

    def change(**keys):
        (tiny_folder / "config.json").write_text(json.dumps({**tiny_config, **keys}))
        return tiny_folder

    return change


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "compressed-tensors"])
def test_float_weights_with_a_leftover_quantization_config(describe, method):
    folder = describe(quantization_config={"quant_method": method, "bits": 4})
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.format == "huggingface"
        np.testing.assert_array_equal(checkpoint.rows("single", 0, 1)[0], np.arange(32))
        (note,) = checkpoint.notes
    assert f"config.json has a quantization_config ({method}), but the weights are float" in note


def test_float_weights_with_a_leftover_quantize_config(tiny_folder):
    (tiny_folder / "quantize_config.json").write_text('{"bits": 4}')
    with open_checkpoint(tiny_folder) as checkpoint:
        assert checkpoint.format == "huggingface"
        assert "quantize_config.json (gptq), but the weights are float" in checkpoint.notes[0]


def test_float_weights_have_no_note(tiny_folder):
    with open_checkpoint(tiny_folder) as checkpoint:
        assert checkpoint.notes == ()


@pytest.mark.parametrize("said", [{}, {"quantization_config": {"quant_method": "gptq", "bits": 4}}])
def test_quantized_weights_are_refused_by_their_tensors(describe, write_safetensors, said):
    folder = describe(**said)
    raw = np.zeros(64, "<f4").tobytes()
    write_safetensors(folder / "model.safetensors", {"q_proj.weight.absmax": ("F32", [64], raw)})
    with pytest.raises(
        UnsupportedModelError, match="already quantized \\(bitsandbytes, 4 bits; told by the tensor"
    ) as caught:
        open_checkpoint(folder)
    assert "q_proj.weight.absmax, type float32" in caught.value.message
    assert "supported: float32, float16 or bfloat16 weights" in caught.value.message
    assert ("quant_method gptq" in caught.value.message) is bool(said)
    assert "model.dequantize()" in caught.value.hint


def test_every_reader_has_a_format():
    assert READERS.keys() <= {found.name for found in FORMATS}
