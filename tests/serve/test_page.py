"""The chat page: its files and headers, and, slowly, the page itself in a headless Chromium with tiny models."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import axe
import pytest
from asgi_client import request
from chromium import Chromium, Page
from shared_models import SharedModels

from edgekit.serve.page import FOLDER, page_paths

KEY = "a-key-of-the-test"
OWN = sorted(path for path in FOLDER.glob("*") if path.is_file())


def test_each_file_is_sent_with_its_type_and_a_strict_policy(make_app: Any) -> None:
    app = make_app()
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert {"/", "/page/app.js", "/page/style.css", "/page/lib/temml.min.js"} <= set(page_paths())
    for path, file in page_paths().items():
        found = request(app, "GET", path)
        assert (found.status, found.body) == (200, file.read_bytes())
        assert found.headers["content-type"].startswith(types[file.suffix])
        assert found.headers["x-content-type-options"] == "nosniff"
        policy = dict(rule.split(" ", 1) for rule in found.headers["content-security-policy"].split("; "))
        assert policy.pop("default-src") == policy.pop("frame-ancestors") == "'none'"
        assert set(policy.values()) == {"'self'", "'none'"}, "no unsafe-inline, no other origin"


def test_a_browser_asks_again_without_getting_the_same_again(make_app: Any) -> None:
    app = make_app()
    first = request(app, "GET", "/page/app.js")
    again = request(app, "GET", "/page/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert request(app, "GET", "/page/app.js", headers={"if-none-match": '"other"'}).status == 200
    head = request(app, "HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 1000


def test_nothing_else_is_sent(make_app: Any) -> None:
    app = make_app()
    for path in ("/page/", "/page/index.html", "/page/../page.py", "/page/..%2fpage.py", "/page/lib/LICENSE-temml.txt"):
        assert request(app, "GET", path).status == 404
    assert request(app, "POST", "/").status == 405
    assert request(app, "GET", "/", headers={"host": "elsewhere.example"}).status == 403


def test_the_page_needs_no_key_but_what_it_asks_for_does(make_app: Any) -> None:
    app = make_app(key=KEY)
    assert request(app, "GET", "/").status == request(app, "GET", "/page/app.js").status == 200
    assert request(app, "GET", "/page/none").status == request(app, "GET", "/v1/models").status == 401


def test_the_page_refers_to_its_own_files_only() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert {f"/{name}" for name in named} <= set(page_paths())
    assert not re.search(r"<script>|<style|\son\w+=|style=", html)
    for path in OWN:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(?:src|href|url|fetch|from|import)\W{1,3}https?://", text), path.name
        if path.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
            for name in re.findall(r'from "\./([^"]+)"', text):
                assert (FOLDER / name).is_file()


def test_the_library_has_its_licence() -> None:
    assert "MIT License" in (FOLDER / "lib" / "LICENSE-temml.txt").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 400_000


class Tamed:
    """The application for tiny random models: the same answer each time, and a pause after each part of a stream."""

    def __init__(self, app: Any) -> None:
        self._app, self.pause_s = app, 0.0

    async def __call__(self, scope: Any, receive: Any, send: Callable[[MutableMapping[str, Any]], Any]) -> None:
        async def slowly(message: MutableMapping[str, Any]) -> None:
            await send(message)
            if message.get("more_body"):
                await asyncio.sleep(self.pause_s)

        async def greedily() -> MutableMapping[str, Any]:
            message: MutableMapping[str, Any] = await receive()
            if message.get("body"):
                message["body"] = b'{"temperature": 0, ' + message["body"].removeprefix(b"{")
            return message

        await self._app(scope, greedily, slowly)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application in a thread; yields its URL."""
    import uvicorn

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)


def ready(page: Page) -> None:
    page.wait("document.body?.dataset.state === 'ready'", 20)


def ask(page: Page, text: str) -> None:
    page.run("document.getElementById('question').focus()")
    page.type(text)
    page.key("Enter", 13, "\r")


def answered(page: Page, state: str = "done") -> None:
    page.wait("document.getElementById('log').ariaBusy === 'false'", 20)
    found = page.run("document.querySelector('.answer:last-child').dataset.state")
    assert found in (state, "length"), page.text()


def click(page: Page, label: str, within: str = "document") -> None:
    page.run(f"[...{within}.querySelectorAll('button')].find((each) => each.textContent.trim() === '{label}').click()")


