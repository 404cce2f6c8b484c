"""Small bundles for tests: an artifact, and a program that only writes a receipt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from receipts import JETSON, receipt
from tiny_artifact import rewrite_manifest, write_tiny_artifact

from edgekit.deploy.device_files import DeviceFiles
from edgekit.deploy.receipt import Receipt
from edgekit.deploy.targets import target_named

FORMAT = {"bits": 4, "block_size": 32, "symmetric": True}
PLAN = {
    "device": "jetson-orin-nano", "engine": "native", "context": 640, "prompt_tokens": 128,
    "engine_bytes": {"native": 300_000_000}, "decode_tok_s": {"low": 20.0, "mid": 28.0, "high": 40.0},
}  # fmt: skip


def quantized_artifact(folder: Path) -> Path:
    """An artifact whose manifest says that it is quantized and has a plan for a jetson."""
    write_tiny_artifact(folder)
    quantization = {"method": "rtn", "linear": FORMAT, "embedding": FORMAT, "lm_head": FORMAT}
    rewrite_manifest(folder, quantization=quantization, plan=PLAN, recipe={"name": "tiny", "licence": "MIT"})
    return folder


def stand_in(
    folder: Path,
    *,
    machine: str = "",
    written: Receipt | None = None,
    code: int = 0,
    says: str = "",
    library: bool = True,
) -> DeviceFiles:
    """Native files whose program is a shell script that writes a receipt.

    Args:
        folder: Receives the files.
        machine: The architecture; empty for aarch64.
        written: The receipt; None for one of a jetson.
        code: The program's exit code.
        says: What it writes to stderr.
        library: Whether there is a library.
    """
    target = target_named(f"musl-{machine or 'aarch64'}")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps((written or receipt(replace(JETSON), artifact="tiny")).to_json())
    program = folder / "edgekit-run"
    program.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; shift; done\n'
        f"cat > \"$out\" <<'END'\n{text}\nEND\necho '{says}' >&2\nexit {code}\n"
    )
    program.chmod(0o755)
    for name in ("libedgekit_native.so", "edgekit.h", "edgekit_text.h", "COPYRIGHT"):
        (folder / name).write_text(f"the text of {name}\n")
    return DeviceFiles(
        target=target,
        program=program,
        library=folder / "libedgekit_native.so" if library else None,
        headers=(folder / "edgekit.h", folder / "edgekit_text.h") if library else (),
        licences={"musl": folder / "COPYRIGHT"},
    )
