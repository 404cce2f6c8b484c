"""Drives a headless Chromium over its DevTools protocol, through two pipes: no driver and no package is needed.

    with Chromium(profile) as browser:
        page = browser.open("http://127.0.0.1:8000/")
        page.wait("document.readyState === 'complete'")

The protocol: https://chromedevtools.github.io/devtools-protocol/. Messages are JSON, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

# SwiftShader, Chromium's software Vulkan, gives WebGPU where there is no GPU.
_FLAGS = (
    "--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu-sandbox", "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan", "--disable-background-networking",
    "--disable-component-update", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


class Chromium:
    """A browser with a profile of its own, which keeps what pages store.

    Args:
        profile: The profile's folder; a folder that another Chromium used has what that one stored.
        flags: More command-line flags.
    """

    def __init__(self, profile: Path, *flags: str) -> None:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        assert program is not None, "these tests need Chromium: apt-get install chromium"
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        shell = f'exec 3<&{commands} 4>&{answers}; exec "$@"'
        log = profile.with_name(f"{profile.name}.log")
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                ["bash", "-c", shell, "bash", program, *_FLAGS, f"--user-data-dir={profile}", *flags],
                pass_fds=(commands, answers), stdout=errors, stderr=errors,
            )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._next_id = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.call("Browser.close", timeout=10)
        except (AssertionError, OSError):
            self._process.kill()
        self._process.wait(20)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, session: str = "", timeout: float = 60, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._next_id += 1
        number = self._next_id
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while True:
            answer = self._receive(deadline - time.monotonic())
            assert answer is not None, f"Chromium did not answer {method} within {timeout} s"
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self, timeout: float) -> dict[str, Any] | None:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(timeout, 0))[0]:
                return None
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        value: dict[str, Any] = json.loads(message)
        return value

    def open(self, url: str, width: int = 1280, height: int = 800) -> Page:
        """Open a tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        page.call("Page.enable")
        page.call("Runtime.enable")
        page.call("Log.enable")
        page.resize(width, height)
        page.call("Page.navigate", url=url)
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def run(self, script: str, timeout: float = 60) -> Any:
        """Evaluate an expression, which may be a promise, and return its value as JSON holds it."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, timeout, expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, timeout: float = 60) -> Any:
        """Wait until an expression is true, and return its value."""
        deadline = time.monotonic() + timeout
        while not (value := self.run(condition)):
            assert time.monotonic() < deadline, f"{condition} did not come true in {timeout} s; {self.text()}"
            time.sleep(0.05)
        return value

    def text(self) -> str:
        """The text that is visible."""
        return str(self.run("document.body.innerText"))

    def errors(self) -> list[str]:
        """What the console has shown as an error: exceptions, failed requests, and messages of the page itself."""
        self.run("0")  # takes in what has arrived
        found = []
        for event in self._browser.events:
            kind, details = event.get("method"), event.get("params", {})
            if event.get("sessionId") != self._session:
                continue
            if kind == "Runtime.exceptionThrown":
                found.append(str(details["exceptionDetails"]))
            elif kind == "Runtime.consoleAPICalled" and details["type"] in ("error", "assert"):
                found.append(str(details["args"]))
            elif kind == "Log.entryAdded" and details["entry"]["level"] == "error":
                found.append(str(details["entry"]))
        return found

    def resize(self, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
        """Set the size in CSS pixels and the colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def key(self, key: str, code: int = 0, text: str = "") -> None:
        """Press a key, such as Enter or Tab."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def type(self, text: str) -> None:
        """Type text into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
