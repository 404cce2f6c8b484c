"""The chat page at ``/``: static files that talk to the server's own API (page/app.js).

They hold no secrets, so they need no key. Their Content-Security-Policy lets them load from and connect to this server
only, and run no script but theirs: what a model writes can do nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from .http import Receive, Scope, Send

FOLDER = Path(__file__).with_name("page")
_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip


def page_paths() -> dict[str, Path]:
    """The page's files by the path of their URL."""
    files = (path for path in FOLDER.rglob("*") if path.suffix in _TYPES and path.name != "index.html")
    return {"/": FOLDER / "index.html", **{f"/page/{path.relative_to(FOLDER).as_posix()}": path for path in files}}


class PageFile:
    """A file of the page as an ASGI application for GET and HEAD.

    Args:
        path: The file, which is read now.
    """

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'.encode()
        self._headers = [
            (b"content-type", _TYPES[path.suffix].encode()),
            (b"content-security-policy", _POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"cache-control", b"no-cache"),  # asks whether the tag still holds: another version may serve next
            (b"etag", self._tag),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = self._tag in dict(scope["headers"]).get(b"if-none-match", b"")
        length = [] if known else [(b"content-length", str(len(self._body)).encode())]
        status = 304 if known else 200
        await send({"type": "http.response.start", "status": status, "headers": [*self._headers, *length]})
        body = b"" if known or scope["method"] == "HEAD" else self._body
        await send({"type": "http.response.body", "body": body})
