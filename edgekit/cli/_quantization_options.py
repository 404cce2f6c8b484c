"""The options that change a recipe's quantization, shared by ``plan`` and ``build``."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click

from ..errors import UsageError
from ..scheme import BITS, BLOCK_SIZES, QuantizationConfig, QuantizationScheme


@dataclass(frozen=True)
class QuantizationOptions:
    """What the command line asks for; None keeps the recipe's value.

    ``bits`` is a whole number for codes of that width inside the layers, a float for a mean over all weights.
    """

    bits: int | float | None = None
    block_size: int | None = None
    symmetric: bool | None = None
    embedding_bits: int | None = None
    lm_head_bits: int | None = None
    method: str | None = None
    rotate: bool | None = None
    scale: bool | None = None

    def apply(self, config: QuantizationConfig) -> QuantizationConfig:
        """The recipe's formats with the asked-for values in their place.

        A part the recipe keeps in float becomes quantized when its bits are given; block size and symmetry apply to
        every quantized part. Where a recipe scales or rotates and another method than its own is asked for, the
        preparation is the one that goes with that method.

        Raises:
            UsageError: A mean over all weights is asked for, and the width of one part, too.
        """
        bits, mean = (None, self.bits) if isinstance(self.bits, float) else (self.bits, None)
        if mean is not None and (self.embedding_bits is not None or self.lm_head_bits is not None):
            raise UsageError(
                f"--bits {mean:g} is a mean over all weights and chooses the widths of embedding and lm_head, too",
                hint="leave --embedding-bits and --lm-head-bits out, or give --bits 4 or 8",
            )
        if self.method not in (None, config.method) and (config.scale or config.rotate):
            # SmolLM2-135M with its outliers, mean KL as it is, scaled, rotated: rtn 0.704, 0.165, 0.469;
            # gptq on 8192 tokens 0.116, 0.085, 0.064.
            config = replace(config, scale=self.method == "rtn", rotate=self.method == "gptq")
        return replace(
            config,
            linear=self._scheme(config.linear, bits),
            embedding=self._scheme(config.embedding, self.embedding_bits),
            lm_head=self._scheme(config.lm_head, self.lm_head_bits),
            method=config.method if self.method is None else self.method,
            mean_bits=config.mean_bits if self.bits is None else mean,
            rotate=config.rotate if self.rotate is None else self.rotate,
            scale=config.scale if self.scale is None else self.scale,
        )

    def arguments(self) -> tuple[str, ...]:
        """The options as they stand on a command line."""
        flags = {None: (), True: ("--symmetric",), False: ("--asymmetric",)}
        rotations = {None: (), True: ("--rotate",), False: ("--no-rotate",)}
        scalings = {None: (), True: ("--scale",), False: ("--no-scale",)}
        numbers = {
            "--bits": self.bits,
            "--embedding-bits": self.embedding_bits,
            "--lm-head-bits": self.lm_head_bits,
            "--block-size": self.block_size,
        }
        given = (word for option, number in numbers.items() if number is not None for word in (option, f"{number}"))
        return (*given, *flags[self.symmetric], *rotations[self.rotate], *scalings[self.scale])

    def _scheme(self, scheme: QuantizationScheme | None, bits: int | None) -> QuantizationScheme | None:
        if scheme is None and bits is None:
            return None
        scheme = scheme or QuantizationScheme()
        return QuantizationScheme(
            bits=scheme.bits if bits is None else bits,
            block_size=scheme.block_size if self.block_size is None else self.block_size,
            symmetric=scheme.symmetric if self.symmetric is None else self.symmetric,
        )


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
        chosen = QuantizationOptions(bits, block_size, symmetric, embedding_bits, lm_head_bits, None, rotate, scale)
        return command(*args, quantization=chosen, **others)

    return with_options
