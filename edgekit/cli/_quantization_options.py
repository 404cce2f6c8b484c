"""The options that change a recipe's quantization, shared by ``plan`` and ``build``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click

from ..scheme import BITS, BLOCK_SIZES, QuantizationConfig, QuantizationScheme


@dataclass(frozen=True)
class QuantizationOptions:
    """What the command line asks for; None keeps the recipe's value."""

    bits: int | None = None
    block_size: int | None = None
    symmetric: bool | None = None
    embedding_bits: int | None = None
    lm_head_bits: int | None = None
    method: str | None = None

    def apply(self, config: QuantizationConfig) -> QuantizationConfig:
        """The recipe's formats with the asked-for values in their place.

        A part the recipe keeps in float becomes quantized when its bits are given; block size and symmetry apply to
        every quantized part.
        """
        return replace(
            config,
            linear=self._scheme(config.linear, self.bits),
            embedding=self._scheme(config.embedding, self.embedding_bits),
            lm_head=self._scheme(config.lm_head, self.lm_head_bits),
            method=config.method if self.method is None else self.method,
        )

    def arguments(self) -> tuple[str, ...]:
        """The options as they stand on a command line."""
        flags = {None: (), True: ("--symmetric",), False: ("--asymmetric",)}
        numbers = {
            "--bits": self.bits,
            "--embedding-bits": self.embedding_bits,
            "--lm-head-bits": self.lm_head_bits,
            "--block-size": self.block_size,
        }
        given = (word for option, number in numbers.items() if number is not None for word in (option, str(number)))
        return (*given, *flags[self.symmetric])

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


def quantization_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a click command; it receives them as one argument, ``quantization``."""

    @_number_option("--bits", BITS, "Bits of the layers' weights, instead of the recipe's.")
    @_number_option("--block-size", BLOCK_SIZES, "How many weights share a scale, in every quantized part.")
    @click.option(
        "--symmetric/--asymmetric",
        default=None,
        help="Without or with a zero point per block, in every quantized part.",
    )
    @_number_option("--embedding-bits", BITS, "Bits of the token embedding.")
    @_number_option("--lm-head-bits", BITS, "Bits of the output projection.")
    @functools.wraps(command)
    def with_options(
        *args: Any,
        bits: int | None,
        block_size: int | None,
        symmetric: bool | None,
        embedding_bits: int | None,
        lm_head_bits: int | None,
        **others: Any,
    ) -> Any:
        chosen = QuantizationOptions(bits, block_size, symmetric, embedding_bits, lm_head_bits)
        return command(*args, quantization=chosen, **others)

    return with_options
