"""Arguments and options that several commands share, and functions that declare more of their kind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..devices import DeviceProfile, load_device
from ..output_file import output_problem
from ..planning.engines import engine_names
from ..planning.kv_choice import cost
from ..scheme import KV_TYPES
from ..units import parse_bytes

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def command(*examples: str, see_also: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command whose help ends with examples and related commands."""
    heading = "Examples:" if len(examples) > 1 else "Example:"
    lines = "\n".join(["\b", heading, *(f"  {example}" for example in examples)])  # \b: click keeps the lines
    return click.command(epilog=f"{lines}\n\nSee also: {see_also}")


def count(
    name: str, help_text: str, default: int | None = None, *, metavar: str = "TOKENS", least: int = 1
) -> Decorator:
    """An option that takes a whole number. The help shows the default if there is one."""
    kind, shown = click.IntRange(min=least), default is not None
    return click.option(name, metavar=metavar, type=kind, default=default, show_default=shown, help=help_text)


def size(name: str, help_text: str) -> Decorator:
    """An option that takes a number of bytes, such as ``2GB``."""

    def parse(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
        try:
            return None if text is None else parse_bytes(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return click.option(name, metavar="SIZE", callback=parse, help=help_text)


def group(argument: str, make: Callable[..., Any], options: dict[str, Decorator]) -> Decorator:
    """Several options that a command receives as one value.

    Args:
        argument: The name by which the command receives the value.
        make: Makes the value; called with the value of each option by its name.
        options: The options by the names of their values, in the order of the help.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_group(**values: Any) -> Any:
            made = make(**{name: values.pop(name) for name in options})
            return function(**{argument: made}, **values)

        decorated: Callable[..., Any] = with_group
        for option in reversed(options.values()):
            decorated = option(decorated)
        return decorated

    return decorate


class OutputFile(click.ParamType):  # type: ignore[type-arg]
    """A file that a command writes; see ``output_file.py``. One that cannot be written is refused before any work."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if (problem := output_problem(path)) is not None:
            self.fail(f"cannot write {path}: {problem}", param, ctx)
        return path


def device(help_text: str, *, required: bool = False) -> Decorator:
    """``--device NAME``, which gives the command a profile."""

    def load(ctx: click.Context, param: click.Parameter, name: str | None) -> DeviceProfile | None:
        return None if name is None else load_device(name)

    return click.option("--device", metavar="NAME", required=required, callback=load, help=help_text)


def lora(help_text: str) -> Decorator:
    """``--lora FOLDER``, which may be given several times."""
    more = "A PEFT folder or a Hugging Face repository (owner/name); may be given several times."
    return click.option("--lora", metavar="FOLDER", multiple=True, help=f"{help_text} {more}")


artifact = click.argument("artifact", type=click.Path(path_type=Path))
expect = click.option(
    "--expect", metavar="DIGEST", help="Require this digest, as printed by edgekit build and edgekit verify."
)


def public_key(help_text: str) -> Decorator:
    """``--public-key KEY``."""
    more = "a PEM file, or 64 hexadecimal digits. Needs the extra sign."
    return click.option("--public-key", metavar="KEY", help=f"{help_text}: {more}")


def sign(help_text: str) -> Decorator:
    """``--sign KEY``."""
    more = "the PEM file of an Ed25519 key; see edgekit keygen. Needs the extra sign."
    return click.option("--sign", metavar="KEY", type=click.Path(), help=f"{help_text} with this private key: {more}")


as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout.")
engine = click.option(
    "--engine",
    metavar="NAME",
    default="auto",
    show_default=True,
    help=f"Run with this engine: {', '.join(engine_names())}, or auto for the one that suits the artifact and this "
    "machine best.",
)
kv_type = click.option(
    "--kv-type",
    type=click.Choice(KV_TYPES),
    help="Store the KV cache in this type. int8 halves its size, which pays off for long contexts; "
    f"{cost('int8')}  [default: as planned: int8 where float16 would not fit the device; otherwise the engine's own, "
    "which is float16 for native]",
)
threads = count("--threads", "Use this many threads  [default: one per physical core]", metavar="N")
