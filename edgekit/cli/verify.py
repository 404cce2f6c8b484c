"""``edgekit verify``: is every file of an artifact what its manifest says?"""

from __future__ import annotations

from pathlib import Path

import click

from ..artifact.verify import verify
from ..units import format_bytes
from ._output import emit_json, json_option, progress_bars


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def command(artifact: Path, as_json: bool) -> None:
    """Check the size and sha256 of every file of ARTIFACT; name those that differ, are missing or surplus."""
    with progress_bars(quiet=as_json) as progress:
        manifest = verify(artifact, progress)
    size = sum(entry["size_bytes"] for entry in manifest.files.values())
    if as_json:
        emit_json({"artifact": str(artifact), "verified": True, "files": len(manifest.files), "size_bytes": size})
    else:
        click.echo(f"{manifest.name}: {len(manifest.files)} files, {format_bytes(size)}, all as built")
