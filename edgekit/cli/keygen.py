"""``edgekit keygen``: makes the keys that sign artifacts."""

from __future__ import annotations

from pathlib import Path

import click

from . import _options as options
from ._output import emit_json


@options.command(
    "edgekit keygen release.pem",
    see_also="edgekit build --sign signs an artifact, edgekit verify --public-key checks it.",
)
@click.argument("key", type=options.OutputFile())
@options.as_json
def command(key: Path, as_json: bool) -> None:
    """Make a private key in the file KEY, and its public key in KEY.pub.

    Keep KEY to yourself: whoever has it can sign artifacts in your name. Put KEY.pub on every device. Both are Ed25519
    keys in PEM format, as openssl writes them. Needs the extra sign: pip install "edgekit-llm[sign]".
    """
    from ..artifact.signature import make_keys, open_public_key

    public = make_keys(key)
    digits = open_public_key(public)
    if as_json:
        emit_json({"key": str(key), "public_key_file": str(public), "public_key": digits})
    else:
        click.echo(f"{key}: the private key, readable only by you")
        click.echo(f"{public}: the public key {digits}")
