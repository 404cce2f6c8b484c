"""The options of the commands that run an artifact: which engine, and how it keeps keys and values."""

from __future__ import annotations

import click

from ..scheme import KV_TYPES

engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="native, ort (onnxruntime) or auto: ort for an artifact that is not quantized, and for one built for CUDA "
    "where onnxruntime has CUDA; native for every other.",
)
# The figures: mean KL from float16 to int8 over the first 1000 tokens, on AVX2, of three English texts (0.0045
# tests/support/prose.txt, 0.0062 README.md, 0.0073 LICENSE). Both types are as far from the float model, to 2 %.
kv_type_option = click.option(
    "--kv-type",
    type=click.Choice(KV_TYPES),
    help="Keep keys and values in this type; default: the engine's, float16 for native. int8 (native only) takes half "
    "the memory, worth it for long contexts; SmolLM2-135M's predictions moved by a mean KL of 0.005 to 0.007.",
)
