"""The options that say what a plan is made for, shared by ``plan`` and ``build``."""

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
    """Text with a unit, read by a function of ``units.py``."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return float(value)
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_OPTIONS = (
    click.option(
        "--max-ttft",
        type=_Quantity("SECONDS", parse_seconds),
        help="Most time to the first token, such as 300ms or 2s.",
    ),
    click.option(
        "--min-decode",
        type=_Quantity("TOK/S", parse_token_rate),
        help="Least tokens per second, at the end of the context.",
    ),
    click.option(
        "--max-memory", type=_Quantity("SIZE", parse_bytes), help="Most memory to take, such as 2GB or 1.5GiB."
    ),
    click.option(
        "--prompt-tokens",
        type=click.IntRange(min=1),
        default=PROMPT_TOKENS,
        show_default=True,
        help="Length of the prompt before the first token.",
    ),
    click.option("--power-mode", help="The device's power mode to plan for [default: full power]."),
)
_ENGINE_OPTIONS = (
    click.option(
        "--engine", type=click.Choice(engine_names()), help="Engine to plan for [default: ort with CUDA, else native]."
    ),
    click.option(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        help="What keys and values are kept in [default: the engine's, float16 for native].",
    ),
)


def plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as ``options``, a :class:`~edgekit.planning.plan.PlanOptions`."""

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
        try:
            wanted = Wanted(max_ttft, min_decode, None if max_memory is None else round(max_memory))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        options = PlanOptions(engine, kv_type, prompt_tokens, power_mode, wanted)
        return function(*arguments, options=options, **others)

    for option in reversed((*_OPTIONS, *_ENGINE_OPTIONS)):
        command = option(command)
    return command
