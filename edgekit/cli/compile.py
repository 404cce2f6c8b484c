"""``edgekit compile``: the native library and edgekit-run for another machine."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from ..deploy.targets import TARGETS, target_named
from ..units import format_bytes
from . import _options as options
from ._output import emit_json, open_screen
from ._signals import ends_cleanly

_LIST = "\n".join(["\b", "Targets:", *(f"  {target.name:<15}{target.description}" for target in TARGETS)])


@options.command(
    "edgekit compile linux-aarch64",
    "edgekit compile musl-aarch64 --out build --json",
    see_also="edgekit bundle packs what runs an artifact on a device.",
)
@click.argument("target")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("edgekit-native"),
    show_default=True,
    help="Write to a folder named after the target in this folder.",
)
@options.as_json
@ends_cleanly
def command(target: str, out: Path, as_json: bool) -> None:
    """Compile the C library and the program edgekit-run for another machine.

    Needs the extra compile: pip install "edgekit-llm[compile]". The first compilation for a target takes a few minutes.
    Files that were compiled earlier from the same sources are kept. A folder with other content is not replaced.
    """
    from ..deploy.compile import compile_native

    chosen = target_named(target)
    open_screen(err=True).say((f"compiling for {chosen.name}, which takes a few minutes the first time", "dim"))
    compiled = compile_native(chosen, out)
    files = (compiled.program, compiled.library, *compiled.headers)
    if as_json:
        sizes = [{"path": str(path), "size_bytes": path.stat().st_size} for path in files]
        emit_json({"target": chosen.name, "program": str(compiled.program), "library": str(compiled.library),
                   "files": sizes})  # fmt: skip
    else:
        for path in files:
            click.echo(f"{path}  {format_bytes(path.stat().st_size)}")


command.help = f"{inspect.cleandoc(command.help or '')}\n\n{_LIST}"  # before the list, which is not indented
