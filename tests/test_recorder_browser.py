"""A real TensorBoard serves a recorded run to a real headless browser, on this machine only."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from atarilens.apps.recorder import AgentRecorder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: TensorBoard is not looked at"
)
WAIT = 60_000  # ms, on a busy machine


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def logdir(tmp_path_factory, untrained_agent, short_trajectory) -> Path:
    """One finished episode of 12 steps, and one that is running."""
    logdir = tmp_path_factory.mktemp("tensorboard")
    recorder = AgentRecorder(
        logdir,
        untrained_agent.network,
        name=untrained_agent.name,
        every=1,
        action_meanings=untrained_agent.action_meanings,
        region=untrained_agent.region,
    )
    for t in range(17):
        recorder.update(
            short_trajectory.observations[t % 12],
            short_trajectory.actions[t % 12],
            float(t),
            t == 11,
            frame=short_trajectory.frames[t % 12],
            memory=short_trajectory.memory[t % 12],
        )
    recorder.writer.flush()
    yield logdir
    recorder.close()


@pytest.fixture(scope="module")
def address(logdir, tmp_path_factory) -> str:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                runs = urllib.request.urlopen(f"{address}/data/runs", timeout=5).read()
                if b"000000" in runs:
                    break
            except OSError:
                assert server.poll() is None, log.read_text()
            time.sleep(0.25)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=list(FLAGS),
            viewport={"width": 1400, "height": 1000},
        )
        yield context.pages[0]
        context.close()


def keep(page, name: str) -> None:
    """Keep a screenshot where the variable ATARILENS_SCREENSHOTS names a folder."""
    if folder := os.environ.get("ATARILENS_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def wait(page, found, seconds: float = 60):
    """Return what `found` returns as soon as it is not empty."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"not seen within {seconds} s: {found.__name__}"
        page.wait_for_timeout(200)
    return result


def test_both_movies_play_in_the_images_tab(page, address):
    def images():
        """Find the images by (run, tag), which stand in their addresses."""
        shown = {}
        for image in page.locator("img").all():
            if "blob_key=" in (source := image.get_attribute("src") or ""):
                key = parse_qs(urlsplit(source).query)["blob_key"][0]
                parts = json.loads(base64.urlsafe_b64decode(key + "==="))
                place = next(i for i, part in enumerate(parts) if part in ("game", "saliency"))
                shown[parts[place - 1], parts[place]] = image
        return shown if len(shown) == 2 else None

    page.goto(f"{address}/#images")
    shown = wait(page, images)
    sizes = {"game": [160, 210], "saliency": [320, 464]}
    assert set(shown) == {("episodes/000000", tag) for tag in sizes}
    for (_, tag), image in shown.items():
        page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())
        assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == sizes[tag]
        with urllib.request.urlopen(image.evaluate("image => image.src")) as answer:
            assert answer.headers["Content-Type"] == "image/gif"
            assert Image.open(io.BytesIO(answer.read())).n_frames > 1
    keep(page, "images")


def test_running_and_finished_episodes_are_told_apart(page, address):
    def runs():
        return {"episodes/000000", "episodes/000001-running"} <= {
            label.strip() for label in page.locator("span").all_text_contents()
        }

    page.goto(f"{address}/#images")
    wait(page, runs)


def test_the_projector_shows_every_step_as_its_screen(page, address):
    page.goto(f"{address}/#projector")

    def projector():
        return next((frame for frame in page.frames if "projector_binary" in frame.url), None)

    frame = wait(page, projector)
    number, dimension = frame.locator(".numDataPoints"), frame.locator(".dim")

    def twelve_points_of_256_dimensions():
        return (number.all_text_contents(), dimension.all_text_contents()) == (["12"], ["256"])

    wait(page, twelve_points_of_256_dimensions)

    def thumbnails():
        """Count the pixels of Pong's brown: nothing else in TensorBoard has that colour."""
        pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        brown = np.abs(pixels - [144, 72, 17]).max(-1) < 12
        return int(brown.sum()) > 12 * 40

    wait(page, thumbnails)
    keep(page, "projector")
