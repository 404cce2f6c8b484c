"""A stand-in for the Hugging Face hub: a server on the loopback interface that can break connections.

huggingface_hub reads its environment when it is imported, so whatever fetches from this hub runs in its own process.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """A server with one repository; its revision is known as ``main`` and by its commit."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], repository: str = "someone/tiny") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.repository = files, repository
        self.requests: list[tuple[str, str, str | None]] = []
        self.break_at: int | None = None
        self.status: tuple[int, str] | None = None
        self.ranges = True  # whether it sends ranges of files, and not whole ones
        self.about: dict[str, object] = {}  # changes to what it says about the repository
        self.cut = 0  # answers that the client did not read to their end

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, cache: Path) -> dict[str, str]:
        """The environment of a process that fetches from this hub into its own cache."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def fetched(self, suffix: str) -> list[str | None]:
        """The Range headers of the requests for the contents of files with this suffix."""
        return [range_ for method, path, range_ in self.requests if method == "GET" and path.endswith(suffix)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: object) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        if self.server.status is not None:
            status, code = self.server.status
            return self.reply(b"{}", status, {"X-Error-Code": code})
        repository, _, rest = path.removeprefix("/api/models").removeprefix("/").partition("/resolve/")
        if path.startswith("/api/models/"):
            return self.api(path.removeprefix("/api/models/"))
        if repository != self.server.repository:
            return self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        return self.file(rest.partition("/")[2])

    def api(self, path: str) -> None:
        if not path.startswith(self.server.repository):
            return self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        kind, _, revision = path.removeprefix(self.server.repository).strip("/").partition("/")
        if revision.partition("/")[0] not in ("main", COMMIT):
            return self.reply(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        files = self.server.files
        if kind == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324
                for name, content in files.items()
            ]
            return self.reply(json.dumps(entries).encode())
        info = {"id": self.server.repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return self.reply(json.dumps({**info, **self.server.about}).encode())

    def file(self, name: str) -> None:
        content = self.server.files.get(name)
        if content is None:
            return self.reply(b"", 404, {"X-Error-Code": "EntryNotFound"})
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        asked = self.headers.get("Range") if self.server.ranges else None
        start, stop = 0, len(content)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else stop, stop)
            if start >= len(content):
                return self.reply(b"", 416)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        break_at = self.server.break_at
        if self.command == "GET" and name == "model.safetensors" and break_at is not None:
            self.server.break_at = None
            self.reply(content[start:], 200, headers, send=break_at)
            self.close_connection = True
            self.connection.close()
            return None
        return self.reply(content[start:stop], 206 if asked else 200, headers)

    def reply(
        self, content: bytes, status: int = 200, headers: dict[str, str] | None = None, send: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            try:
                self.wfile.write(content[:send])
                self.wfile.flush()
            except ConnectionError:
                self.server.cut += 1


@contextmanager
def serving(files: dict[str, bytes], repository: str = "someone/tiny") -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    server = Hub(files, repository)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
