"""``edgekit verify``: checks every file of an artifact, its digest, its signature and its structure."""

from __future__ import annotations

from pathlib import Path

import click

from ..units import format_bytes
from . import _options as options
from ._output import emit_json, print_notes, progress_bars


@options.command(
    "edgekit verify smollm2-135m-cpu",
    "edgekit verify smollm2-135m-cpu --expect 4c1f... --public-key release.pem.pub",
    see_also="edgekit smoke also runs the artifact.",
)
@options.artifact
@options.expect
@options.public_key("Require a signature by this key")
@options.as_json
def command(artifact: Path, expect: str | None, public_key: str | None, as_json: bool) -> None:
    """Check every file of ARTIFACT, and that the files fit together.

    The size and SHA-256 of each file are compared with the manifest, and the manifest with its own digest. Reports
    files that differ, are missing or do not belong there, and links that lead out of the folder. The graph, the weight
    file, the tokenizer and the manifest must agree with each other.

    The digest covers every byte of the artifact. Somebody who changes a file can also write a manifest that matches it,
    so compare the digest with the one that the build printed (--expect), or require a signature (--public-key).
    """
    from ..artifact.verify import verified

    with progress_bars(quiet=as_json) as progress:
        found = verified(artifact, progress, expect=expect, public_key=public_key)
    manifest = found.manifest
    size = sum(entry["size_bytes"] for entry in manifest.files.values())
    if as_json:
        emit_json(
            {
                "artifact": str(artifact), "verified": True, "files": len(manifest.files), "size_bytes": size,
                "digest": found.digest, "signed_by": found.signed_by, "notes": list(found.notes),
            }
        )  # fmt: skip
        return
    click.echo(f"{manifest.name}: {len(manifest.files)} files, {format_bytes(size)}, all unchanged")
    click.echo(f"digest: {found.digest}" + ("" if expect is None else ", as expected"))
    if found.signed_by is not None:
        known = "" if public_key is not None else "; whose key this is, only --public-key tells"
        click.echo(f"signed by: {found.signed_by}{known}")
    print_notes(found.notes)
