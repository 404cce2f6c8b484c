"""``edgekit smoke``: checks that an artifact works here as it did when it was built."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..devices import DeviceProfile
from ..errors import ArtifactError, EdgekitError, SmokeTestError
from . import _options as options
from ._failures import needs_memory
from ._output import emit_json, error_json, print_error, print_notes, print_planned_cache, progress_bars
from ._receipt_table import print_receipt


@options.command(
    "edgekit smoke smollm2-135m-cpu",
    "edgekit smoke smollm2-135m-cpu --device pi --out receipt.json",
    "edgekit smoke smollm2-135m-cpu --sustain 60",
    see_also="edgekit verify checks the files alone, edgekit bench measures the speed.",
)
@options.artifact
@options.device(
    "Treat this machine as this device (see edgekit devices): check memory and times against its profile and the plan."
)
@click.option("--headless", is_flag=True, help="With --device: the device runs without a desktop.")
@options.engine
@options.threads
@click.option(
    "--sustain",
    "sustain_s",
    metavar="SECONDS",
    type=float,
    help="Decode for this many more seconds and compare the last third with the first, to see whether heat slows the "
    "machine down.",
)
@click.option("--out", type=options.OutputFile(), help="Write the results as JSON to this file, too.")
@options.as_json
@needs_memory(200)
def command(
    artifact: Path,
    device: DeviceProfile | None,
    headless: bool,
    engine: str,
    threads: int | None,
    sustain_s: float | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Check that ARTIFACT works on this machine: its files, its golden answer, its speed and memory.

    The golden answer is the one that the artifact gave when it was built. If a check fails, the exit code is 62. A
    speed that differs from the plan is only a warning, unless it misses a limit that was set for the build.
    """
    from ..artifact.manifest import read_manifest
    from ..deploy.smoke import smoke  # imports numpy

    with progress_bars(quiet=as_json) as progress:
        receipt = smoke(
            artifact,
            engine=engine,
            threads=threads,
            device=device,
            headless=headless,
            sustain_s=sustain_s,
            progress=progress,
        )
    plan = read_manifest(artifact).plan
    print_planned_cache(plan, receipt.kv_type)
    if device is not None and device.name != plan.get("device"):
        planned = f"for {plan['device']}" if plan.get("device") else "for no device"
        print_notes([f"the plan is {planned}, not for {device.name}, so no times are compared with it"])
    unwritten: EdgekitError | None = None
    if out:
        try:
            receipt.write(out)
        except ArtifactError as error:  # told after the results, which would be lost
            unwritten = error
    failed = "; ".join(f"{check.name}: {check.detail}" for check in receipt.checks if not check.passed)
    failure = unwritten
    if failed:
        hint = "" if unwritten is None else unwritten.message
        failure = SmokeTestError(f"{receipt.artifact} failed its smoke test; {failed}", hint=hint)
    if as_json:
        emit_json(receipt.to_json() | (error_json(failure) if failure else {}))
    else:
        print_receipt(receipt)
        if failure:
            print_error(failure)
    if failure:
        sys.exit(failure.exit_code)
