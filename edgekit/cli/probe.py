"""``edgekit probe``: measures this machine's memory, kernels and engines, and writes a device profile."""

from __future__ import annotations

from pathlib import Path

import click

from ..devices import DeviceProfile
from ..devices.writer import format_device
from ..units import format_bytes
from ._output import emit_json, json_option, open_screen, progress_bars

_COMMENT = "This machine as edgekit probe measured it. Use it: edgekit plan --device {path}"
_EXAMPLES = """
\b
Examples:
  edgekit probe --out board.toml
  edgekit plan --device board.toml

See also: edgekit bench measures one artifact, edgekit devices lists the profiles.
"""


def _new_profile(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Check before measuring that the file can be written and that ``--device`` will take it."""
    if path is None:
        return None
    if path.suffix != ".toml":
        raise click.BadParameter(f"{path} does not end in .toml, by which --device tells a file from a name")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    if path.exists():
        raise click.BadParameter(f"{path} exists; name another file or remove it first")
    return path


@click.command(epilog=_EXAMPLES)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=_new_profile,
    help="Write the device profile to this new file, NAME.toml.",
)
@click.option(
    "--limits-only",
    is_flag=True,
    help="Measure memory and kernels but not the engines, which takes seconds instead of minutes. Plans then assume "
    "that the engines reach the same share of the hardware limits as on a reference processor.",
)
@json_option
def command(out: Path | None, limits_only: bool, as_json: bool) -> None:
    """Measure this machine: its memory bandwidth, the peak of each kernel, and the speed of both engines.

    The engines run two models with random weights, which are built in the temporary folder (450 MB) and then removed.
    With --out, the figures are written to a device profile that every --device option accepts.
    """
    from ..probe.machine import HOST, probe_machine

    with progress_bars(quiet=as_json) as progress:
        profile = probe_machine(out.stem if out else HOST, progress)
        if not limits_only:
            from ..probe.engines import with_engine_rates  # imports onnx

            profile = with_engine_rates(profile, progress)
    if out is not None:
        try:
            out.write_text(format_device(profile, _COMMENT.format(path=out)), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"cannot write {out}: {error.strerror}") from None
    if as_json:
        emit_json({**profile.to_json(), "out": str(out) if out else None})
        return
    _print(profile)
    open_screen().say(
        f"\nwritten to {out}; use it with --device {out}"
        if out
        else "\nnot saved; save it with edgekit probe --out NAME.toml"
    )


def _print(profile: DeviceProfile) -> None:
    from ._screen import Column

    screen = open_screen()
    cpu, memory, bandwidth = profile.cpu, profile.memory, profile.bandwidth
    screen.say((profile.title, "bold"), f": {cpu.description.value}")
    screen.say(f"instruction sets: {', '.join(cpu.isa.value) or 'none that edgekit has kernels for'}")
    screen.say(f"memory: {format_bytes(memory.total.value)}, usable now {format_bytes(memory.usable.value)}\n")
    rows: list[tuple[str, ...]] = []
    if bandwidth.one_core and bandwidth.sustained:
        rows.append(("memory reads, GB/s", f"{bandwidth.one_core.value:g}", f"{bandwidth.sustained.value:g}"))
    rows += [
        (f"{k.name}, 10^9 multiply-adds/s", f"{k.one_core_gmac_s.value:g}", f"{k.gmac_s.value:g}") for k in cpu.kernels
    ]
    screen.table((Column("hardware limit"), Column("one core", right=True), Column("all cores", right=True)), rows)
    if cpu.engines:
        rows = [
            ("decode, GB/s of weights", *(f"{engine.weights_gb_s.value:g}" for engine in cpu.engines)),
            ("prefill, 10^9 multiply-adds/s", *(f"{engine.prefill_gmac_s.value:g}" for engine in cpu.engines)),
        ]
        screen.say()
        engines = (Column(engine.name, right=True) for engine in cpu.engines)
        screen.table((Column("engine speed"), *engines), rows)
    screen.say("\nThese are the best of repeated measurements. Storage is not measured, because caches hide its speed.")
