"""``edgekit devices``: what can be built for, and where every number is from."""

from __future__ import annotations

from typing import Any

import click

from ..devices import DeviceProfile, device_names, load_device
from ..devices.registry import device_file
from ..errors import DeviceProfileError
from ..units import format_bytes
from ._output import emit_json, json_option, print_table, say, show
from ._table import Column

# How a field's name ends, and what it then is in.
_UNITS = {
    "gmac_s": "Gmac/s", "gb_s": "GB/s", "mb_s": "MB/s", "tok_s": "tok/s", "ghz": "GHz", "_us": "µs", "ttft_s": "s",
    "watts": "W", "tops_dense": "TOPS",
}  # fmt: skip


@click.command()
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the devices, or show one with the source of each number.

    NAME is a device, an alias (jetson, phone, pi, laptop, cpu) or a .toml file. Your own are listed too when they
    lie in ~/.config/edgekit/devices ($XDG_CONFIG_HOME/edgekit/devices).
    """
    if name is not None:
        profile = load_device(name)
        if as_json:
            emit_json(profile.to_json())
        else:
            _print_one(profile)
        return
    found = [_load(entry) for entry in device_names()]
    if as_json:
        emit_json({"devices": [p.to_json() if isinstance(p, DeviceProfile) else p for p in found]})
        return
    _print_all(found)


def _load(name: str) -> DeviceProfile | dict[str, str]:
    """A device, or why there is none: a host that cannot be probed must not hide the others."""
    try:
        return load_device(device_file(name))
    except DeviceProfileError as error:
        return {"name": name, "error": error.message}


def _print_all(found: list[DeviceProfile | dict[str, str]]) -> None:
    columns = (
        Column("device"),
        Column("alias"),
        Column("what", wraps=True),
        *(Column(heading, right=True) for heading in ("memory", "usable", "bandwidth")),
        Column("runs on", wraps=True),
    )
    print_table(columns, [_row(p) for p in found])
    note = "bandwidth is what was measured, else what the memory is specified for; edgekit devices NAME says which"
    say("\n" + click.style(note, dim=True))


def _row(p: DeviceProfile | dict[str, str]) -> tuple[str, ...]:
    if not isinstance(p, DeviceProfile):
        return (click.style(p["name"], bold=True), "", click.style(p["error"], fg="red"), "", "", "", "")
    bandwidth = p.bandwidth.sustained or p.bandwidth.theoretical
    return (
        click.style(p.name, bold=True),
        ", ".join(p.aliases),
        p.title,
        format_bytes(p.total_bytes),
        format_bytes(p.usable_bytes),
        f"{bandwidth.value:g} GB/s" if bandwidth else "unknown",
        f"{p.execution_providers[0].removesuffix('ExecutionProvider')}, {p.activation_type}",
    )


def _print_one(profile: DeviceProfile) -> None:
    alias = f" ({', '.join(profile.aliases)})" if profile.aliases else ""
    say(f"{click.style(profile.title, bold=True)}: {profile.name}{alias}, {profile.os}")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in profile.execution_providers)
    say(click.style(f"onnxruntime providers: {providers}; activations {profile.activation_type}", dim=True))
    if profile.notes:
        say(profile.notes.strip())
    rows = []
    for key, figure in profile.sourced():
        source = click.style(figure.source, fg=None if figure.verified else "yellow", dim=figure.verified)
        note = "\n" + click.style(figure.note, dim=True) if figure.note else ""
        rows.append((key, f"{_with_unit(key, figure.value)}\n{source}{note}"))
    show()
    print_table((Column(), Column("value and its source", wraps=True)), rows)


def _with_unit(key: str, value: Any) -> str:
    """A value with its unit, which its key tells."""
    part, _, field = key.rpartition(".")
    if part == "memory" or key in ("accelerator.runtime", "budget.memory"):
        return format_bytes(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    named = next((unit for ending, unit in _UNITS.items() if field.endswith(ending)), "")
    unit = "GB/s" if part == "bandwidth" else "tokens" if key == "context" else named
    return f"{value:g} {unit}".strip() if isinstance(value, (int, float)) else str(value)
