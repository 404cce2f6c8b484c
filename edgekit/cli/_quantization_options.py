"""The options that change a recipe's quantization, shared by ``plan`` and ``build``."""

from __future__ import annotations

import math

import click

from ..scheme import BITS, BLOCK_SIZES, QuantizationOverrides
from . import _options as options

_NEGATIVES = {"--symmetric": "--asymmetric", "--rotate": "--no-rotate", "--scale": "--no-scale"}


def quantization_arguments(overrides: QuantizationOverrides) -> tuple[str, ...]:
    """The command-line options that stand for some overrides."""
    words: list[str] = []
    for name, value in vars(overrides).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else _NEGATIVES[option])
        elif value is not None:
            words += [option, str(value)]
    return tuple(words)


def _number_option(name: str, allowed: tuple[int, ...], help_text: str) -> options.Decorator:
    """An option whose value is one of a few whole numbers."""

    def to_int(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
        return None if value is None else int(value)

    choice = click.Choice([str(n) for n in allowed])
    return click.option(name, type=choice, callback=to_int, help=f"{help_text}  [default: the recipe's]")


def _switch_option(names: str, help_text: str) -> options.Decorator:
    """A pair of flags that keeps the recipe's value when neither is given."""
    return click.option(names, default=None, help=f"{help_text}  [default: the recipe's]")


def _bits(ctx: click.Context, param: click.Parameter, value: str | None) -> int | float | None:
    """Parse ``--bits``: an int for a width of codes, a float for a mean over all weights."""
    if value is None:
        return None
    if value in [str(n) for n in BITS]:
        return int(value)
    try:
        mean = float(value)
    except ValueError:
        mean = math.nan
    if not math.isfinite(mean):
        raise click.BadParameter(f"{value!r} is not a number; give 4 or 8, or a mean such as 4.8")
    return mean


# By the fields of QuantizationOverrides.
QUANTIZATION_OPTIONS: dict[str, options.Decorator] = {
    "bits": click.option(
        "--bits",
        metavar="NUMBER",
        callback=_bits,
        help="Store the layers in 4 or 8 bits. A number in between, such as 5.2, is a mean in bits per weight over "
        "the whole model, scales included: build measures the error of each matrix in 4 bits and stores those "
        "that have the largest error for their size in 8  [default: the recipe's]",
    ),
    "block_size": _number_option(
        "--block-size", BLOCK_SIZES, "Share a scale among this many weights, in all quantized parts"
    ),
    "symmetric": _switch_option(
        "--symmetric/--asymmetric", "Quantize without or with a zero point per block, in all quantized parts"
    ),
    "embedding_bits": _number_option("--embedding-bits", BITS, "Store the token embedding in 4 or 8 bits"),
    "lm_head_bits": _number_option("--lm-head-bits", BITS, "Store the output projection in 4 or 8 bits"),
    "rotate": _switch_option(
        "--rotate/--no-rotate",
        "Rotate weights and hidden states before quantization, which removes outliers and so reduces the error. "
        "Speed stays the same. A model that shares one matrix between embedding and lm_head gets two, which takes "
        "more memory",
    ),
    "scale": _switch_option(
        "--scale/--no-scale",
        "Scale the input features of each matrix by their activations before rounding, so that important features "
        "are rounded more finely. Speed and size stay the same; build runs the float model on a few hundred tokens",
    ),
}