def choose(page: Page, select: str, value: str) -> None:
    page.run(f"({select}.value = '{value}', {select}.dispatchEvent(new Event('change')), 0)")


def count(page: Page, selector: str) -> int:
    return int(page.run(f"document.querySelectorAll({json.dumps(selector)}).length"))


def fits(page: Page) -> bool:
    """Whether nothing reaches beyond the right edge."""
    return bool(page.run("document.documentElement.scrollWidth <= innerWidth"))


MARKDOWN = r"""# One

Text with **strong**, *emphasis*, `code`, $x^2$, \(\frac{1}{2}\), [a link](https://example.org/a) and
[none](javascript:alert(1)).
<img src=x onerror="document.title='owned'"> It costs $5 and $10.

- a
  - b

3. c

```python
print("<b>")
```

| a | b |
|---|--:|
| 1 | $y$ |

> quoted

$$\textbf{x} \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$$

$$\notacommand{$$
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium; .ci/run installs it")
@pytest.mark.skipif(not axe.available(), reason="needs npm, or axe-core, which .ci/run downloads with it")
def test_the_page_in_a_browser(make_app: Any, models: SharedModels, reasoning_artifact: Path, tmp_path: Path) -> None:
    folders = {"thinks": reasoning_artifact, "plain": models.artifact()}
    app = Tamed(make_app(folders=folders))
    with serving(app) as url, Chromium(tmp_path / "profile") as browser:
        page = browser.open(url, 320, 640)
        page.call("Network.enable")
        ready(page)
        assert axe.violations(page) == []
        conversation(page, app)
        kept(page)
        other_model(page)
        look(page)
        rendering(page)
        assert [each for each in page.errors() if "status of 400" not in each] == []  # that one is meant
        asked = [event["params"]["request"]["url"] for event in browser.events if "request" in event.get("params", {})]
        assert len(asked) > 10
        assert [each for each in asked if not each.startswith(url)] == []
    with serving(Tamed(make_app(folders=folders, key=KEY))) as url, Chromium(tmp_path / "other") as browser:
        page = browser.open(url, 390, 800)
        key(page)


def conversation(page: Page, app: Tamed) -> None:
    """Thought and answer, stop, regenerate, edit, by the keyboard where there are keys for it."""
    choose(page, "budget", "1")
    app.pause_s = 0.5  # so that each part is seen
    ask(page, "Hello")
    page.wait("document.querySelector('summary')?.textContent.startsWith('Thinking')")
    assert page.run("document.querySelector('details').open") is False
    app.pause_s = 0
    answered(page)
    assert re.search(r"Thought for [\d.]+ m?s, \d+ tokens", page.text())
    assert re.search(r"\d+ tokens · [\d.]+ tokens/s", page.text())
    assert page.run("document.querySelector('.markdown').textContent.length") > 0, page.text()
    assert fits(page)
    choose(page, "budget", "")
    app.pause_s = 0.5
    click(page, "Regenerate")
    page.wait("document.querySelector('summary')?.textContent.startsWith('Thinking')")
    page.key("Escape", 27)
    answered(page, "stopped")
    assert re.search(r"\d tokens? · .*MB of memory · stopped after", page.text()), page.text()
    app.pause_s = 0
    choose(page, "budget", "1")
    click(page, "Regenerate")
    answered(page)
    assert count(page, "article") == 2
    page.run("document.querySelector('.answer > .actions button').focus()")
    page.key("Enter", 13, "\r")
    page.wait("document.activeElement.textContent === 'Copied'")
    without_network(page)
    ask(page, "And then?")
    answered(page)
    assert count(page, "article") == 4
    click(page, "Edit")
    assert page.run("document.activeElement.ariaLabel") == "Edit the message"
    page.key("Escape", 27)
    assert page.run("document.activeElement.textContent") == "Edit"
    click(page, "Edit")
    page.run("document.activeElement.select()")
    page.type("Good evening")
    page.key("Enter", 13, "\r")
    answered(page)
    assert count(page, "article") == 2
    assert "Good evening" in page.text()
    assert "Hello" not in page.text()


def without_network(page: Page) -> None:
    """A new answer that fails leaves the one before."""
    before = page.run("document.querySelector('.answer .markdown').textContent")
    page.run("(window.online = fetch, window.fetch = () => Promise.reject(new TypeError('offline')), 0)")
    click(page, "Regenerate")
    page.wait("document.querySelector('#log > .trouble')?.textContent === 'The server cannot be reached.'")
    page.run("(window.fetch = window.online, 0)")
    assert page.run("document.querySelector('.answer .markdown').textContent") == before
    assert count(page, "article") == 2


def kept(page: Page) -> None:
    """What a reload and the history show."""
    before = page.run("document.querySelector('.answer .markdown').textContent")
    page.run("document.body.dataset.state = ''")
    page.call("Page.reload")
    with suppress(AssertionError):  # an expression that is evaluated while the page is exchanged
        ready(page)
    ready(page)
    assert page.run("document.querySelector('.answer .markdown').textContent") == before
    click(page, "New chat")
    ask(page, "Another")
    answered(page)
    page.run("chats.click()")
    page.wait("document.querySelectorAll('#chats-list li').length === 2")
    assert axe.violations(page) == []
    assert fits(page)
    click(page, "Delete", "document.getElementById('chats-list')")
    page.wait("document.querySelectorAll('#chats-list li').length === 1")
    page.run("document.querySelector('.chat').click()")
    page.wait("document.querySelector('.question')?.textContent.includes('Good evening')")


def other_model(page: Page) -> None:
    """A model that does not think has no budget, and an error is shown as the server says it."""
    choose(page, "model", "plain")
    assert page.run("thinking.hidden")
    click(page, "New chat")
    ask(page, "Hello")
    answered(page)
    assert page.run("document.querySelector('details').hidden")
    click(page, "New chat")
    ask(page, "many words " * 300)
    answered(page, "failed")
    assert "the context holds 256" in page.text()


def look(page: Page) -> None:
    """Widths and colours."""
    for width, dark in ((320, True), (390, False), (1280, True), (1280, False)):
        page.resize(width, 800, dark)
        assert fits(page)
        assert axe.violations(page) == []
    click(page, "Settings")
    choose(page, "theme", "dark")
    assert axe.violations(page) == []
    assert page.run("getComputedStyle(document.body).colorScheme") == "dark"
    page.key("Escape", 27)
    assert not page.run("document.querySelector('dialog[open]')")


def rendering(page: Page) -> None:
    """Markdown as elements, in one go and as it grows."""
    script = f"""(async () => {{
      const {{ drawMarkdown }} = await import("/page/markdown.js");
      const text = {json.dumps(MARKDOWN)}, whole = document.createElement("div"), grown = document.createElement("div");
      whole.className = grown.className = "markdown";
      document.getElementById("log").replaceChildren(whole);
      drawMarkdown(whole, text);
      for (let end = 0; end <= text.length; end++) drawMarkdown(grown, text.slice(0, end));
      await new Promise((resolve) => setTimeout(resolve, 500)); // the library for formulas is loaded
      drawMarkdown(grown, "");
      drawMarkdown(grown, text);
      const kinds = [...whole.children].map((each) => each.className || each.localName);
      return [whole.innerHTML === grown.innerHTML, kinds.join(" ")];
    }})()"""
    same, blocks = page.run(script)
    assert same
    assert blocks == "level1 p ul ol code table blockquote display display".replace("display", "maths display")
    assert page.run("document.title") != "owned"
    assert count(page, "#log img") == 0
    assert page.run("[...document.querySelectorAll('#log a')].map((each) => each.href)") == ["https://example.org/a"]
    assert page.run("document.querySelector('#log pre').textContent") == 'print("<b>")'
    assert page.run("document.querySelector('#log ol').start") == 3
    assert (count(page, "#log math"), count(page, "#log .maths > code")) == (4, 1)
    assert count(page, "#log li li") == 1
    assert "It costs $5 and $10." in page.text()
    page.resize(320, 640)
    assert fits(page)
    assert axe.violations(page) == []


def key(page: Page) -> None:
    """A server with a key asks for it, says when it is wrong, and answers with it."""
    page.wait("document.activeElement?.id === 'key'")
    assert axe.violations(page) == []
    page.type("wrong")
    page.key("Enter", 13, "\r")
    page.wait("document.getElementById('key-trouble').textContent")
    page.type(KEY)
    page.key("Enter", 13, "\r")
    page.wait("document.activeElement?.id === 'question'")
    ask(page, "Hello")
    answered(page)
    assert page.run("localStorage.getItem('key')") is None
