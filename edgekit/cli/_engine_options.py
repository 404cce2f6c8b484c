"""The options of the commands that run an artifact: the engine and the type of its KV cache."""

from __future__ import annotations

import click

from ..planning.engines import engine_names
from ..scheme import KV_TYPES

engine_option = click.option(
    "--engine",
    metavar="NAME",
    default="auto",
    show_default=True,
    help=f"Run with this engine: {', '.join(engine_names())}, or auto for the one that suits the artifact and this "
    "machine best.",
)
# Mean KL divergence between float16 and int8 over the first 1000 tokens of three English texts, on AVX2: 0.0045
# (tests/support/prose.txt), 0.0062 (README.md), 0.0073 (LICENSE). Both are equally far from the float model (2 %).
kv_type_option = click.option(
    "--kv-type",
    type=click.Choice(KV_TYPES),
    help="Store the KV cache in this type. int8 halves its size, which pays off for long contexts; it changes "
    "the predictions of SmolLM2-135M by a mean KL divergence of 0.005 to 0.007  [default: the engine's own, "
    "float16 for native]",
)
threads_option = click.option(
    "--threads", metavar="N", type=click.IntRange(min=1), help="Use this many threads  [default: one per physical core]"
)
