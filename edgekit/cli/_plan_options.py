"""The options that describe what a plan is made for, shared by ``plan`` and ``build``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from ..planning.budget import Wanted
from ..planning.engines import engine_names
from ..planning.plan import PROMPT_TOKENS, PlanOptions
from ..scheme import KV_TYPES
from ..units import parse_bytes, parse_seconds, parse_token_rate


class _Quantity(click.ParamType[float]):
    """A number with a unit, parsed by a function of ``units.py``."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return float(value)
        try:
            found = self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found <= 0:
            self.fail(f"{value!r} is not above 0", param, ctx)
        return found


_OPTIONS = (
    click.option(
        "--max-ttft",
        type=_Quantity("SECONDS", parse_seconds),
        help="Require the first token within this time, such as 300ms or 2s.",
    ),
    click.option(
        "--min-decode",
        type=_Quantity("TOK/S", parse_token_rate),
        help="Require at least this many tokens per second when the context is full.",
    ),
    click.option(
        "--max-memory",
        type=_Quantity("SIZE", parse_bytes),
        help="Use at most this much memory, such as 2GB or 1.5GiB  [default: the device's usable memory]",
    ),
    click.option(
        "--prompt-tokens",
        metavar="TOKENS",
        type=click.IntRange(min=1),
        default=PROMPT_TOKENS,
        show_default=True,
        help="Predict the time to the first token for a prompt of this many tokens.",
    ),
    click.option(
        "--power-mode",
        metavar="NAME",
        help="Plan for this power mode of the device; edgekit devices NAME lists them  [default: full power]",
    ),
    click.option(
        "--engine",
        type=click.Choice(engine_names()),
        help="Plan for this engine  [default: the one that suits the device best]",
    ),
    click.option(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        help="Plan for a KV cache of this type  [default: the engine's own, float16 for native]",
    ),
)


def plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a click command, which receives them as ``options``."""

    @functools.wraps(function)
    def command(
        *arguments: Any,
        max_ttft: float | None,
        min_decode: float | None,
        max_memory: float | None,
        prompt_tokens: int,
        power_mode: str | None,
        engine: str | None,
        kv_type: str | None,
        **others: Any,
    ) -> Any:
        wanted = Wanted(max_ttft, min_decode, None if max_memory is None else round(max_memory))
        options = PlanOptions(engine, kv_type, prompt_tokens, power_mode, wanted)
        return function(*arguments, options=options, **others)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command
