"""A headless Chromium, driven by Selenium, and servers whose pages it opens.

Needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from ports import free_port

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "no chromedriver: `apt-get install chromium chromium-driver` on Debian"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1500,1000",
)
TIMEOUT = 60.0  # s until a page must show what a test expects


class Browser(webdriver.Chrome):
    """A browser with one window."""

    def open(self, address: str) -> None:
        """Load a page, again if it is already open."""
        self.get("about:blank")
        self.get(address)

    def text(self) -> str:
        """Return the readable text of the page (or of the frame)."""
        return str(self.execute_script("return document.body ? document.body.innerText : ''"))

    def enter(self, css: str) -> None:
        """Switch to a frame."""
        self.switch_to.frame(self.find_element(By.CSS_SELECTOR, css))

    def count(self, css: str) -> int:
        """Return the number of elements that a selector matches."""
        return len(self.find_elements(By.CSS_SELECTOR, css))

    def sees(self, *words: str) -> str:
        """Wait until the page contains all words, and return its text."""
        wait_for(
            lambda: all(word in self.text() for word in words),
            lambda: f"{words} not in:\n{self.text()}",
        )
        return self.text()


def wait_for(condition: Callable[[], Any], message: Callable[[], str]) -> Any:
    """Wait until a condition is true, and return its value.

    Raises:
        AssertionError: It is not true after a minute; with the message.
    """
    wait = WebDriverWait(None, TIMEOUT, 0.3, [OSError, WebDriverException])  # type: ignore[type-var]
    try:
        return wait.until(lambda _: condition())
    except TimeoutException:
        raise AssertionError(message()) from None


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser with its profile in a folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    with Browser(options, webdriver.ChromeService(DRIVER)) as opened:
        yield opened


@contextmanager
def serving(*command: str, health: str, log: Path) -> Iterator[str]:
    """Run a server on a free port (`{}` in the command) and return its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as out:
        server = subprocess.Popen(
            [part.format(port) for part in command], stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_for(lambda: urlopen(f"{address}/{health}", timeout=5).status == 200, log.read_text)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
