"""A file that may be anything: a pickle, a zip, an Ollama manifest, an HTML page."""

import io
import json
import pickle
import zipfile

from fuzz_changes import binary_change as change
from fuzz_files import written

from edgekit.checkpoint import open_checkpoint

__all__ = ["change", "read", "seeds"]


class _Hostile:
    def __reduce__(self):
        return (open, ("/dev/null",))


def seeds() -> list[bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Hostile()))
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "0" * 64}
    return [
        packed.getvalue(), pickle.dumps(_Hostile()), json.dumps({"layers": [layer]}).encode(), b"<!DOCTYPE html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", b"\x89HDF\r\n\x1a\n", b"GGUF", b"",
    ]  # fmt: skip


def read(data: bytes) -> None:
    for name in ("weights", "pytorch_model.bin", "weights.gguf"):
        open_checkpoint(written(name, data)).close()
