"""The options that change a recipe's quantization, shared by ``plan`` and ``build``."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import click

from ..scheme import BITS, BLOCK_SIZES, QuantizationOverrides


def quantization_arguments(overrides: QuantizationOverrides) -> tuple[str, ...]:
    """The command-line options that stand for some overrides."""
    flags = {None: (), True: ("--symmetric",), False: ("--asymmetric",)}
    rotations = {None: (), True: ("--rotate",), False: ("--no-rotate",)}
    scalings = {None: (), True: ("--scale",), False: ("--no-scale",)}
    numbers = {
        "--bits": overrides.bits,
        "--embedding-bits": overrides.embedding_bits,
        "--lm-head-bits": overrides.lm_head_bits,
        "--block-size": overrides.block_size,
    }
    given = (word for option, number in numbers.items() if number is not None for word in (option, f"{number}"))
    return (*given, *flags[overrides.symmetric], *rotations[overrides.rotate], *scalings[overrides.scale])


def _number_option(
    name: str, allowed: tuple[int, ...], help_text: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option whose value is one of a few whole numbers."""

    def to_int(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
        return None if value is None else int(value)

    return click.option(name, type=click.Choice([str(n) for n in allowed]), callback=to_int, help=help_text)


class _Bits(click.ParamType[int | float]):
    """4 or 8 bits, or any other number as a mean over all weights."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """Parse the option: an int for a width of codes, a float for a mean."""
        if value in [str(n) for n in BITS]:
            return int(value)
        try:
            mean = float(value)
        except ValueError:
            mean = math.nan
        if not math.isfinite(mean):
            self.fail(f"{value!r} is not a number; give 4 or 8, or a mean such as 4.8", param, ctx)
        return mean


def quantization_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a click command, which receives them as ``quantization``."""

    @click.option(
        "--bits",
        type=_Bits(),
        help="Store the layers in 4 or 8 bits. A number between, such as 5.2, is a mean in bits per weight over the "
        "whole model, scales included: build measures the error of each matrix in 4 bits and stores those with "
        "the largest error for their size in 8  [default: the recipe's]",
    )
    @_number_option(
        "--block-size",
        BLOCK_SIZES,
        "Share a scale among this many weights, in all quantized parts  [default: the recipe's]",
    )
    @click.option(
        "--symmetric/--asymmetric",
        default=None,
        help="Quantize without or with a zero point per block, in all quantized parts  [default: the recipe's]",
    )
    @_number_option("--embedding-bits", BITS, "Store the token embedding in 4 or 8 bits  [default: the recipe's]")
    @_number_option("--lm-head-bits", BITS, "Store the output projection in 4 or 8 bits  [default: the recipe's]")
    @click.option(
        "--rotate/--no-rotate",
        default=None,
        help="Rotate weights and hidden states before quantization, which removes outliers and so reduces the error. "
        "Speed stays the same. A model that shares one matrix between embedding and lm_head gets two, which takes "
        "more memory  [default: the recipe's]",
    )
    @click.option(
        "--scale/--no-scale",
        default=None,
        help="Scale the input features of each matrix by their activations before rounding, so that important "
        "features are rounded more finely. Speed and size stay the same; build runs the float model on a few "
        "hundred tokens  [default: the recipe's]",
    )
    @functools.wraps(command)
    def with_options(
        *args: Any,
        bits: int | float | None,
        block_size: int | None,
        symmetric: bool | None,
        embedding_bits: int | None,
        lm_head_bits: int | None,
        rotate: bool | None,
        scale: bool | None,
        **others: Any,
    ) -> Any:
        chosen = QuantizationOverrides(bits, block_size, symmetric, embedding_bits, lm_head_bits, None, rotate, scale)
        return command(*args, quantization=chosen, **others)

    return with_options
