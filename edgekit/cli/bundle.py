"""``edgekit bundle``: packs an artifact with everything its device needs, and proves it there."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..devices import DeviceProfile
from ..errors import SmokeTestError
from ..units import format_bytes
from . import _options as options
from ._output import Column, emit_json, error_json, open_screen, print_error, print_notes, progress_bars
from ._receipt_table import print_receipt
from ._signals import ends_cleanly

if TYPE_CHECKING:
    from ..artifact.manifest import Manifest
    from ..deploy.comparison import Row
    from ..deploy.push import Pushed


@options.command(
    "edgekit bundle smollm2-135m-jetson-orin-nano --device jetson",
    "edgekit bundle smollm2-135m-jetson-orin-nano --device jetson --out smollm2.tar.zst",
    "edgekit bundle smollm2-135m-jetson-orin-nano --device jetson --push ssh://me@jetson/~/edgekit",
    "edgekit bundle smollm2-135m-pixel-9 --device pixel-9 --push adb --sustain 60",
    see_also="edgekit smoke runs the same test on this machine, edgekit devices --from-receipt corrects a profile.",
)
@options.artifact
@options.device("Bundle for this device; see edgekit devices.", required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write to this folder, or to one file if the name ends in .tar.zst  [default: ARTIFACT-bundle]",
)
@click.option(
    "--push",
    "address",
    metavar="ADDRESS",
    help="Copy what changed to the device, run the smoke test there and fetch the receipt: "
    "ssh://[USER@]HOST[:PORT]/PATH, adb, or adb:SERIAL.",
)
@click.option(
    "--sustain",
    "sustain_s",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600, min_open=True),
    help="With --push: decode for this many more seconds, to see whether heat slows the device down.",
)
@options.expect
@options.public_key("Require that this key has signed the artifact")
@options.sign("Sign the bundle, and the artifact in it if it is not signed yet,")
@options.as_json
@ends_cleanly
def command(
    artifact: Path,
    device: DeviceProfile,
    out: Path | None,
    address: str | None,
    sustain_s: float | None,
    expect: str | None,
    public_key: str | None,
    sign: str | None,
    as_json: bool,
) -> None:
    """Pack ARTIFACT with the program, C library and licences that a device needs to run it.

    The bundle runs without Python: smoke.sh runs its smoke test, and bin/edgekit-run answers prompts. Compiling the
    program for the device needs the extra compile: pip install "edgekit-llm[compile]". The receipt of a push is stored
    beside the bundle and compared with the plan; if a check fails, the exit code is 62.
    """
    from ..artifact.manifest import read_manifest
    from ..deploy.bundle import make_bundle
    from ..deploy.push import push
    from ..deploy.remote import check_address, connect

    if sustain_s is not None and address is None:
        raise click.UsageError("--sustain needs --push")
    if address is not None:
        check_address(address)
    manifest = read_manifest(artifact)
    out = out or Path(f"{os.path.basename(os.path.realpath(artifact))}-bundle")
    pushed: Pushed | None = None
    with (
        progress_bars(quiet=as_json) as progress,
        make_bundle(
            artifact, device, out, progress=progress, expect=expect, public_key=public_key, sign=sign
        ) as bundle,
    ):
        result: dict[str, Any] = {
            "bundle": str(out), "name": bundle.name, "device": device.name, "machine": bundle.machine,
            "files": len(bundle.files) + len(bundle.sums), "size_bytes": bundle.size_bytes,
        }  # fmt: skip
        if address is not None:
            with connect(address) as remote:
                pushed = push(bundle, remote, sustain_s=sustain_s, progress=progress)
    notes = [*bundle.notes, *(pushed.notes if pushed else ())]
    result["notes"] = notes
    if not as_json:
        open_screen().say(f"{out}: {result['files']} files, {format_bytes(result['size_bytes'])}")
    print_notes(notes)
    if pushed is not None:
        _report(pushed, manifest, device, out, result, as_json)
    elif as_json:
        emit_json(result)


def _report(
    pushed: Pushed, manifest: Manifest, device: DeviceProfile, out: Path, result: dict[str, Any], as_json: bool
) -> None:
    """Store the receipt, print what was sent and measured, and end with the exit code of the smoke test."""
    from ..deploy.comparison import compare_with_plan, complete_receipt

    receipt = complete_receipt(pushed.receipt, manifest, device)
    rows = compare_with_plan(receipt, manifest)
    path = out.parent / f"{out.name.removesuffix('.tar.zst')}-receipt-{pushed.device.replace(':', '-')}.json"
    receipt.write(path)
    failed = "; ".join(f"{check.name}: {check.detail}" for check in receipt.checks if not check.passed)
    failure = SmokeTestError(f"{receipt.artifact} failed its smoke test on {pushed.device}; {failed}")
    if as_json:
        result |= {
            "pushed_to": pushed.folder, "sent": list(pushed.sent), "sent_bytes": pushed.sent_bytes,
            "removed": list(pushed.removed), "receipt": receipt.to_json(), "receipt_file": str(path),
            "comparison": [asdict(row) for row in rows],
        }  # fmt: skip
        emit_json(result | (error_json(failure) if failed else {}))
    else:
        _print_push(pushed, path)
        print_receipt(receipt)
        _print_comparison(rows, manifest.plan.get("device") or "an unknown device")
        if failed:
            print_error(failure)
    if failed:
        sys.exit(failure.exit_code)


def _print_push(pushed: Pushed, path: Path) -> None:
    screen = open_screen()
    sent = f"sent {len(pushed.sent)} files, {format_bytes(pushed.sent_bytes)}" if pushed.sent else "nothing had changed"
    screen.say(f"{pushed.device}: {sent}; verified in {pushed.folder}")
    home = "~/" if pushed.folder.startswith("~/") else ""
    there = home + shlex.quote(pushed.folder.removeprefix(home))
    screen.print(f"to run it there: cd {there} && bin/edgekit-run artifact", soft_wrap=True)
    screen.say(f"receipt: {path}\n")


def _print_comparison(rows: list[Row], device: str) -> None:
    screen = open_screen()
    screen.say("")
    table = [(row.figure, row.planned or "unknown", row.measured or "not measured") for row in rows]
    screen.table((Column("figure"), Column(f"planned for {device}"), Column("measured")), table)
