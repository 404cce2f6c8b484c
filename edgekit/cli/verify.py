"""``edgekit verify``: compares every file of an artifact with its manifest."""

from __future__ import annotations

from pathlib import Path

import click

from ..units import format_bytes
from . import _options as options
from ._output import emit_json, progress_bars


@options.command("edgekit verify smollm2-135m-cpu", see_also="edgekit smoke also runs the artifact.")
@options.artifact
@options.as_json
def command(artifact: Path, as_json: bool) -> None:
    """Check the size and sha256 of every file of ARTIFACT against its manifest.

    Names the files that differ, that are missing and that do not belong there.
    """
    from ..artifact.verify import verify

    with progress_bars(quiet=as_json) as progress:
        manifest = verify(artifact, progress)
    size = sum(entry["size_bytes"] for entry in manifest.files.values())
    if as_json:
        emit_json({"artifact": str(artifact), "verified": True, "files": len(manifest.files), "size_bytes": size})
    else:
        click.echo(f"{manifest.name}: {len(manifest.files)} files, {format_bytes(size)}, all unchanged")
