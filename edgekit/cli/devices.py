"""``edgekit devices``: what can be built for, and where every number is from."""

from __future__ import annotations

from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..devices import DeviceProfile, device_names, load_device
from ..devices.registry import library
from ..errors import DeviceProfileError
from ..units import format_bytes
from ._output import emit_json, json_option, stdout_console


@click.command()
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the devices, or show one with the source of each number.

    NAME is a device, an alias (jetson, phone, pi, laptop, cpu) or a .toml file.
    """
    if name is not None:
        profile = load_device(name)
        if as_json:
            emit_json(profile.to_json())
        else:
            _print_one(profile, stdout_console())
        return
    found = [_load(entry) for entry in device_names()]
    if as_json:
        emit_json({"devices": [p.to_json() if isinstance(p, DeviceProfile) else p for p in found]})
        return
    _print_all(found, stdout_console())


def _load(name: str) -> DeviceProfile | dict[str, str]:
    """A device, or why there is none: a host that cannot be probed must not hide the others."""
    try:
        return load_device(library() / f"{name}.toml")
    except DeviceProfileError as error:
        return {"name": name, "error": error.message}


def _print_all(found: list[DeviceProfile | dict[str, str]], console: Console) -> None:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("device", style="bold", no_wrap=True)
    table.add_column("alias", no_wrap=True)
    table.add_column("what", ratio=1)
    for heading in ("memory", "usable", "bandwidth"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("runs on", no_wrap=True)
    for p in found:
        if not isinstance(p, DeviceProfile):
            table.add_row(escape(p["name"]), "", f"[red]{escape(p['error'])}[/]", "", "", "", "")
            continue
        bandwidth = p.bandwidth.sustained or p.bandwidth.theoretical
        table.add_row(
            escape(p.name),
            escape(", ".join(p.aliases)),
            escape(p.title),
            format_bytes(p.total_bytes),
            format_bytes(p.usable_bytes),
            f"{bandwidth.value:g} GB/s" if bandwidth else "unknown",
            f"{p.execution_providers[0].removesuffix('ExecutionProvider')}, {p.activation_type}",
        )
    console.print(table)
    console.print(
        "[dim]bandwidth is what was measured, else what the memory is specified for; edgekit devices NAME says which[/]"
    )


def _print_one(profile: DeviceProfile, console: Console) -> None:
    alias = f" ({', '.join(profile.aliases)})" if profile.aliases else ""
    console.print(f"[bold]{escape(profile.title)}[/]: {escape(profile.name + alias)}, {escape(profile.os)}")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in profile.execution_providers)
    console.print(f"[dim]onnxruntime providers: {providers}; activations {profile.activation_type}[/]")
    if profile.notes:
        console.print(escape(profile.notes.strip()))
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("value", ratio=2)
    table.add_column("source", ratio=3, overflow="fold")
    for key, figure in profile.sourced():
        source = escape(figure.source) if figure.verified else f"[yellow]{escape(figure.source)}[/]"
        note = f"\n[dim]{escape(figure.note)}[/]" if figure.note else ""
        table.add_row(escape(key), escape(_show(key, figure.value)), source + note)
    console.print(table)


def _show(key: str, value: Any) -> str:
    """A value with its unit, which its key tells."""
    part, _, field = key.rpartition(".")
    if part == "memory" or key == "accelerator.runtime":
        return format_bytes(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    units = {"read_mb_s": "MB/s", "watts": "W", "ttft_s": "s", "decode_tok_s": "tok/s", "int8_tops_dense": "TOPS"}
    unit = "GB/s" if part == "bandwidth" else "tokens" if key == "context" else units.get(field, "")
    return f"{value:g} {unit}".strip() if isinstance(value, (int, float)) else str(value)
