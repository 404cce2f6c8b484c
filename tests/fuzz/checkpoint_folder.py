"""A folder of quantized or float weights: its config.json and the names, types and shapes of its tensors.

The tensors are also compared with those of the model that config.json describes.
"""

import contextlib
import json
import struct

from fuzz_changes import json_change as change
from fuzz_files import SMALL, as_json, written

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError
from edgekit.json_file import parse_json_object
from edgekit.models import spec_from_config
from edgekit.scheme import QuantizationConfig, QuantizationScheme
from edgekit.weights.carried import carried_formats
from edgekit.weights.tensors import check_tensors

__all__ = ["change", "read", "seeds"]
_BYTES = {"F32": 4, "I32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U8": 1, "I64": 8}
_LINEAR = "model.layers.0.mlp.up_proj"
_FORMATS = QuantizationConfig(*[QuantizationScheme(4, 32, False)] * 3)


def seeds() -> list[bytes]:
    config = {**SMALL, "model_type": "llama", "vocab_size": 8, "tie_word_embeddings": False}
    embedding = {"model.embed_tokens.weight": ["F16", [8, 64]], "lm_head.weight": ["BF16", [8, 64]]}
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
    awq = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
    fp8 = {"quant_method": "fp8", "weight_block_size": [32, 32], "modules_to_not_convert": ["lm_head"]}
    whole = {ref.name: ["F32", list(ref.shape)] for ref in spec_from_config(config).tensors()}
    more = {f"model.layers.{i}.mlp.up_proj.weight": ["F32", [64, 64]] for i in (0, 1)}
    codes = {
        f"{_LINEAR}.qweight": ["I32", [8, 64]],
        f"{_LINEAR}.qzeros": ["I32", [2, 8]],
        f"{_LINEAR}.scales": ["F16", [2, 64]],
    }
    packed = {name: given for name, given in whole.items() if not name.startswith(_LINEAR)} | codes
    return as_json(
        {"config": config, "tensors": whole}, {"config": config, "tensors": {**whole, **more}},
        {"config": {**config, "quantization_config": gptq}, "tensors": packed},
        {"config": config, "tensors": embedding},
        {"config": {**config, "quantization_config": gptq}, "tensors": {
            **embedding, f"{_LINEAR}.qweight": ["I32", [8, 64]], f"{_LINEAR}.qzeros": ["I32", [2, 8]],
            f"{_LINEAR}.scales": ["F16", [2, 64]], f"{_LINEAR}.g_idx": ["I32", [64]]}},
        {"config": {**config, "quantization_config": awq}, "tensors": {
            **embedding, f"{_LINEAR}.qweight": ["I32", [64, 8]], f"{_LINEAR}.qzeros": ["I32", [2, 8]],
            f"{_LINEAR}.scales": ["F16", [2, 64]]}},
        {"config": {**config, "quantization_config": fp8}, "tensors": {
            **embedding, f"{_LINEAR}.weight": ["F8_E4M3", [64, 64]], f"{_LINEAR}.weight_scale_inv": ["F32", [2, 2]]}},
        {"config": {**config, "quantization_config": {"quant_method": "bitsandbytes"}}, "tensors": {
            **embedding, f"{_LINEAR}.weight": ["U8", [64, 32]], f"{_LINEAR}.weight.absmax": ["F32", [64]]}},
    )  # fmt: skip


def read(data: bytes) -> None:
    content = parse_json_object(data, "input")
    header, end = {}, 0
    tensors = content.get("tensors")
    for name, given in (tensors if isinstance(tensors, dict) else {}).items():
        dtype, shape = given if isinstance(given, list) and len(given) == 2 else ("F32", given)
        size = _BYTES.get(dtype, 1) if isinstance(dtype, str) else 1
        for length in shape if isinstance(shape, list) else ():
            size *= length if isinstance(length, int) and 0 <= length < 1000 else 1
        size = min(size, 1 << 20)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    written("folder/config.json", json.dumps(content.get("config")).encode())
    path = written("folder/model.safetensors", struct.pack("<Q", len(text)) + text + bytes(end))
    with open_checkpoint(path.parent) as checkpoint:
        for name, info in checkpoint.tensors.items():
            with contextlib.suppress(CheckpointError):
                checkpoint.rows(name, 0, min(2, info.shape[0]) if info.shape else 0)
            with contextlib.suppress(CheckpointError):
                checkpoint.quantized_format(name)
        spec = spec_from_config(checkpoint.config)
        check_tensors(checkpoint, spec)
        carried_formats(checkpoint, spec, _FORMATS)
