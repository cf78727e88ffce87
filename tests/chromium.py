"""Headless Chromium over its DevTools pipe: opens a page from disk, looks at it, and tells what it did.

No package is needed beyond the browser (Debian: `apt-get install chromium`). The pictures in docs/images are made by
`python -m tests.chromium REPORT.html docs/images`.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SECONDS = 60.0
_TASK = "ThreadControllerImpl::RunTask"
"""The event of the performance timeline that spans one task of a thread; its `dur` is in microseconds."""


class Chromium:
    """One browser process; use `browser()`."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol; returns its result, keeps events that come before it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._receive()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return dict(found["result"])
            self.events.append(found)

    def wait_for(self, method: str, session: str) -> None:
        """Wait for an event of a page."""
        while not any(one.get("method") == method and one.get("sessionId") == session for one in self.events):
            self.events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, "Chromium does not answer"
            got = os.read(self._read, 1 << 20)
            assert got, f"Chromium ended: {self._process.poll()}"
            self._buffer += got
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def stop_tracing(self) -> list[dict[str, Any]]:
        """The events of the performance timeline since tracing was started."""
        self.send("Tracing.end")
        while not any(one.get("method") == "Tracing.tracingComplete" for one in self.events):
            self.events.append(self._receive())
        chunks = [one["params"]["value"] for one in self.events if one.get("method") == "Tracing.dataCollected"]
        return [event for chunk in chunks for event in chunk]

    def open(
        self,
        path: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        phone: bool = False,
        script: bool = True,
        trace: bool = False,
    ) -> Page:
        """Open a file in a tab of its own and wait until it is loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            page.send(f"{domain}.enable")
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[scheme])
        page.send("Emulation.setScriptExecutionDisabled", value=not script)
        if trace:
            config = {"includedCategories": ["toplevel", "devtools.timeline", "__metadata"]}
            self.send("Tracing.start", transferMode="ReportEvents", traceConfig=config)
        page.send("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired", session)
        return page


class Page:
    """One tab."""

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium, self._session = chromium, session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command to this tab."""
        return self._chromium.send(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited. Raises AssertionError when it throws."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int = 0) -> None:
        """Press and release a key, as the keyboard would."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, *, top: int = 0, width: int = 1280, height: int = 900, scale: float = 1.0) -> None:
        """A PNG of a part of the page."""
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": scale}
        found = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def events(self, method: str) -> list[dict[str, Any]]:
        """What events of one kind this tab has sent so far."""
        self.send("Runtime.evaluate", expression="0")
        mine = [one for one in self._chromium.events if one.get("sessionId") == self._session]
        return [one["params"] for one in mine if one.get("method") == method]

    @property
    def complaints(self) -> list[str]:
        """What the console shows: errors of scripts, refusals of the content security policy, calls of console."""
        thrown = [str(one["exceptionDetails"]) for one in self.events("Runtime.exceptionThrown")]
        logged = [one["entry"]["text"] for one in self.events("Log.entryAdded")]
        return thrown + logged + [str(one["args"]) for one in self.events("Runtime.consoleAPICalled")]

    @property
    def requested(self) -> list[str]:
        """Every address that was asked for."""
        return [one["request"]["url"] for one in self.events("Network.requestWillBeSent")]

    def main_thread_seconds(self) -> float:
        """Work of the page's main thread since it began to load, from the performance timeline.

        Wall-clock of its tasks. The page must have been opened with `trace`.
        """
        self.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 500)))")
        timeline = self._chromium.stop_tracing()
        url = self.requested[0]
        parsed = [one for one in timeline if one["name"] == "ParseHTML" and one.get("ph") == "X"]
        ours = {(one["pid"], one["tid"]) for one in parsed if one["args"]["beginData"]["url"] == url}
        assert len(ours) == 1, "one thread parses the page"
        tasks = [one for one in timeline if one["name"] == _TASK and (one["pid"], one["tid"]) in ours]
        return float(sum(one.get("dur", 0) for one in tasks)) / 1e6

    def metrics(self) -> dict[str, float]:
        """Chromium's counters: TaskDuration, ScriptDuration, LayoutDuration, ... in seconds."""
        return {one["name"]: one["value"] for one in self.send("Performance.getMetrics")["metrics"]}


@contextmanager
def browser() -> Iterator[Chromium]:
    """A Chromium of its own, with a profile that is thrown away."""
    assert BINARY is not None
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def wire() -> None:
        # Copies first: the ends may be 3 and 4 themselves, in either order.
        read, write = os.dup(to_read), os.dup(from_write)
        os.dup2(read, 3)
        os.dup2(write, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            BINARY,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--remote-debugging-pipe", "--no-first-run", "--disable-background-networking", "--mute-audio"),
            f"--user-data-dir={profile}",
        ]
        process = subprocess.Popen(command, close_fds=False, preexec_fn=wire, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(from_write)
        try:
            yield Chromium(process, to_write, from_read)
        finally:
            # Without its pipe the browser ends by itself, and takes its own processes along.
            os.close(to_write)
            os.close(from_read)
            process.wait(timeout=_SECONDS)


_WIDTHS = {"desktop": 1280, "phone": 390, "dark": 1280}


def portray(report: Path, folder: Path) -> None:
    """Write the pictures of the documentation: report-desktop.png, report-phone.png and report-dark.png."""
    with browser() as chromium:
        for name, width in _WIDTHS.items():
            phone = name == "phone"
            tab = chromium.open(report, width=width, height=844, dark=name == "dark", phone=phone)
            path = folder / f"report-{name}.png"
            tab.screenshot(path, width=width, height=1688 if phone else 2200, scale=1.0 if phone else 0.64)


if __name__ == "__main__":
    portray(Path(sys.argv[1]), Path(sys.argv[2]))
