"""A headless Chromium, by the W3C WebDriver protocol, and servers whose pages it opens.

Needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ports import free_port

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "no chromedriver: `apt-get install chromium chromium-driver` on Debian"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1500,1000",
)  # fmt: skip
PATIENCE = 60.0  # s until a page must show what it should
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # what WebDriver calls an element's id


class Browser:
    """A browser with one window.

    Args:
        driver: address of chromedriver.
        profile: folder of its own.
    """

    def __init__(self, driver: str, profile: Path) -> None:
        self.address = driver
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        always = {"browserName": "chrome", "goog:chromeOptions": options}
        answer = self.ask("session", capabilities={"alwaysMatch": always})
        self.address = f"{driver}/session/{answer['sessionId']}"

    def ask(self, path: str, **body: Any) -> Any:
        """Say something to the driver and return its answer."""
        data = json.dumps(body).encode() if body else None
        request = Request(f"{self.address}/{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def close(self) -> None:
        """End it."""
        with urlopen(Request(self.address, method="DELETE"), timeout=60):
            pass

    def open(self, address: str) -> None:
        """Load a page, anew if it is the one that is shown."""
        self.ask("url", url="about:blank")
        self.ask("url", url=address)

    def run(self, script: str, *given: object) -> Any:
        """Run JavaScript on the page and return what it returns."""
        return self.ask("execute/sync", script=script, args=list(given))

    def picture(self) -> bytes:
        """What can be seen, as PNG."""
        return b64decode(self.ask("screenshot"))

    def text(self) -> str:
        """What can be read on the page (or in the frame)."""
        return str(self.run("return document.body ? document.body.innerText : ''"))

    def enter(self, css: str) -> None:
        """Go on inside a frame."""
        found = self.ask("element", using="css selector", value=css)
        self.ask("frame", id={ELEMENT: found[ELEMENT]})

    def count(self, css: str) -> int:
        """Count elements."""
        return int(self.run("return document.querySelectorAll(arguments[0]).length", css))

    def sees(self, *words: str) -> str:
        """Wait until all words can be read and return the text."""

        def all_there() -> str | None:
            text = self.text()
            return text if all(word in text for word in words) else None

        return str(patiently(all_there, lambda: f"{words} not in:\n{self.text()}"))


def patiently(look: Callable[[], Any], complain: Callable[[], str]) -> Any:
    """Look until there is something, or fail after a while."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            found = look()
        except (HTTPError, URLError, ConnectionError):  # not ready yet
            found = None
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(complain())


@contextmanager
def serving(*command: str, health: str, log: Path) -> Iterator[str]:
    """Run a server on a free port of this machine (`{}` in the command) and give its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as out:
        server = subprocess.Popen(
            [part.format(port) for part in command], stdout=out, stderr=out, start_new_session=True
        )
    try:
        patiently(lambda: _answers(f"{address}/{health}"), log.read_text)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def _answers(address: str) -> bool:
    with urlopen(address, timeout=5) as answer:
        return bool(answer.status == 200)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser whose profile is in a folder."""
    assert DRIVER, MISSING
    with serving(DRIVER, "--port={}", health="status", log=folder / "driver.log") as driver:
        opened = Browser(driver, folder / "profile")
        try:
            yield opened
        finally:
            opened.close()
