"""``edgekit smoke``: checks that an artifact works here as it did when it was built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..devices import DeviceProfile
from ..errors import SmokeTestError
from ..units import format_bytes, format_rate, format_seconds
from . import _options as options
from ._output import Column, emit_json, error_json, open_screen, print_error, progress_bars

if TYPE_CHECKING:
    from ..deploy.smoke import Receipt


@options.command(
    "edgekit smoke smollm2-135m-cpu",
    "edgekit smoke smollm2-135m-cpu --device pi --out receipt.json",
    see_also="edgekit verify checks the files alone, edgekit bench measures the speed.",
)
@options.artifact
@options.device("Check also that the memory used fits this device; see edgekit devices.")
@click.option("--headless", is_flag=True, help="With --device: the device boots without a desktop.")
@options.engine
@options.threads
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the results as JSON to this file, too."
)
@options.as_json
def command(
    artifact: Path,
    device: DeviceProfile | None,
    headless: bool,
    engine: str,
    threads: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Check that ARTIFACT works on this machine: its files, its golden answer, its speed and memory.

    The golden answer is what the artifact answered when it was built. The exit code is 62 when a check fails.
    """
    from ..deploy.smoke import smoke  # imports numpy

    with progress_bars(quiet=as_json) as progress:
        receipt = smoke(artifact, engine=engine, threads=threads, device=device, headless=headless, progress=progress)
    if out:
        receipt.write(out)
    failed = "; ".join(f"{check.name}: {check.detail}" for check in receipt.checks if not check.passed)
    failure = SmokeTestError(f"{receipt.artifact} failed its smoke test; {failed}")
    if as_json:
        emit_json(receipt.to_json() | (error_json(failure) if failed else {}))
    else:
        _print(receipt)
        if failed:
            print_error(failure)
    if failed:
        sys.exit(failure.exit_code)


def _print(receipt: Receipt) -> None:
    screen = open_screen()
    verdicts = {True: ("pass", "green"), False: ("FAIL", "red")}
    rows = [(verdicts[check.passed], check.name, check.detail) for check in receipt.checks]
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
