"""Serves this folder at http://localhost:8000, with range requests and the headers that give WebAssembly threads.

Any web server will do; this one is for trying the page. It serves on this machine only, because browsers give a page
that comes over plain http from another machine neither storage nor WebGPU.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK_BYTES = 1 << 20


TYPES = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}


class Handler(SimpleHTTPRequestHandler):
    """Python's own file server, and ``Range: bytes=START-END``."""

    protocol_version = "HTTP/1.1"
    extensions_map = TYPES

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        size = path.stat().st_size
        start, end = int(wanted[1]), min(int(wanted[2]), size - 1)
        if start > end:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Content-Length", str(end - start + 1))
        self.end_headers()
        for chunk in chunks(path, start, end + 1):
            self.wfile.write(chunk)

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


def chunks(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (part := file.read(min(CHUNK_BYTES, end - start))):
            start += len(part)
            yield part


class Server(ThreadingHTTPServer):
    def __init__(self, folder: Path, port: int, handler: type[Handler] = Handler) -> None:
        super().__init__(("127.0.0.1", port), lambda *arguments: handler(*arguments, directory=str(folder)))

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes a connection is no error."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    server = Server(Path(__file__).resolve().parent, port)
    print(f"http://localhost:{server.server_port}   (Ctrl+C ends it)")
    with suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
