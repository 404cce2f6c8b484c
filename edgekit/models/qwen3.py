"""qwen3: Qwen3 and DeepSeek-R1-0528-Qwen3 (transformers ``modeling_qwen3.py``)."""

from .spec import Family

FAMILY = Family(
    model_type="qwen3",
    qkv_bias="attention_bias",
    o_bias="attention_bias",
    mlp_bias=False,
    gguf_interleaved_qk=False,
    qk_norm=True,
    head_dim=128,
    required={"hidden_act": "silu"},
)
