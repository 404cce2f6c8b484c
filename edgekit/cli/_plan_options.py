"""The options that describe what a plan is made for, shared by ``plan`` and ``build``."""

from __future__ import annotations

from collections.abc import Callable

import click

from ..planning.budget import UserLimits
from ..planning.engines import engine_names
from ..planning.plan import PROMPT_TOKENS, PlanOptions
from ..scheme import KV_TYPES
from ..units import format_plain, parse_bytes, parse_seconds, parse_token_rate
from . import _options as options


def _limit_option(
    names: tuple[str, str], unit: str, parse: Callable[[str], float], help_text: str
) -> options.Decorator:
    """An option whose value is a number above 0 with a unit, parsed by a function of ``units.py``."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            found = parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if found <= 0:
            raise click.BadParameter(f"{value!r} is not above 0")
        return found

    return click.option(*names, metavar=unit, callback=convert, help=help_text)


_LIMITS: dict[str, options.Decorator] = {
    "ttft_s": _limit_option(
        ("--max-ttft", "ttft_s"),
        "SECONDS",
        parse_seconds,
        "Require the first token within this time, such as 300ms or 2s.",
    ),
    "decode_tok_s": _limit_option(
        ("--min-decode", "decode_tok_s"),
        "TOK/S",
        parse_token_rate,
        "Require at least this many tokens per second when the context is full.",
    ),
    "memory_bytes": _limit_option(
        ("--max-memory", "memory_bytes"),
        "SIZE",
        parse_bytes,
        "Use at most this much memory, such as 2GB or 1.5GiB  [default: the device's usable memory]",
    ),
}
_OPTIONS: dict[str, options.Decorator] = {
    "limits": options.group("limits", UserLimits, _LIMITS),
    "prompt_tokens": options.count(
        "--prompt-tokens",
        f"Predict the time to the first token for a prompt of this many tokens  [default: {PROMPT_TOKENS}]",
    ),
    "power_mode": click.option(
        "--power-mode",
        metavar="NAME",
        help="Plan for this power mode of the device; edgekit devices NAME lists them  [default: full power]",
    ),
    "headless": click.option(
        "--headless",
        is_flag=True,
        help="Plan for the device without a desktop, which leaves more memory on boards that have one.",
    ),
    "engine": click.option(
        "--engine",
        type=click.Choice(engine_names()),
        help="Plan for this engine  [default: the one that suits the device best]",
    ),
    "kv_type": click.option(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        help="Plan for a KV cache of this type  [default: the engine's own, which is float16 for native, or int8 "
        "where that does not fit]",
    ),
}


def plan_arguments(wanted: PlanOptions) -> tuple[str, ...]:
    """The command-line options that stand for some options of a plan."""
    limits = wanted.limits
    valued = {
        "--engine": wanted.engine,
        "--kv-type": wanted.kv_type,
        "--power-mode": wanted.power_mode,
        "--prompt-tokens": wanted.prompt_tokens,
        "--max-ttft": None if limits.ttft_s is None else f"{format_plain(limits.ttft_s)}s",
        "--min-decode": None if limits.decode_tok_s is None else format_plain(limits.decode_tok_s),
        "--max-memory": limits.memory_bytes,
    }
    words = [word for option, value in valued.items() if value is not None for word in (option, str(value))]
    return (*words, "--headless") if wanted.headless else tuple(words)


plan_options = options.group("plan_options", PlanOptions, _OPTIONS)
