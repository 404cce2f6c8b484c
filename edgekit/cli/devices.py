"""``edgekit devices``: the devices edgekit knows, and the source of every figure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..devices import DeviceProfile, device_names, load_device
from ..devices.registry import device_file
from ..devices.writer import format_device
from ..errors import DeviceProfileError, UsageError
from ..output_file import write_output
from ..units import format_bytes
from . import _options as options
from ._output import Cell, Column, emit_json, open_screen, print_notes

# The ending of a field's name, and its unit.
_UNITS = {
    "gmac_s": "Gmac/s", "gb_s": "GB/s", "mb_s": "MB/s", "tok_s": "tok/s", "ghz": "GHz", "_us": "µs", "ttft_s": "s",
    "watts": "W", "tops_dense": "TOPS",
}  # fmt: skip


@options.command(
    "edgekit devices",
    "edgekit devices jetson",
    "edgekit devices --from-receipt receipt.json --out my-jetson.toml",
    see_also="edgekit probe writes a profile of this machine, edgekit plan uses the profiles.",
)
@click.argument("name", required=False)
@click.option(
    "--from-receipt",
    "receipt",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Print the profile of the device that this receipt names, or of NAME. Figures that the smoke test contradicts "
    "are replaced by what it measured.",
)
@click.option(
    "--out",
    type=options.OutputFile(),
    help="With --from-receipt: write the profile to this file, NAME.toml, instead of printing it.",
)
@options.as_json
def command(name: str | None, receipt: Path | None, out: Path | None, as_json: bool) -> None:
    """List the devices edgekit knows, or show one with the source of each figure.

    NAME is a device, an alias (jetson, phone, pi, laptop, cpu) or a .toml file. Profiles of your own in
    ~/.config/edgekit/devices ($XDG_CONFIG_HOME/edgekit/devices) are listed too.
    """
    if out is not None and receipt is None:
        raise click.UsageError("--out needs --from-receipt")
    if out is not None and out.suffix != ".toml" and (out.is_file() or not out.exists()):
        raise click.BadParameter(
            f"{out} does not end in .toml; --device reads a file only if its name does", param_hint="--out"
        )
    if receipt is not None:
        _correct(receipt, name, out, as_json)
        return
    if name is not None:
        profile = load_device(name)
        if as_json:
            emit_json(profile.to_json())
        else:
            _print_one(profile)
        return
    found: list[DeviceProfile] = []
    listed: list[dict[str, Any]] = []
    for entry in device_names():
        try:
            profile = load_device(device_file(entry))
        except DeviceProfileError as error:  # one unreadable profile does not hide the others
            listed.append({"name": entry, "error": error.message})
        else:
            found.append(profile)
            listed.append(profile.to_json())
    if as_json:
        emit_json({"devices": listed})
    else:
        _print_all(found, {each["name"]: each["error"] for each in listed if "error" in each})


def _correct(file: Path, name: str | None, out: Path | None, as_json: bool) -> None:
    """Write the profile of a receipt's device with the measured figures."""
    from ..deploy.contradictions import corrected_profile, find_contradictions
    from ..deploy.receipt import read_receipt

    receipt = read_receipt(file)
    device = name or receipt.device
    if device is None:
        raise UsageError(
            f"the receipt {file} does not name a device", hint="name it: edgekit devices NAME --from-receipt FILE"
        )
    profile = load_device(device)
    found = find_contradictions(receipt, profile)
    corrected = corrected_profile(receipt, profile)
    figures = "1 figure" if len(found) == 1 else f"{len(found)} figures"
    comment = [f"{profile.name} as measured: {figures} from {file.name}", *(c.detail for c in found)]
    text = format_device(corrected, "\n".join(comment))
    if out is not None:
        try:
            write_output(out, text.encode())
        except OSError as error:
            raise DeviceProfileError(f"cannot write the profile {out}: {error.strerror}") from None
    if as_json:
        listed = [asdict(each) for each in found]
        emit_json({"device": profile.name, "contradictions": listed, "profile": corrected.to_json()})
    elif out is None:
        click.echo(text, nl=False)
    if not found:
        print_notes([f"the receipt contradicts no figure of {profile.name}"])


def _print_all(found: list[DeviceProfile], errors: dict[str, str]) -> None:
    columns = (
        Column("device (alias)"),
        *(Column(heading, right=True) for heading in ("memory", "usable", "bandwidth")),
        Column("runs on", optional=True),
        Column("description", wraps=True, optional=True, min_width=24),
    )
    rows: list[list[Cell]] = []
    for p in found:
        sizes = (format_bytes(p.total_bytes), format_bytes(p.usable_bytes))
        bandwidth = p.bandwidth.sustained or p.bandwidth.theoretical
        rate = f"{bandwidth.value:g} GB/s" if bandwidth else "unknown"
        runs_on = f"{p.execution_providers[0].removesuffix('ExecutionProvider')}, {p.activation_type}"
        rows.append([[(p.name, "bold"), _aliases(p)], *sizes, rate, runs_on, p.title])
    screen = open_screen()
    screen.table(columns, rows)
    for name, error in errors.items():
        screen.say((f"\n{name}: {error}", "red"))
    note = "bandwidth: measured where known, else the memory's specification; edgekit devices NAME shows the source"
    screen.say((f"\n{note}", "dim"))


def _print_one(profile: DeviceProfile) -> None:
    screen = open_screen()
    screen.say((profile.title, "bold"), f": {profile.name}{_aliases(profile)}, {profile.os}")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in profile.execution_providers)
    screen.say((f"onnxruntime providers: {providers}; activations {profile.activation_type}", "dim"))
    if profile.notes:
        screen.say(profile.notes.strip())
    rows: list[list[Cell]] = []
    for key, figure in profile.sourced():
        source = (figure.source, "dim" if figure.verified else "yellow")
        note = (f"\n{figure.note}" if figure.note else "", "dim")
        rows.append([key, [f"{_with_unit(key, figure.value)}\n", source, note]])
    screen.say()
    screen.table((Column("figure"), Column("value and source", wraps=True)), rows)


def _aliases(profile: DeviceProfile) -> str:
    return f" ({', '.join(profile.aliases)})" if profile.aliases else ""


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
