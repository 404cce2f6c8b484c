"""``edgekit.sig``: an Ed25519 signature (RFC 8032) of an artifact's digest, which covers every file of the artifact.

The file is one JSON object, with sorted keys and an indentation of two spaces:

    algorithm    "ed25519"
    format       "edgekit-signature"
    public_key   64 hexadecimal digits
    signature    128 hexadecimal digits, of the bytes "edgekit artifact DIGEST\\n"

It tells who has signed only to a reader who has the public key from elsewhere: anybody can sign with a key of their
own. Keys are in PEM files, as ``openssl genpkey -algorithm ed25519`` and :func:`make_keys` write them. The package
cryptography, the extra ``sign``, does the arithmetic.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..durable import sync, write_file
from ..errors import MissingPackageError, UsageError, VerificationError
from ..json_file import read_bounded
from ..json_text import json_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FILE_NAME = "edgekit.sig"
_FORMAT, _ALGORITHM = "edgekit-signature", "ed25519"
_KEY, _SIGNATURE = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{128}")
_MAX_BYTES = 64 * 1024
_HINT = "edgekit keygen KEY makes a key and KEY.pub, as does openssl genpkey -algorithm ed25519"


@dataclass(frozen=True)
class Signature:
    """The content of ``edgekit.sig``: the public key and the signature, both as hexadecimal digits."""

    public_key: str
    signature: str

    def text(self) -> str:
        """The file's only valid content."""
        fields = {
            "algorithm": _ALGORITHM,
            "format": _FORMAT,
            "public_key": self.public_key,
            "signature": self.signature,
        }
        return json_text(fields, indent=2, sort_keys=True) + "\n"


