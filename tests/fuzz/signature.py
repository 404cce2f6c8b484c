"""The signature of an artifact, and both kinds of keys."""

from functools import cache

from fuzz_changes import binary_change as change
from fuzz_files import scratch, written

from edgekit.artifact.signature import FILE_NAME, check_signature, make_keys, open_private_key, open_public_key, sign
from edgekit.errors import UsageError

__all__ = ["change", "read", "seeds"]
_DIGEST = "0" * 64


@cache
def seeds() -> list[bytes]:
    """The private key, the public key and the signature."""
    folder = scratch() / "signature"
    folder.mkdir()
    public = make_keys(folder / "key.pem")
    sign(folder, _DIGEST, folder / "key.pem")
    return [path.read_bytes() for path in (folder / "key.pem", public, folder / FILE_NAME)]


def read(data: bytes) -> None:
    path = written("key.pem", data)
    for opened in (open_private_key, open_public_key):
        try:
            opened(path)
        except UsageError as error:
            _ = error.message
    if not data.startswith(b"-"):
        check_signature(written(f"signed/{FILE_NAME}", data).parent, _DIGEST, None)
