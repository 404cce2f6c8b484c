"""``edgekit smoke``: does an artifact do here what it did when it was built?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..deploy.smoke import Receipt, smoke
from ..devices import load_device
from ..errors import SmokeTestError
from ..units import format_bytes, format_rate, format_seconds
from ._engine_options import engine_option
from ._output import emit_json, json_option, print_error, print_table, progress_bars, say
from ._table import Column


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--device", "device_name", metavar="NAME", help="Check the memory against this device's too.")
@engine_option
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: one per physical core.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the receipt (JSON) here too.")
@json_option
def command(
    artifact: Path, device_name: str | None, engine: str, threads: int | None, out: Path | None, as_json: bool
) -> None:
    """Smoke-test ARTIFACT: its files, its golden answer, its speed and memory. Exit code 62 when a check fails."""
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
    return SmokeTestError(f"{receipt.artifact} does not do what it did when built; " + "; ".join(failed))


def _error_field(error: SmokeTestError | None) -> dict[str, Any]:
    return {"error": {"kind": error.kind, "message": error.message, "hint": error.hint}} if error else {}


def _print(receipt: Receipt) -> None:
    verdicts = {True: click.style("pass", fg="green"), False: click.style("FAIL", fg="red")}
    rows = [(verdicts[check.passed], check.name, check.detail) for check in receipt.checks]
    print_table((Column(), Column(), Column(wraps=True)), rows)
    if receipt.load_s is None or receipt.ttft_s is None or receipt.decode_tok_s is None:
        return
    peak = f", peak {format_bytes(receipt.peak_rss_bytes)}" if receipt.peak_rss_bytes else ""
    if receipt.predicted is not None:
        found, word = receipt.predicted, "as predicted" if receipt.as_predicted else "not as predicted"
        say(
            f"\ndecode {word} for {found['device']}: {found['mid']:.3g} tok/s expected, {found['low']:.3g} to "
            f"{found['high']:.3g} in 80 % of cases"
        )
    say(
        f"\nload {format_seconds(receipt.load_s)}, first token {format_seconds(receipt.ttft_s)}, "
        f"decode {format_rate(receipt.decode_tok_s, 'tok')}{peak}"
    )
