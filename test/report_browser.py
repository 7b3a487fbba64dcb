"""A headless Chromium over its DevTools protocol: open a page, press keys, read what it shows."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "no Chromium here; install it: sudo apt-get install --no-install-recommends chromium"
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "Enter": 13}
KEYS |= {"Escape": 27, " ": 32}
SHIFT = 8


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers, self._session = socket, itertools.count(1), ""
        self.complaints: list[str] = []
        """Errors and warnings of the console, uncaught exceptions, failed requests."""
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the browser's answer to a command."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(
            json.dumps(message | ({"sessionId": self._session} if self._session else {}))
        )
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        method, content = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = content["exceptionDetails"]
            self.complaints.append(
                details.get("exception", details).get("description", str(details))
            )
        elif method == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning"):
            self.complaints.append(str(content["args"]))
        elif method == "Log.entryAdded" and content["entry"]["level"] in ("error", "warning"):
            self.complaints.append(content["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])

    def open(self, path: Path) -> None:
        """Load a report and wait until it is drawn."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes'")
        self.settle()

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str, within_s: float = 30.0) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + within_s
        while not self.value(condition):
            assert time.monotonic() < until, (
                f"not within {within_s} s: {condition} {self.complaints}"
            )
            time.sleep(0.05)

    def settle(self) -> None:
        """Wait for two frames: resize observers have drawn by then."""
        self.value("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key where the focus is."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        typed = {"text": " "} if key == " " else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **common, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **common)
        self.settle()

    def click(self, selector: str, right: float = 0.5, down: float = 0.5) -> None:
        """Move the pointer into an element and press its left button."""
        x, y = self.hover(selector, right, down)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def hover(self, selector: str, right: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """Move the pointer into an element, by parts of its size; return where it is [px]."""
        found = json.dumps(selector)
        box = self.value(
            f"(() => {{ const e = document.querySelector({found});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height]; })()"
        )
        x, y = box[0] + right * box[2], box[1] + down * box[3]
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()
        return x, y

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Set the window's size [px] and the colours that the system prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, clip: dict[str, float] | None = None) -> bytes:
        """Return a PNG of the window, or of a part of the page (x, y, width, height) [px]."""
        part = {} if clip is None else {"clip": clip | {"scale": 1}, "captureBeyondViewport": True}
        shot = self.call("Page.captureScreenshot", format="png", **part)
        return base64.b64decode(shot["data"])


@contextmanager
def browser_page() -> Iterator[Page]:
    """A tab of a fresh browser, which ends with it; skips the test where there is no Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(INSTALL)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--hide-scrollbars"]
        options += ["--disable-background-networking", "--mute-audio"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        log = Path(profile) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [program, *options], stdin=subprocess.DEVNULL, stderr=errors
            )
        try:
            with connect(_address(process, Path(profile)), max_size=None) as socket:
                page = Page(socket)
                yield page
                page.call("Page.close")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    """Return the address at which the browser listens."""
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, ValueError):
            port, path = (profile / "DevToolsActivePort").read_text().split("\n")
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not begin: {(profile / 'log').read_text()[-2000:]}")
