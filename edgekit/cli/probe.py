"""``edgekit probe``: measures this machine's memory, kernels and engines, and writes a device profile."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..devices import DeviceProfile
from ..devices.writer import format_device
from ..errors import MissingPackageError, missing_package, shown_command
from ..output_file import write_output
from ..progress import Progress
from ..units import format_bytes
from . import _options as options
from ._failures import needs_memory
from ._output import Column, emit_json, open_screen, progress_bars
from ._signals import ends_cleanly

if TYPE_CHECKING:
    from ..probe.kernels import KernelChoice
    from ..runtime.proof.verdict import Verdict

_COMMENT = "This machine as edgekit probe measured it. Use it: {command}"


def _new_profile(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Check before measuring that the file can be written and that ``--device`` will take it."""
    if path is None:
        return None
    if path.suffix != ".toml":
        raise click.BadParameter(f"{path} does not end in .toml; --device reads a file only if its name does")
    if path.exists():
        raise click.BadParameter(f"{path} exists; name another file or remove it first")
    return path


@options.command(
    "edgekit probe --out board.toml",
    "edgekit plan --device board.toml",
    see_also="edgekit bench measures one artifact, edgekit devices lists the profiles.",
)
@click.option(
    "--out",
    type=options.OutputFile(),
    callback=_new_profile,
    help="Write the device profile to this new file, NAME.toml.",
)
@click.option(
    "--limits-only",
    is_flag=True,
    help="Measure memory and kernels but not the engines, which takes seconds instead of minutes. Plans then assume "
    "that the engines reach the same share of the hardware limits as on a reference processor.",
)
@options.as_json
@ends_cleanly
@needs_memory(200)
def command(out: Path | None, limits_only: bool, as_json: bool) -> None:
    """Measure this machine: its memory bandwidth, the peak of each kernel, and the speed of both engines.

    The engines run two models with random weights, which are built in the temporary folder (450 MB) and then removed.
    Also shows the GPUs that have been checked here: before an engine on a GPU answers, its results are compared with
    the processor's. With --out, the figures are written to a device profile that every --device option accepts.
    """
    from ..probe.kernels import chosen_kernels
    from ..probe.machine import HOST, probe_machine
    from ..runtime.proof.verdict import kept_verdicts

    add_engine_rates = None if limits_only else _engine_measurement()
    kernels = chosen_kernels()
    with progress_bars(quiet=as_json) as progress:
        profile = probe_machine(out.stem if out else HOST, progress)
        if add_engine_rates is not None:
            profile = add_engine_rates(profile, progress)
    if out is not None:
        comment = _COMMENT.format(command=shown_command("plan", "--device", out))
        try:
            write_output(out, format_device(profile, comment).encode())
        except OSError as error:
            raise click.ClickException(f"cannot write {out}: {error.strerror}") from None
    if as_json:
        chosen = {name: {"kernel": each.kernel, "gmac_s": each.gmac_s} for name, each in kernels.items()}
        proofs = [verdict.to_json() for verdict in kept_verdicts()]
        emit_json({**profile.to_json(), "chosen_kernels": chosen, "proofs": proofs, "out": str(out) if out else None})
        return
    _print(profile, kernels)
    _print_proofs(kept_verdicts())
    kept = (
        f"written to {out}; use it with --device {shlex.quote(str(out))}"
        if out
        else "not saved; save it with edgekit probe --out NAME.toml"
    )
    open_screen().say(f"\n{kept}", wrap=False)


def _engine_measurement() -> Callable[[DeviceProfile, Progress], DeviceProfile]:
    """``with_engine_rates``, imported before anything is measured, because it needs packages of the extra build."""
    try:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ModuleNotFoundError(name="onnxruntime")
        from ..probe.engines import with_engine_rates  # imports onnx
    except ModuleNotFoundError as error:
        if missing_package(error) is None:
            raise
        missing = MissingPackageError.for_extra("build", [str(error.name)], "measuring the engines")
        hint = f"{missing.hint}, or measure memory and kernels alone: --limits-only"
        raise MissingPackageError(missing.message, hint) from None
    return with_engine_rates


def _print(profile: DeviceProfile, kernels: dict[str, KernelChoice]) -> None:
    screen = open_screen()
    cpu, memory, bandwidth = profile.cpu, profile.memory, profile.bandwidth
    screen.say((profile.title, "bold"), f": {cpu.description.value}")
    screen.say(f"instruction sets: {', '.join(cpu.isa.value) or 'none that edgekit has kernels for'}")
    screen.say(f"memory: {format_bytes(memory.total.value)}, usable now {format_bytes(memory.usable.value)}\n")
    rows: list[tuple[str, ...]] = []
    if bandwidth.one_core and bandwidth.sustained:
        rows.append(("memory reads, GB/s", f"{bandwidth.one_core.value:g}", f"{bandwidth.sustained.value:g}"))
    for kernel in cpu.kernels:
        speeds = (f"{figure.value:g}" for figure in (kernel.one_core_gmac_s, kernel.gmac_s))
        rows.append((f"{kernel.name}, 10^9 multiply-adds/s", *speeds))
    screen.table((Column("hardware limit"), Column("one core", right=True), Column("all cores", right=True)), rows)
    screen.say()
    screen.table(
        (Column("chosen kernels"), Column("kernel"), Column("10^9 multiply-adds/s, one core", wraps=True)),
        [(name.replace("_", " "), each.kernel, _compared(each)) for name, each in kernels.items()],
    )
    if cpu.engines:
        screen.say()
        columns = (Column("engine speed"), *(Column(engine.name, right=True) for engine in cpu.engines))
        decode = (f"{engine.weights_gb_s.value:g}" for engine in cpu.engines)
        prefill = (f"{engine.prefill_gmac_s.value:g}" for engine in cpu.engines)
        rows = [("decode, GB/s of weights", *decode), ("prefill, 10^9 multiply-adds/s", *prefill)]
        screen.table(columns, rows)
    screen.say("\nThese are the best of repeated measurements. Storage is not measured, because caches hide its speed.")


def _print_proofs(verdicts: Sequence[Verdict]) -> None:
    """The proofs that were made when engines on a GPU were first used here."""
    if not verdicts:
        return
    screen = open_screen()
    screen.say()
    screen.table(
        (Column("GPU"), Column("engine"), Column("artifact"), Column("proof", wraps=True)),
        [
            (
                f"{each.subject.adapter}, driver {each.subject.driver}",
                each.subject.engine,
                each.name,
                f"{'passed' if each.passed else 'FAILED'}: {each.detail}",
            )
            for each in verdicts
        ],
    )


def _compared(choice: KernelChoice) -> str:
    """What each candidate reached: ``avx2 51.3, avx512vnni 44.8``."""
    return ", ".join(f"{name} {rate:g}" for name, rate in choice.gmac_s.items()) or "not measured"
