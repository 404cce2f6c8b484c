"""llama: Llama 2 and 3, SmolLM2, and DeepSeek-R1-Distill-Llama (transformers ``modeling_llama.py``)."""

from .spec import Family

FAMILY = Family(
    model_type="llama",
    qkv_bias="attention_bias",
    o_bias="attention_bias",
    mlp_bias="mlp_bias",
    gguf_interleaved_qk=True,
    required={"hidden_act": "silu"},
)
