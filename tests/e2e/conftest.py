"""The whole line: the real demo, the real server, and the page in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest
from playwright.sync_api import Page, sync_playwright

from ..helpers.waiting import wait_for

#: Seconds that anything on a busy machine may take.
PATIENCE = 60.0


#: What a browser may complain of: a server that was killed on purpose, and what that refused.
_EXPECTED = ("ERR_CONNECTION", "a status of 409 (Conflict)", "a status of 422 (Unprocessable")


def wait_until(true: Callable[[], Any], what: str) -> Any:
    """Wait, as long as a busy machine may take, for something to come about, and return it."""
    return wait_for(true, what, PATIENCE)


class Processes:
    """Processes of a test, each of which is ended by its id."""

    def __init__(self) -> None:
        self._started: List[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def serve(self, port: int) -> subprocess.Popen[str]:
        """A server that is ready."""
        process = self.start("otf_serve", "--json", "--port", str(port))
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        return process

    def demo(self, port: int, *arguments: str) -> subprocess.Popen[str]:
        return self.start("onthefly.cli", "demo", "--port", str(port), *arguments)

    def end_all(self) -> None:
        for process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.communicate(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.communicate()


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.end_all()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _chromium() -> Optional[str]:
    given = os.environ.get("CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome")
    return given or next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    arguments = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """A page whose console has to stay free of errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    problems: List[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    yield page
    context.close()
    assert [text for text in problems if not any(each in text for each in _EXPECTED)] == []


@pytest.fixture
def link(home: Any, port: int) -> Callable[[], str]:
    """The address with the token, as the server prints it."""

    def found() -> str:
        return f"http://127.0.0.1:{port}/?token={Path(home.token_file).read_text().strip()}"

    return found
