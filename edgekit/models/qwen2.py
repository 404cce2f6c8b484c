"""qwen2: Qwen2, Qwen2.5 and DeepSeek-R1-Distill-Qwen (transformers ``modeling_qwen2.py``)."""

from .spec import Family

FAMILY = Family(
    model_type="qwen2",
    qkv_bias=True,
    o_bias=False,
    mlp_bias=False,
    gguf_interleaved_qk=False,
    required={"hidden_act": "silu"},
)
