"""``edgekit probe``: what this machine's memory, kernels and engines really do, as a device profile."""

from __future__ import annotations

from pathlib import Path

import click

from ..devices import DeviceProfile
from ..devices.writer import format_device
from ..probe.machine import HOST, probe_machine
from ..units import format_bytes
from ._output import emit_json, json_option, print_table, progress_bars, say, show
from ._table import Column

_COMMENT = "This machine as edgekit probe measured it. Use it: edgekit plan --device {path}"


def _new_profile(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """A path that can be written and that ``--device`` will take, known before anything is measured."""
    if path is None:
        return None
    if path.suffix != ".toml":
        raise click.BadParameter(f"{path} does not end in .toml; --device tells a file from a name by that")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    if path.exists():
        raise click.BadParameter(f"{path} is there already; name another file, or remove it first")
    return path


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), callback=_new_profile, help="File to write the profile to, NAME.toml."
)
@click.option(
    "--limits-only",
    is_flag=True,
    help="Leave the engines out: some seconds instead of minutes. Speeds are then planned by the share of the limits "
    "that engines reached on another processor.",
)
@json_option
def command(out: Path | None, limits_only: bool, as_json: bool) -> None:
    """Measure this machine: memory bandwidth, the peak of each kernel, and what both engines make of them.

    The engines run two models of random weights, which are built in the temporary folder (450 MB) and removed. With
    --out the figures become a device profile, which --device takes wherever a device is named:

    \b
      edgekit probe --out board.toml
      edgekit plan --device board.toml
    """
    with progress_bars(quiet=as_json) as progress:
        profile = probe_machine(out.stem if out else HOST, progress)
        if not limits_only:
            from ..probe.engines import with_engine_rates  # imports onnx, which takes a while

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
    say(
        f"\nwritten to {out}; use it: --device {out}" if out else "\nnot saved; edgekit probe --out NAME.toml does that"
    )


def _print(profile: DeviceProfile) -> None:
    cpu, memory, bandwidth = profile.cpu, profile.memory, profile.bandwidth
    say(f"{click.style(profile.title, bold=True)}: {cpu.description.value}")
    say(f"extensions: {', '.join(cpu.isa.value) or 'none that a kernel chooses by'}")
    say(f"memory: {format_bytes(memory.total.value)}, usable now {format_bytes(memory.usable.value)}\n")
    rows: list[tuple[str, ...]] = []
    if bandwidth.one_core and bandwidth.sustained:
        rows.append(("reading memory, GB/s", f"{bandwidth.one_core.value:g}", f"{bandwidth.sustained.value:g}"))
    rows += [
        (f"{k.name}, 10^9 multiply-adds/s", f"{k.one_core_gmac_s.value:g}", f"{k.gmac_s.value:g}") for k in cpu.kernels
    ]
    print_table((Column(), Column("one core", right=True), Column("all cores", right=True)), rows)
    if cpu.engines:
        rows = [
            ("reading weights, GB/s", *(f"{engine.weights_gb_s.value:g}" for engine in cpu.engines)),
            ("prompt, 10^9 multiply-adds/s", *(f"{engine.prefill_gmac_s.value:g}" for engine in cpu.engines)),
        ]
        show()
        print_table((Column(), *(Column(f"engine {engine.name}", right=True) for engine in cpu.engines)), rows)
    say("\nthe best of repeated measurements; storage is not measured: a cache would answer")
