"""``edgekit devices``: the devices edgekit knows, and the source of every figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..devices import DeviceProfile, device_names, load_device
from ..devices.registry import device_file
from ..errors import DeviceProfileError
from ..units import format_bytes
from ._output import emit_json, json_option, open_screen, styled

if TYPE_CHECKING:
    from ._screen import Cell

# The ending of a field's name, and its unit.
_UNITS = {
    "gmac_s": "Gmac/s", "gb_s": "GB/s", "mb_s": "MB/s", "tok_s": "tok/s", "ghz": "GHz", "_us": "µs", "ttft_s": "s",
    "watts": "W", "tops_dense": "TOPS",
}  # fmt: skip


_EXAMPLES = """
\b
Examples:
  edgekit devices
  edgekit devices jetson

See also: edgekit probe writes a profile of this machine, edgekit plan uses the profiles.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the devices edgekit knows, or show one with the source of each figure.

    NAME is a device, an alias (jetson, phone, pi, laptop, cpu) or a .toml file. Profiles of your own in
    ~/.config/edgekit/devices ($XDG_CONFIG_HOME/edgekit/devices) are listed too.
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
    """A device, or the error that loading it raised, so that one unreadable profile does not hide the others."""
    try:
        return load_device(device_file(name))
    except DeviceProfileError as error:
        return {"name": name, "error": error.message}


def _print_all(found: list[DeviceProfile | dict[str, str]]) -> None:
    from ._screen import Column

    columns = (
        Column("device (alias)"),
        *(Column(heading, right=True) for heading in ("memory", "usable", "bandwidth")),
        Column("runs on", optional=True),
        Column("description", wraps=True, optional=True, min_width=24),
    )
    screen = open_screen()
    screen.table(columns, [_row(p) for p in found])
    for p in found:
        if not isinstance(p, DeviceProfile):
            screen.say((f"\n{p['name']}: {p['error']}", "red"))
    note = "bandwidth: measured where known, else the memory's specification; edgekit devices NAME shows the source"
    screen.say(("\n" + note, "dim"))


def _row(p: DeviceProfile | dict[str, str]) -> tuple[Cell, ...]:
    if not isinstance(p, DeviceProfile):
        return (styled((p["name"], "bold")), "", "", "", "", "")
    bandwidth = p.bandwidth.sustained or p.bandwidth.theoretical
    alias = f" ({', '.join(p.aliases)})" if p.aliases else ""
    return (
        styled((p.name, "bold"), alias),
        format_bytes(p.total_bytes),
        format_bytes(p.usable_bytes),
        f"{bandwidth.value:g} GB/s" if bandwidth else "unknown",
        f"{p.execution_providers[0].removesuffix('ExecutionProvider')}, {p.activation_type}",
        p.title,
    )


def _print_one(profile: DeviceProfile) -> None:
    from ._screen import Column

    screen = open_screen()
    alias = f" ({', '.join(profile.aliases)})" if profile.aliases else ""
    screen.say((profile.title, "bold"), f": {profile.name}{alias}, {profile.os}")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in profile.execution_providers)
    screen.say((f"onnxruntime providers: {providers}; activations {profile.activation_type}", "dim"))
    if profile.notes:
        screen.say(profile.notes.strip())
    rows = []
    for key, figure in profile.sourced():
        note = f"\n{figure.note}" if figure.note else ""
        source = (figure.source, "dim" if figure.verified else "yellow")
        rows.append((key, styled(f"{_with_unit(key, figure.value)}\n", source, (note, "dim"))))
    screen.say()
    screen.table((Column("figure"), Column("value and source", wraps=True)), rows)


def _with_unit(key: str, value: Any) -> str:
    """A value with its unit, which follows from its key."""
    part, _, field = key.rpartition(".")
    if part == "memory" or key in ("accelerator.runtime", "budget.memory"):
        return format_bytes(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    named = next((unit for ending, unit in _UNITS.items() if field.endswith(ending)), "")
    unit = "GB/s" if part == "bandwidth" else "tokens" if key == "context" else named
    return f"{value:g} {unit}".strip() if isinstance(value, (int, float)) else str(value)
