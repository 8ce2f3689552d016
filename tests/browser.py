"""A real headless browser and real servers, on this machine only, gone when a test ends."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WAIT = 150_000  # ms; a busy machine is slow
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: nothing is looked at in a browser"
)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def serve(command: list[str], port: int, log: Path, **environment: str):
    """Run a server with all its children until the block ends; enter when the port answers."""
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + WAIT / 1000
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        print(log.read_text()[-4000:])  # pytest shows it if the test failed


@contextmanager
def open_browser(profile: Path, width: int = 1400, height: int = 1000, **options):
    """Open a browser; yield its page, whose `outside` lists what it asked of other machines.

    Options are Playwright's, such as has_touch=True. Pages from a folder count as outside.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=list(FLAGS),
            viewport={"width": width, "height": height},
            **options,
        )
        page = context.pages[0]
        page.set_default_timeout(WAIT)
        page.outside = []
        own = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
        page.on("request", lambda r: r.url.startswith(own) or page.outside.append(r.url))
        try:
            yield page
        finally:
            context.close()


def keep(page, name: str) -> None:
    """Keep a screenshot where the variable ATARILENS_SCREENSHOTS names a folder."""
    if folder := os.environ.get("ATARILENS_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
