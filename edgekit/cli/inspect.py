"""``edgekit inspect``: what is in an artifact, and where an engine runs it."""

from __future__ import annotations

from pathlib import Path

import click

from ..planning.engines import engine_names
from . import _options as options
from ._inspect_table import print_contents, print_placement
from ._output import emit_json
from ._signals import ends_cleanly


@options.command(
    "edgekit inspect smollm2-135m-cpu",
    "edgekit inspect smollm2-135m-cpu --engine native",
    "edgekit inspect smollm2-135m-cpu --engine ort --json",
    see_also="edgekit verify checks the files, edgekit bench measures the speed.",
)
@options.artifact
@click.option(
    "--engine",
    metavar="NAME",
    help=f"Also show where this engine runs each node on this machine: {', '.join(engine_names())}, or auto.",
)
@options.as_json
@ends_cleanly
def command(artifact: Path, engine: str | None, as_json: bool) -> None:
    """Show what is in ARTIFACT: its matrices, their formats and sizes, and the planned share of the time per token.

    With --engine, also show where the nodes of the model run on this machine: with a fast kernel, with a slow fallback,
    or as a copy between the host and the device. The native engine's library names its kernels; an engine that uses
    onnxruntime generates a few tokens to find out.
    """
    from ..artifact.manifest import read_manifest
    from ..inspection.contents import contents_of
    from ..inspection.placement import placement_of

    manifest = read_manifest(artifact)
    contents = contents_of(artifact, manifest, None if engine == "auto" else engine)
    placement = None if engine is None else placement_of(artifact, manifest, engine)
    if as_json:
        found = {"artifact": str(artifact), "name": manifest.name, "bits_per_weight": manifest.bits_per_weight}
        shown = {"contents": contents.to_json(), "placement": placement and placement.to_json()}
        emit_json(found | shown)
        return
    print_contents(contents, manifest)
    if placement is not None:
        print_placement(placement)
