"""What tensors are for which a model has no place, by their names. ``tensors.py`` applies these rules.

Without the tensors of ``LEFT_OUT`` the model computes the same text; those of ``REFUSED`` belong to another function.
"""

from __future__ import annotations

from dataclasses import dataclass

# Computed from config.json, or masks that say which positions are later than others.
SILENT = r"(.*\.)?(rotary_emb\.(inv_freq|cos_cached|sin_cached)|attn_rot_embd\.weight|masked_bias|position_ids)"
MASK = r"(.*\.)?(attn|self_attn)\.(bias|causal_mask)"  # a matrix, unlike the biases of linears


@dataclass(frozen=True)
class Rule:
    """What tensors with certain names are.

    Args:
        names: A regular expression for the whole name, in either container.
        what: What they are: "a vision tower". For refused tensors, it completes "holds 3 tensors of ...".
        hint: The next step, for refused tensors.
    """

    names: str
    what: str
    hint: str = ""


LEFT_OUT = (
    Rule(
        r"(model\.)?mtp(_layers?)?\..*|.*\.(eh_proj|enorm|hnorm|shared_head\..*)(\.weight)?|.*\.nextn\..*",
        "a head that predicts several tokens",
    ),
    Rule(
        r"(model\.)?(vision|visual|audio|multi_modal_projector|mm_projector|image_newline|resampler|vpm|apm)[\w.]*"
        r"|(v|a|mm)\.\w+.*",
        "a part for images or sound",
    ),
    Rule(r"(v_head|value_head)\..*", "a value head, which only training uses"),
    Rule(r"(medusa|eagle|draft)\w*\..*", "a head for speculative decoding"),
    Rule(r".*\.([qkv]|kv|prob)_scale|.*_proj\.(input|output)_scale", "scales for a KV cache or activations in 8 bits"),
)
_WRONG_TYPE = "config.json names the wrong model_type"
MERGE = "merge it with --lora FOLDER, or with peft: model.merge_and_unload()"
REFUSED = (
    Rule(
        r".*\.(lora_\w+|base_layer|hada_\w+|oft_\w+|ia3_\w+|modules_to_save|original_module)(\..*)?",
        "an adapter that is not merged into the weights",
        MERGE,
    ),
    Rule(r"(.*\.)?(prompt_embeddings|prompt_encoder\..*)", "a trained prompt", "edgekit does not read trained prompts"),
    Rule(
        r".*\.(q_norm|k_norm|q_layernorm|k_layernorm|attn_q_norm|attn_k_norm|query_layernorm|key_layernorm)\.\w+",
        "norms of queries and keys",
        f"{_WRONG_TYPE}: qwen3, for example, has such norms",
    ),
    Rule(
        r".*\.(pre_feedforward_layernorm|post_feedforward_layernorm|post_attention_norm|post_ffw_norm|attn_sub_norm"
        r"|ffn_sub_norm|attn_output_norm)\.\w+",
        "norms after attention and MLP",
        f"{_WRONG_TYPE}: gemma2, for example, has such norms",
    ),
    Rule(
        r".*(\.|_)(experts?|shared_experts?|block_sparse_moe|gate_exps|ffn_gate_inp|up_exps|down_exps|shexp)(\.|_).*"
        r"|.*\.mlp\.gate\.weight|.*\.router\..*|.*_(exps|shexp)\.weight",
        "a mixture of experts",
        "edgekit supports dense models; config.json names the wrong model_type",
    ),
    Rule(
        r"(score|classifier|classification_head|cls|regression_head)(\..*)?",
        "a classifier",
        "edgekit supports models that write text (ForCausalLM)",
    ),
    Rule(r".*\.(self_attn|attn)\.sinks|.*\.attn_sinks(\.weight)?", "attention sinks", _WRONG_TYPE),
    Rule(
        r"rope_factors_(long|short)\.weight",
        "rotary factors for long and short texts (longrope)",
        "edgekit does not support this rope scaling",
    ),
    Rule(
        r"(.*\.)?(wpe|position_embd|embed_positions|position_embeddings)(\.weight)?", "learned positions", _WRONG_TYPE
    ),
    Rule(
        r".*\.(weight_scale|weight_scale_inv|weight_zero_point|input_scale|scales|qzeros|g_idx|scale)",
        "scales of quantized weights, though the weights are float",
        "if the weights were converted back to float, save them again without their scales",
    ),
)
