"""A saved state of a session, loaded by the native library."""

import atexit
from functools import cache
from typing import Any

from fuzz_changes import binary_change as change
from fuzz_files import artifact, scratch, written

import edgekit

__all__ = ["change", "read", "seeds"]


@cache
def _session() -> Any:
    session = edgekit.load(artifact("state"), engine="native", context=64, threads=1)
    atexit.register(session.close)
    return session


def seeds() -> list[bytes]:
    session, path = _session(), scratch() / "saved"
    session.generate([3, 4, 5], max_tokens=2, temperature=0).complete()
    path.unlink(missing_ok=True)
    session.engine.save(path)
    return [path.read_bytes()]


def read(data: bytes) -> None:
    _session().engine.load(written("state-changed", data))
