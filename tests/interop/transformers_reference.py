"""Writes tiny random checkpoints and the logits that transformers computes for them. Runs in the interop environment.

    python transformers_reference.py OUT_DIR

Writes OUT_DIR/<case>/ (config.json, model.safetensors) and OUT_DIR/<case>.npz (ids, logits) for every case.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
# heads, kv heads, head_dim, hidden, ffn, layers, vocab, tied, further config
SHAPES = {
    "mha": (4, 4, 16, 64, 128, 2, 97, False, {}),
    "gqa2": (4, 2, 16, 64, 96, 2, 131, True, {}),
    "gqa3": (9, 3, 16, 144, 200, 2, 64, True, {"rope_theta": 100000.0}),
    "mqa": (6, 1, 32, 192, 256, 1, 100, False, {}),
    "wide_heads": (2, 1, 64, 80, 112, 2, 90, False, {}),
    "narrow_heads": (4, 2, 16, 96, 64, 3, 77, True, {}),
    "odd_hidden": (3, 1, 32, 77, 131, 2, 101, False, {}),
    "odd_ffn": (2, 2, 48, 96, 83, 2, 55, True, {}),
    "deep": (2, 1, 16, 32, 40, 6, 61, False, {}),
    "linear_rope": (4, 2, 32, 128, 96, 2, 88, False, {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "dynamic_rope": (4, 2, 32, 128, 96, 2, 88, True, {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}),
    "yarn": (4, 2, 64, 96, 96, 2, 88, False, {"rope_scaling": YARN, "rope_theta": 1000000.0}),
    "yarn_whole_range": (4, 2, 32, 128, 96, 2, 88, True, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
    "yarn_untruncated": (3, 1, 32, 128, 96, 2, 88, False, {"rope_scaling": {
        **YARN, "truncate": False, "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 1.0, "mscale_all_dim": 0.5}}),
    "attention_factor": (4, 1, 32, 128, 96, 2, 88, False, {"rope_scaling": {**YARN, "attention_factor": 1.5}}),
    "long_theta": (4, 2, 32, 128, 96, 2, 88, True, {"rope_theta": 1000000.0, "rms_norm_eps": 1e-5}),
    "one_layer": (1, 1, 16, 16, 24, 1, 33, True, {}),
    "llama3_rope": (4, 2, 32, 128, 96, 2, 88, False, {"rope_scaling": LLAMA3, "rope_theta": 500000.0}),
    "llama3_rope_32": (4, 2, 32, 128, 96, 2, 88, True, {
        "rope_scaling": {**LLAMA3, "factor": 32.0}, "rope_theta": 500000.0, "rms_norm_eps": 1e-5}),
    # The factor that DeepSeek's attn_factor means, under the name that transformers reads; see `main`.
    "attn_factor": (4, 2, 64, 96, 96, 2, 88, False, {"rope_scaling": {**YARN, "attention_factor": 1.0}}),
}  # fmt: skip
BIASES = {
    "llama": (4, 2, 16, 64, 96, 2, 71, False, {"attention_bias": True, "mlp_bias": True}),
    "qwen3": (4, 2, 16, 64, 96, 2, 71, False, {"attention_bias": True}),
}


def make(family: str, shape: tuple, seed: int) -> torch.nn.Module:
    heads, kv_heads, head_dim, hidden, ffn, layers, vocab, tied, more = shape
    config_class, model_class = CLASSES[family]
    config = config_class(
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim, hidden_size=hidden,
        intermediate_size=ffn, num_hidden_layers=layers, vocab_size=vocab, tie_word_embeddings=tied,
        max_position_embeddings=256, bos_token_id=1, eos_token_id=2, **more,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.3 if "bias" in name else 0.2
            parameter.copy_(torch.randn_like(parameter) * scale + (1.0 if "norm" in name else 0.0))
    return model


def main() -> None:
    out = Path(sys.argv[1])
    cases = {f"{f}-{name}": (f, s) for f in CLASSES for name, s in SHAPES.items()}
    cases |= {f"{family}-biases": (family, s) for family, s in BIASES.items()}
    for seed, (case, (family, shape)) in enumerate(sorted(cases.items())):
        model = make(family, shape, seed)
        ids = torch.randint(0, shape[6], (1, 70), generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            logits = model(ids).logits
        model.save_pretrained(out / case)
        if case.endswith("-attn_factor"):
            path = out / case / "config.json"
            config = json.loads(path.read_text())
            del config["rope_scaling"]["attention_factor"]
            config["rope_scaling"]["attn_factor"] = 0.8782488562869419
            path.write_text(json.dumps(config))
        np.savez(out / f"{case}.npz", ids=ids.numpy(), logits=logits.numpy())


main()
