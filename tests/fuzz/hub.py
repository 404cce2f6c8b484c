"""The hub's answer about a repository, the name that a user gave, and the small files or the header of the model.

The input is a JSON object. ``gguf`` is what a repository's weight file begins with, one character for each byte.
"""

import json
from contextlib import ExitStack
from unittest import mock

import fuzz_changes
from fuzz_files import SMALL, as_json, checkpoint, scratch, written

from edgekit.build.model import find_model, open_model
from edgekit.json_file import parse_json_object
from edgekit.progress import no_progress

__all__ = ["change", "read", "seeds"]
_CODES = '{"a.qweight":{"dtype":"I32","shape":[0,1],"data_offsets":[0,0]}}'
_HEADER = chr(len(_CODES)) + "\0" * 7 + _CODES  # of a safetensors file
_FILES = ("config.json", "quantize_config.json", "tokenizer_config.json", "generation_config.json")


def seeds() -> list[bytes]:
    config = {**SMALL, "model_type": "llama", "vocab_size": 300, "rms_norm_eps": 1e-6}
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
    awq = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
    several = ["a-Q4_K_M.gguf", "a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf", "x/mmproj-F16.gguf"]
    safe = ["config.json", "model.safetensors", "tokenizer.json"]

    def about(names: list[str]) -> dict[str, object]:
        siblings = [{"rfilename": name, "size": 3, "lfs": None} for name in names]
        return {"id": "a/b", "sha": "0" * 40, "siblings": siblings, "tags": [], "private": False, "gated": False}

    return as_json(
        {"name": "a/b", "info": about(safe), "config.json": config, "tokenizer_config.json": {"eos_token": "x"}},
        {"name": "a/b@main", "info": about(safe), "config.json": {**config, "quantization_config": awq},
         "gguf": _HEADER},
        {"name": "https://hf.co/a/b/tree/main", "info": about(safe), "config.json": config,
         "quantize_config.json": gptq},
        {"name": "a/b:Q8_0", "info": about(several), "gguf": "GGUF\3\0\0\0" + "\0" * 16},
        {"name": "a/b/x/m.gguf", "info": about(["x/m.gguf"]), "gguf": "GGUF"},
        {"name": "a/b", "info": about(["adapter_config.json"]), "generation_config.json": {"eos_token_id": 1}},
    )  # fmt: skip


def change(choose, data):
    return fuzz_changes.json_change(choose, data, others=seeds())


def read(data: bytes) -> None:
    from huggingface_hub.hf_api import ModelInfo

    content = parse_json_object(data, "input")
    folder = scratch() / "hub"
    for name in _FILES:
        path = written(f"hub/{name}", json.dumps(content.get(name)).encode())
        if name not in content:
            path.unlink()
    for name in ("tokenizer.json",):
        written(f"hub/{name}", (checkpoint() / name).read_bytes())
    info, name, file = content.get("info"), content.get("name"), str(content.get("gguf", ""))
    begin = file.encode("latin-1", "replace")

    def model_info(*_: object, **__: object) -> ModelInfo:
        return ModelInfo(**info)  # type: ignore[arg-type]

    if not isinstance(name, str) or "\0" in name or name.startswith(("/", "~")) or ".." in name:
        return
    with (
        mock.patch("huggingface_hub.HfApi.model_info", model_info),
        mock.patch("edgekit.checkpoint.hub._cached_snapshot", return_value=scratch() / "missing"),
        mock.patch("edgekit.checkpoint.preview.fetch_hub_description", return_value=folder),
        mock.patch("edgekit.checkpoint.preview.fetch_hub_bytes", lambda *given: begin[given[3] : given[4]]),
        mock.patch("edgekit.checkpoint.hub_tensors.fetch_hub_bytes", lambda *given: begin[given[3] : given[4]]),
        ExitStack() as stack,
    ):
        opened = open_model(find_model(name), stack, no_progress)
        if opened.checkpoint is not None:
            opened.checkpoint.quantized_format("model.layers.0.mlp.down_proj.weight")
