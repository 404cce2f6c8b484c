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
    """An option whose value is one of some whole numbers."""

    def to_int(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
        return None if value is None else int(value)

    return click.option(name, type=click.Choice([str(n) for n in allowed]), callback=to_int, help=help_text)


class _Bits(click.ParamType[int | float]):
    """4 or 8, or any other number: a mean."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """The option's text as a number; a whole one that is a code's width stays whole."""
        if value in [str(n) for n in BITS]:
            return int(value)
        try:
            mean = float(value)
        except ValueError:
            mean = math.nan
        if not math.isfinite(mean):
            self.fail(f"{value!r} is no number: 4 or 8, or a mean such as 4.8", param, ctx)
        return mean


def quantization_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a click command; it receives them as one argument, ``quantization``."""

    @click.option(
        "--bits",
        type=_Bits(),
        help="4 or 8: bits of the layers' weights, instead of the recipe's. Any number between, such as 5.2: so many "
        "on average over all tensors, scales included; build measures what each matrix loses in 4 bits, and gives 8 to "
        "those that lose most for their size.",
    )
    @_number_option("--block-size", BLOCK_SIZES, "How many weights share a scale, in every quantized part.")
    @click.option(
        "--symmetric/--asymmetric",
        default=None,
        help="Without or with a zero point per block, in every quantized part.",
    )
    @_number_option("--embedding-bits", BITS, "Bits of the token embedding.")
    @_number_option("--lm-head-bits", BITS, "Bits of the output projection.")
    @click.option(
        "--rotate/--no-rotate",
        default=None,
        help="Quantize in another basis, in which neither weights nor hidden states have outliers: less is lost, and "
        "nothing is slower. A model whose embedding is its lm_head, too, then has a table for each.",
    )
    @click.option(
        "--scale/--no-scale",
        default=None,
        help="Scale each input feature by what it carries, before rounding: what matters more is rounded more finely. "
        "Takes a reading of the float model on a few hundred tokens; nothing is slower or larger.",
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
