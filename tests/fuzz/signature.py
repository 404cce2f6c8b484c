"""The signature of an artifact, and a public key."""

import json

from fuzz_changes import binary_change as change
from fuzz_files import written

from edgekit.artifact.signature import FILE_NAME, check_signature, open_public_key
from edgekit.errors import UsageError

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    key = b"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    pem = b"-----BEGIN PUBLIC KEY-----\n%b\n-----END PUBLIC KEY-----\n" % key
    return [json.dumps({"public_key": "ab" * 32, "signature": "cd" * 64}, indent=2).encode() + b"\n", pem]


def read(data: bytes) -> None:
    try:
        open_public_key(written("key.pem", data))
    except UsageError as error:
        _ = error.message
    check_signature(written(f"signed/{FILE_NAME}", data).parent, "0" * 64, None)
