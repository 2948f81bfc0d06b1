"""A headless Chromium, driven over a pair of pipes by its DevTools protocol, and a server of static files."""

import contextlib
import fcntl
import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT = 120.0
"""Seconds after which a page that has not answered never will."""


class Silent(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as `python -m http.server` does; gives its address."""
    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Browser:
    """One page of a Chromium.

    Attributes:
        events: What it has told without being asked.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to, self.reader = os.fdopen(to_browser, "wb", 0), os.fdopen(from_browser, "rb")
        self.numbers, self.buffer = itertools.count(1), b""
        self.events: list[dict[str, Any]] = []
        self.session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        number = next(self.numbers)
        self.to.write(json.dumps({"id": number, "method": method, "params": params} | self.session).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                read = os.read(self.reader.fileno(), 2**16)
                assert read, "the browser has ended"
                self.buffer += read
            message, _, self.buffer = self.buffer.partition(b"\0")
            told = json.loads(message)
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]
            self.events.append(told)

    def run(self, script: str) -> Any:
        """Run a script in the page; gives the value of its last expression, or of the promise that it is."""
        options = {"awaitPromise": True, "returnByValue": True, "allowUnsafeEvalBlockedByCSP": False}
        made = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until a script gives something that is true."""
        end = time.monotonic() + WAIT
        while not (value := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"), self.events[-3:])
            time.sleep(0.02)
        return value

    def open(self, address: str) -> None:
        """Load a page; what the one before has told is forgotten."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def key(self, name: str, code: int, text: str = "", modifiers: int = 0) -> None:
        """Press and release a key."""
        key = {"key": name, "code": name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def told(self, method: str) -> list[dict[str, Any]]:
        """Give the parameters of every event of a kind."""
        self.call("Runtime.evaluate", expression="0")
        return [event["params"] for event in self.events if event.get("method") == method]


def high(number: int) -> int:
    """Give a copy of a file's number that is out of the way of 3 and 4."""
    made = fcntl.fcntl(number, fcntl.F_DUPFD, 10)
    os.close(number)
    return made


@contextlib.contextmanager
def browser(profile: Path, program: str, *flags: str) -> Iterator[Browser]:
    """Start a Chromium with a fresh profile; it reads commands on 3 and answers on 4."""
    (theirs_in, to_browser), (from_browser, theirs_out) = (map(high, os.pipe()) for _ in range(2))
    wire: Callable[[], object] = lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4))  # noqa: E731
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}", *flags]
    process = subprocess.Popen(
        command, preexec_fn=wire, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        page = Browser(to_browser, from_browser)
        yield page
        page.to.close()
    finally:
        process.terminate()
        process.wait(30)
