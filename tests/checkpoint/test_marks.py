"""The format of a checkpoint's weights is told by its tensors."""

from pathlib import Path

import pytest

from edgekit.checkpoint.base import TensorInfo
from edgekit.checkpoint.marks import FORMATS, StoredFormat, mark_of, stored_format

Q = "model.layers.0.self_attn.q_proj"


def tensors(**described):
    """Tensors of one linear by their last names: {name: (type, shape)}; double underscores stand for dots."""
    return {
        name: TensorInfo(name, dtype, shape, Path("x"), 0, 0)
        for name, (dtype, shape) in {f"{Q}.{n.replace('__', '.')}": v for n, v in described.items()}.items()
    }


SAVED = {
    "EXL2": {"q_weight": ("I32", (8, 64)), "q_invperm": ("I32", (64,)), "q_scale": ("I32", (2, 8))},
    "EXL3": {"trellis": ("I16", (4, 4, 64)), "suh": ("float16", (64,)), "svh": ("float16", (64,))},
    "bitsandbytes, 4 bits": {
        "weight": ("U8", (2048, 1)),
        "weight__absmax": ("float32", (64,)),
        "weight__quant_map": ("float32", (16,)),
        "weight__quant_state__bitsandbytes__nf4": ("U8", (80,)),
    },
    "bitsandbytes, 8 bits": {"weight": ("I8", (64, 64)), "SCB": ("float32", (64,)), "weight_format": ("U8", ())},
    "MLX": {"weight": ("U32", (64, 8)), "scales": ("float16", (64, 2)), "biases": ("float16", (64, 2))},
    "compressed-tensors": {
        "weight_packed": ("I32", (64, 8)),
        "weight_scale": ("bfloat16", (64, 2)),
        "weight_shape": ("I64", (2,)),
    },
    "NVFP4": {"weight": ("U8", (64, 32)), "weight_scale": ("F8_E4M3", (64, 4)), "weight_scale_2": ("float32", ())},
    "MXFP4": {"weight_blocks": ("U8", (64, 2, 16)), "weight_scales": ("U8", (64, 2))},
    "AQLM": {"codes": ("I16", (8, 64, 1)), "codebooks": ("float16", (1, 256, 1, 8)), "scales": ("float16", (64, 1))},
    "HQQ": {"W_q": ("U8", (32, 64)), "scale": ("float16", (1, 64)), "zero": ("float16", (1, 64)), "nbits": ("I64", ())},
    "quanto": {"weight___data": ("I8", (64, 64)), "weight___scale": ("float32", (64, 1))},
    "torchao": {"_weight_qdata": ("I8", (64, 64)), "_weight_scale": ("float32", (64, 1))},
    "VPTQ": {"centroids__weight": ("float16", (1, 256)), "indices": ("I32", (1, 8))},
    "QuIP#": {"Qidxs": ("I64", (64, 8)), "SU": ("float16", (64,)), "SV": ("float16", (64,))},
    "SqueezeLLM": {"qweight": ("I32", (8, 64)), "lookup_table": ("float16", (64, 16))},
    "SpQR": {"dense_weights": ("I64", (8, 8)), "row_offsets": ("I32", (65,))},
    "HIGGS": {"weight": ("I16", (8, 64)), "scales": ("float16", (64, 1)), "tables": ("float16", (4, 2))},
    "EETQ": {"weight": ("I8", (64, 64)), "weight_scales": ("float16", (64,))},
    "Marlin": {"B": ("I32", (4, 128)), "s": ("float16", (1, 64))},
    "fp8": {"weight": ("F8_E4M3", (64, 64)), "weight_scale_inv": ("float32", (1, 1))},
    "fp8 FNUZ": {"weight": ("F8_E4M3FNUZ", (64, 64)), "weight_scale": ("float32", (1, 1))},
    "8-bit integers": {"weight": ("I8", (64, 64)), "weight_scale": ("float32", (64, 1))},
    "AWQ": {"qweight": ("I32", (64, 8)), "qzeros": ("I32", (2, 8)), "scales": ("float16", (2, 64))},
    "GPTQ": {"qweight": ("I32", (8, 64)), "qzeros": ("I32", (2, 8)), "scales": ("float16", (2, 64))},
    "integers": {"weight": ("U8", (64, 32)), "weight_scale": ("float16", (64, 1))},
}


def test_every_format_is_tried():
    assert SAVED.keys() == {found.name for found in FORMATS}


@pytest.mark.parametrize("name", sorted(SAVED))
def test_a_format_is_told_by_its_own_tensors(name):
    found = stored_format(tensors(**SAVED[name]), {})
    assert found is not None
    assert found.name == name
    assert found.hint


def test_float_weights_have_no_format():
    plain = {"weight": ("bfloat16", (64, 64)), "bias": ("bfloat16", (64,)), "rotary_emb__inv_freq": ("float32", (8,))}
    assert stored_format(tensors(**plain), {"quantization_config": {"quant_method": "awq"}}) is None
    assert stored_format(tensors(mask=("I64", (2, 2)), **plain), {}) is None  # a causal mask is not a weight


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_the_configuration_tells_awq_from_gptq_before_the_shapes_do(method):
    square = {"qweight": ("I32", (64, 8)), "scales": ("float16", (2, 64))}
    found = stored_format(tensors(**square), {"quantization_config": {"quant_method": method}})
    assert found is not None
    assert found.name == method.upper()


def test_a_mark_is_matched_at_the_end_of_a_name():
    format_ = StoredFormat("X", r"\.SU")
    assert mark_of(format_, tensors(SUM=("float32", (1,))).values()) is None
    found = mark_of(format_, tensors(bias=("float32", (1,)), SU=("float32", (1,))).values())
    assert found is not None
    assert found.name == f"{Q}.SU"
