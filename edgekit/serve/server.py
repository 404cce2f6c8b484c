"""Binds the socket and runs uvicorn."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

from ..errors import ServerError, UsageError
from ..json_file import read_bounded
from .app import make_app
from .guard import is_loopback, loopback_hosts
from .http import SEND_TIMEOUT_S
from .models import Models
from .options import ServeOptions

KEY_VARIABLE = "EDGEKIT_API_KEY"
_SHORTEST_KEY = 16  # characters
_LARGEST_KEY_FILE = 4096  # bytes
_END_S = 5.0  # how long answers may go on after Ctrl-C


def serve(
    models: Models, options: ServeOptions, *, host: str, port: int, key: str | None, ready: Callable[[str], None]
) -> None:
    """Serve until the process is told to end.

    Args:
        models: The artifacts; closed at the end.
        options: The limits.
        host: The address to bind.
        port: The port; 0 for any that is free.
        key: The key that requests must carry, or None.
        ready: Called with the server's URL when it is bound.

    Raises:
        UsageError: The address can be reached from other machines, and there is no key.
        ServerError: The address cannot be bound.
    """
    import uvicorn

    from .connection import connections_of_at_most
    from .uvicorn_server import Server

    if key is None and not is_loopback(host):
        raise UsageError(
            f"--host {host} can be reached from other machines, so requests need a key",
            hint=f"put a key into a file and add --api-key-file FILE, or set {KEY_VARIABLE}",
        )
    # Encoding uses one thread of the request's own; the tokenizers library would start as many more as there are cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    bound = _bind(host, port)
    try:
        app = make_app(models, options, key=key, hosts=loopback_hosts(host) if is_loopback(host) else frozenset())
        config = uvicorn.Config(
            app, http=connections_of_at_most(options.connections), log_level="error", access_log=False, ws="none",
            server_header=False, lifespan="off",
        )  # fmt: skip
        address = f"[{host}]" if ":" in host else host
        ready(f"http://{address}:{bound.getsockname()[1]}")
        Server(config, end_s=_END_S, end_answers=models.close).run(sockets=[bound])
    finally:
        bound.close()
        models.close()


def read_key(path: Path | None) -> str | None:
    """The key from a file or from the environment; None if there is neither.

    Args:
        path: The file, which holds the key alone.

    Raises:
        UsageError: The file cannot be read or is not a regular file, or the key is too short or has characters that a
            header cannot hold.
    """
    if path is None:
        key, source = os.environ.get(KEY_VARIABLE), KEY_VARIABLE
        if key is None:
            return None
    else:
        source = f"--api-key-file {path}"
        try:
            key = read_bounded(path, _LARGEST_KEY_FILE, UsageError).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} cannot be read: it is not UTF-8: {error}") from None
    key = key.strip()
    if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"{source}: the key has {len(key)} characters; it must have at least {_SHORTEST_KEY}, all of them visible "
            "ASCII characters",
            hint="make one, for instance with: openssl rand -hex 24",
        )
    return key


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServerError(f"cannot use the address {host}: {error.strerror or error}") from None
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: the system closes connections whose clients read nothing
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * SEND_TIMEOUT_S))
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        hint = "choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise ServerError(f"cannot bind {host}, port {port}: {error.strerror or error}", hint=hint) from None
    return bound
