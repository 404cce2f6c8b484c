"""The page of examples/web: served in ways that can go wrong, and used as a person would, in a headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from chromium import Page

EXAMPLE = Path(__file__).parents[2] / "examples" / "web"
sys.path.insert(0, str(EXAMPLE))
from prepare import CACHE  # noqa: E402
from serve import Handler, Server  # noqa: E402

QUESTION = "What is the capital of France?"


def lacking() -> str | None:
    """What this machine lacks to test the page; None if it has everything."""
    if shutil.which("chromium") is None:
        return "needs Chromium; .ci/run installs it"
    if not (os.environ.get("NPM") or shutil.which("npm") or CACHE.is_dir()):
        return "needs npm, or the packages that .ci/run downloads with it"
    return None


class QuietHandler(Handler):
    """Keeps what was asked for, instead of printing it."""

    asked: list[str] = []  # noqa: RUF012  (one for each class that `serving` makes)

    def log_message(self, *arguments: Any) -> None:
        self.asked.append(self.path)


class NoRanges(QuietHandler):
    def do_GET(self) -> None:  # noqa: N802  (http.server's name)
        del self.headers["Range"]
        super().do_GET()


class Breaking(QuietHandler):
    """Closes the connection in the middle of the weights' second part, for a while."""

    broken = True

    def do_GET(self) -> None:  # noqa: N802  (http.server's name)
        start = self.headers.get("Range", "bytes=0-")[6:].split("-")[0]
        if type(self).broken and self.path.endswith("_data") and start != "0":
            self.close_connection = True
            return
        super().do_GET()


class EndingServer(Server):
    """Closes the connections that browsers keep open, when it ends."""

    def __init__(self, folder: Path, handler: type[Handler]) -> None:
        super().__init__(folder, 0, handler)
        self._connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in self._connections:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(folder: Path, kind: type[QuietHandler] = QuietHandler) -> Iterator[tuple[str, type[QuietHandler]]]:
    """Serve a folder; yields its address and the handler, which knows what was asked for."""
    handler = type("Serving", (kind,), {"asked": []})
    server = EndingServer(folder, handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", handler
    finally:
        server.shutdown()
        server.server_close()


def tab_to(page: Page, element: str) -> None:
    """Move the focus to an element with the Tab key."""
    for _ in range(10):
        page.key("Tab", 9)
        if page.run("document.activeElement.id") == element:
            return
    raise AssertionError(f"Tab does not reach {element}")


def fits(page: Page) -> bool:
    """Whether nothing reaches beyond the right edge."""
    return bool(page.run("document.documentElement.scrollWidth <= innerWidth"))


def begin(page: Page) -> None:
    """Wait for the question whether to download, and say yes."""
    page.wait("document.getElementById('download')?.hidden === false", 20)
    page.run("document.getElementById('download').click()")


def ready(page: Page) -> None:
    page.wait("['ready', 'failed'].includes(document.body?.dataset.state)", 60)
    assert page.run("document.body.dataset.state") == "ready", page.text()


def ask(page: Page, question: str = QUESTION) -> None:
    """Type a question, by keyboard alone."""
    page.run("document.getElementById('question').focus()")
    page.type(question)
    page.key("Enter", 13, "\r")


def answered(page: Page) -> list[int]:
    """Wait for the end of the last answer; returns its tokens."""
    page.wait("document.querySelector('article:last-child')?.dataset.finish", 60)
    found: list[int] = json.loads(page.run("document.querySelector('article:last-child').dataset.ids"))
    return found


def notes(page: Page) -> str:
    return str(page.run("document.getElementById('notes').innerText"))