def make_keys(path: Path) -> Path:
    """Make a new pair of keys.

    Args:
        path: The file of the private key, which is readable by its owner only. It must not exist.

    Returns:
        The file of the public key: the same name with ``.pub``.

    Raises:
        MissingPackageError: The package cryptography is not installed.
        UsageError: One of the files exists, or cannot be written.
    """
    _, serialization, ed25519 = _cryptography()
    if not path.name:
        raise UsageError(f"the key's file is {str(path)!r}, which has no name", hint="give a name, such as release.pem")
    public = path.with_name(f"{path.name}.pub")
    key = ed25519.Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if os.path.lexists(public):
        raise UsageError(
            f"{public} already exists", hint="choose another name: a key that is lost cannot be made again"
        )
    try:
        with _new_file(path) as file:
            file.write(private_pem)
            file.flush()
            sync(file.fileno())
            write_file(public, public_pem)
    except FileExistsError:
        raise UsageError(
            f"{path} already exists", hint="choose another name: a key that is lost cannot be made again"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write the key {path}: {error.strerror}") from None
    return public


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner can read. It is removed if the block fails."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            yield file
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise


def sign(folder: Path, digest: str, key: str | PathLike[str]) -> str:
    """Write ``edgekit.sig`` into an artifact.

    Args:
        folder: The artifact.
        digest: Its digest.
        key: The PEM file of the private key.

    Returns:
        The public key, as hexadecimal digits.

    Raises:
        MissingPackageError: The package cryptography is not installed.
        UsageError: The key cannot be used.
        OSError: The file cannot be written.
    """
    private = open_private_key(key)
    signature = Signature(_hex(private.public_key()), private.sign(_message(digest)).hex())
    write_file(folder / FILE_NAME, signature.text().encode())
    return signature.public_key


def sign_file(path: Path, signature: Path, key: str | PathLike[str]) -> None:
    """Sign the content of a file as it is: 64 bytes, which openssl checks too.

        openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in FILE -sigfile FILE.sig

    Args:
        path: The file.
        signature: The file to write.
        key: The PEM file of the private key.

    Raises:
        MissingPackageError, UsageError, OSError: As for :func:`sign`.
    """
    write_file(signature, open_private_key(key).sign(path.read_bytes()))


def open_private_key(path: str | PathLike[str]) -> Ed25519PrivateKey:
    """Read a private key; see :func:`sign` for the exceptions."""
    _, serialization, ed25519 = _cryptography()
    content = read_bounded(Path(path), _MAX_BYTES, UsageError)
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError:
        raise UsageError(f"{path} is encrypted; edgekit asks for no passwords", hint=_HINT) from None
    except Exception:  # the package has no common base class
        if b"PUBLIC KEY-----" in content:
            raise UsageError(f"{path} is a public key; signing needs the private key", hint=_HINT) from None
        raise UsageError(f"{path} is not a private key in PEM format", hint=_HINT) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key", hint=_HINT)
    return key


def open_public_key(path: str | PathLike[str]) -> str:
    """Read a public key: the 32 bytes as hexadecimal digits.

    Args:
        path: The PEM file of the public key, or these digits themselves.

    Raises:
        MissingPackageError: The package cryptography is not installed.
        UsageError: It is not an Ed25519 public key.
    """
    _, serialization, ed25519 = _cryptography()
    text = os.fspath(path).lower()
    if _KEY.fullmatch(text):
        return text
    content = read_bounded(Path(path), _MAX_BYTES, UsageError)
    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # the package has no common base class
        if b"PRIVATE KEY-----" in content:
            raise UsageError(f"{path} is a private key; the public key is needed here", hint=_HINT) from None
        raise UsageError(f"{path} is not a public key in PEM format", hint=_HINT) from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UsageError(f"{path} is not an Ed25519 key", hint=_HINT)
    return _hex(key)


def read_signature(folder: Path) -> Signature | None:
    """The signature of an artifact; None if it has none.

    Raises:
        VerificationError: The file is not a signature. Every byte of it counts.
    """
    path = folder / FILE_NAME
    if not os.path.lexists(path):
        return None
    content = read_bounded(path, _MAX_BYTES, VerificationError)
    try:
        found: Any = json.loads(content)
        signature = Signature(found["public_key"], found["signature"])
        digits = _KEY.fullmatch(signature.public_key) and _SIGNATURE.fullmatch(signature.signature)
        valid = bool(digits) and content == signature.text().encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise VerificationError(f"{path} is damaged, or not a signature", hint="copy or build the artifact again")
    return signature


def check_signature(folder: Path, digest: str, public_key: str | None) -> str | None:
    """Check the signature of an artifact.

    Args:
        folder: The artifact.
        digest: Its digest, as it was computed.
        public_key: The key that must have signed it, as :func:`open_public_key` gives it; None: any.

    Returns:
        The public key that has signed it; None if it is not signed.

    Raises:
        MissingPackageError: The package cryptography is not installed.
        VerificationError: The signature is not valid, or it is not that of the key.
    """
    signature = read_signature(folder)
    if signature is None:
        if public_key is not None:
            raise VerificationError(f"{folder} is not signed, and a signature by {public_key} is demanded")
        return None
    exceptions, _, ed25519 = _cryptography()
    if public_key is not None and signature.public_key != public_key:
        raise VerificationError(f"{folder} is signed by {signature.public_key}, not by {public_key}")
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key))
        key.verify(bytes.fromhex(signature.signature), _message(digest))
    except (exceptions.InvalidSignature, ValueError):
        raise VerificationError(
            f"{folder / FILE_NAME} is not a signature of this artifact: the artifact or the signature was changed"
        ) from None
    return signature.public_key


def _message(digest: str) -> bytes:
    return f"edgekit artifact {digest}\n".encode()


def _hex(key: Ed25519PublicKey) -> str:
    _, serialization, _ = _cryptography()
    raw: bytes = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return raw.hex()


def _cryptography() -> tuple[Any, Any, Any]:
    """The modules of the package cryptography: exceptions, serialization, ed25519."""
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise MissingPackageError.for_extra("sign", ["cryptography"], "signing or checking a signature") from None
    return exceptions, serialization, ed25519
