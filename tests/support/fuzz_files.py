"""Folders and models that the targets of tests/fuzz read from; each is written once in a process."""

from __future__ import annotations

import atexit
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from tiny_checkpoint import write_checkpoint

import edgekit

SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 32,
    "num_key_value_heads": 1, "max_position_embeddings": 128,
}  # fmt: skip


@cache
def scratch() -> Path:
    """A folder of this process, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="edgekit-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def checkpoint(name: str = "checkpoint", family: str = "llama", context: int = 128) -> Path:
    """A tiny checkpoint, which its target may change."""
    return write_checkpoint(scratch() / name, family, **{**SMALL, "max_position_embeddings": context})


@cache
def artifact(name: str = "artifact", context: int = 128) -> Path:
    """A tiny artifact, which its target may change."""
    out, source = scratch() / name, checkpoint(f"{name}-source", context=context)
    edgekit.build(device="cpu", checkpoint=source, out=out, gate=False, threads=1)
    return out


@cache
def text() -> tuple[Any, Any]:
    """A tokenizer and a chat template."""
    from edgekit.runtime.chat import ChatTemplate
    from edgekit.runtime.tokenizer import Tokenizer

    folder = checkpoint("text")
    tokenizer = Tokenizer.open(folder, {"bos": 0, "eos": [1], "pad": None, "add_bos": False})
    return tokenizer, ChatTemplate.open(folder, tokenizer)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Without a connection to the hub, and without other programs."""
    refused = ConnectionError("no connection")
    missing = FileNotFoundError(2, "No such file or directory", "program")
    with (
        mock.patch("huggingface_hub.HfApi.model_info", side_effect=refused),
        mock.patch("huggingface_hub.snapshot_download", side_effect=refused),
        mock.patch("edgekit.checkpoint.hub._read_range", side_effect=refused),
        mock.patch("subprocess.Popen.__init__", side_effect=missing),
        mock.patch("subprocess.Popen.__del__"),
    ):
        yield


def written(name: str, data: bytes) -> Path:
    """A file of the scratch folder with this content."""
    path = scratch() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def as_json(*values: Any) -> list[bytes]:
    """Each value as a JSON text."""
    return [json.dumps(value).encode() for value in values]
