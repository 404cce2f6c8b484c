"""The digest of an artifact: 64 hexadecimal digits that stand for every byte of every file in it.

``edgekit.json`` lists the SHA-256 and the size of all other files, so the SHA-256 of ``edgekit.json`` covers them too.
It holds its own digest, for which 64 zeros stand while it is hashed:

    digest = SHA-256(edgekit.json with the value of "digest" replaced by zeros)

Anybody can compute it: ``sed s/DIGEST/$(printf %064d 0)/ edgekit.json | sha256sum``. An artifact of format version 1
has no field ``digest``; its digest is the SHA-256 of the file as it is. The signature (``signature.py``) is outside.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from ..errors import UsageError

ZEROS = "0" * 64
_DIGITS = re.compile(r"[0-9a-f]{64}")
FIRST_VERSION = 2  # the first format version with a digest


def is_digest(text: object) -> bool:
    """Whether a value is 64 hexadecimal digits in lower case."""
    return isinstance(text, str) and _DIGITS.fullmatch(text) is not None


def parse_digest(text: str) -> str:
    """A digest as people write it: in upper or lower case, with or without ``sha256:``.

    Raises:
        UsageError: It is something else.
    """
    digest = text.strip().lower().removeprefix("sha256:")
    if not is_digest(digest):
        raise UsageError(
            f"{text[:80]!r} is not a digest: it must have 64 hexadecimal digits",
            hint="edgekit verify ARTIFACT shows it",
        )
    return digest


def with_digest(text: str) -> tuple[str, str]:
    """Put its digest into the text of a manifest.

    Args:
        text: The text, with zeros as its digest.

    Returns:
        The text and the digest.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    before = f'\n  "digest": "{ZEROS}"'  # a field of the outermost object: inside strings, quotes are escaped
    if text.count(before) != 1:
        raise AssertionError("a manifest has one digest")
    return text.replace(before, before.replace(ZEROS, digest)), digest


def digest_of(content: bytes, stated: Any) -> str:
    """The digest of a manifest.

    Args:
        content: The bytes of the file.
        stated: The value of its field ``digest``; None if it has none.
    """
    if is_digest(stated):
        content = content.replace(stated.encode(), ZEROS.encode(), 1)
    return hashlib.sha256(content).hexdigest()
