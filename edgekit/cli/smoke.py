"""``edgekit smoke``: checks that an artifact works here as it did when it was built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..devices import load_device
from ..errors import SmokeTestError
from ..units import format_bytes, format_rate, format_seconds
from ._engine_options import engine_option, threads_option
from ._output import emit_json, json_option, open_screen, print_error, progress_bars, styled

if TYPE_CHECKING:
    from ..deploy.smoke import Receipt

_EXAMPLES = """
\b
Examples:
  edgekit smoke smollm2-135m-cpu
  edgekit smoke smollm2-135m-cpu --device pi --out receipt.json

See also: edgekit verify checks the files alone, edgekit bench measures the speed.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--device",
    "device_name",
    metavar="NAME",
    help="Check also that the memory used fits this device; see edgekit devices.",
)
@engine_option
@threads_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the results as JSON to this file, too."
)
@json_option
def command(
    artifact: Path, device_name: str | None, engine: str, threads: int | None, out: Path | None, as_json: bool
) -> None:
    """Check that ARTIFACT works on this machine: its files, its golden answer, its speed and memory.

    The golden answer is what the artifact answered when it was built. The exit code is 62 when a check fails.
    """
    from ..deploy.smoke import smoke  # imports numpy

    device = load_device(device_name) if device_name else None
    with progress_bars(quiet=as_json) as progress:
        receipt = smoke(artifact, engine=engine, threads=threads, device=device, progress=progress)
    if out:
        receipt.write(out)
    failure = _failure(receipt)
    if as_json:
        emit_json(receipt.to_json() | _error_field(failure))
    else:
        _print(receipt)
        if failure:
            print_error(failure)
    if failure:
        sys.exit(failure.exit_code)


def _failure(receipt: Receipt) -> SmokeTestError | None:
    failed = [f"{check.name}: {check.detail}" for check in receipt.checks if not check.passed]
    if not failed:
        return None
    return SmokeTestError(f"{receipt.artifact} failed its smoke test; " + "; ".join(failed))


def _error_field(error: SmokeTestError | None) -> dict[str, Any]:
    return {"error": {"kind": error.kind, "message": error.message, "hint": error.hint}} if error else {}


def _print(receipt: Receipt) -> None:
    from ._screen import Column

    screen = open_screen()
    verdicts = {True: ("pass", "green"), False: ("FAIL", "red")}
    rows = [(styled(verdicts[check.passed]), check.name, check.detail) for check in receipt.checks]
    screen.table((Column(), Column(), Column(wraps=True)), rows)
    if receipt.load_s is None or receipt.ttft_s is None or receipt.decode_tok_s is None:
        return
    if receipt.predicted is not None:
        found, word = receipt.predicted, "as predicted" if receipt.as_predicted else "not as predicted"
        screen.say(
            f"\ndecode {word} for {found['device']}: {found['mid']:.3g} tok/s expected, 80 % prediction interval "
            f"{found['low']:.3g} to {found['high']:.3g}"
        )
    peak = f", peak memory {format_bytes(receipt.peak_rss_bytes)}" if receipt.peak_rss_bytes else ""
    screen.say(
        f"\nload {format_seconds(receipt.load_s)}, first token {format_seconds(receipt.ttft_s)}, "
        f"decode {format_rate(receipt.decode_tok_s, 'tok')}{peak}"
    )
