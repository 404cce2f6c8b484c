"""What the models are that edgekit has no family for, so that an error can say why they are not supported."""

from __future__ import annotations

import re

_EXPERTS = (
    "mixtral qwen2_moe qwen2moe qwen3_moe qwen3moe qwen3_next deepseek_v2 deepseek_v3 deepseek2 deepseek granitemoe "
    "olmoe gpt_oss gpt-oss llama4 phimoe jamba dbrx glm4_moe glm4moe ernie4_5_moe hunyuan_v1_moe minimax kimi_k2 grok "
    "nemotron_h arctic bailing_moe"
)
_IMAGES = (
    "llava llava_next llava_onevision qwen2_vl qwen2vl qwen2_5_vl qwen3_vl mllama gemma3 gemma3n paligemma idefics "
    "idefics2 idefics3 smolvlm pixtral mistral3 internvl internvl_chat internlmxcomposer2 phi3_v phi4_multimodal "
    "phi4mm minicpmv minicpmo deepseek_vl deepseek_vl_v2 janus multi_modality kimi_vl chameleon fuyu blip-2 "
    "instructblip qwen2_audio qwen2_5_omni ultravox voxtral cogvlm2 molmo aria ovis clip"
)
_ENCODERS = (
    "bert roberta xlm-roberta deberta deberta-v2 distilbert albert electra modernbert nomic_bert nomic-bert mpnet "
    "camembert xlnet jina-bert-v2 new gte esm layoutlm funnel convbert longformer big_bird"
)
_TO_SEQUENCES = (
    "t5 mt5 umt5 bart mbart pegasus pegasus_x m2m_100 marian fsmt led bigbird_pegasus blenderbot prophetnet "
    "encoder-decoder switch_transformers longt5 t5gemma nllb-moe"
)
_SPEECH = "whisper wav2vec2 hubert speecht5 seamless_m4t seamless_m4t_v2 moonshine musicgen bark parler_tts csm"
_STATES = "mamba mamba2 falcon_mamba rwkv rwkv5 rwkv6 rwkv7 zamba zamba2 recurrent_gemma bamba lfm2 plamo2"
_PICTURES = "vit deit swin beit dinov2 convnext siglip resnet detr segformer stable-diffusion sam"
KINDS: dict[str, str] = {
    name: kind
    for kind, names in (
        ("a mixture of experts", _EXPERTS),
        ("a model for text with images or sound", _IMAGES),
        ("an encoder, which does not write text", _ENCODERS),
        ("an encoder with a decoder (sequence to sequence)", _TO_SEQUENCES),
        ("a model for speech or music", _SPEECH),
        ("a model with recurrent states", _STATES),
        ("a model for images", _PICTURES),
    )
    for name in names.split()
}


def kind_of(model_type: str) -> str:
    """What a model is that edgekit does not support, if that is the reason; empty for a dense decoder.

    Args:
        model_type: ``model_type`` of ``config.json``, or the architecture of a GGUF file.
    """
    name = model_type.lower()
    if found := KINDS.get(name):
        return found
    if re.search(r"moe(_|$)", name):
        return "a mixture of experts"
    if re.search(r"(^|_)(vl|vlm|vision|audio|omni|multimodal)(_|$)", name):
        return "a model for text with images or sound"
    return "an encoder, which does not write text" if name.endswith("bert") else ""
