"""A real TensorBoard serves a recorded run to a real headless browser, on this machine only."""

import base64
import io
import json
import shlex
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browser import free_port, keep, needs_chromium, open_browser, serve
from PIL import Image

from atarilens.apps.recorder import AgentRecorder, tensorboard_command

pytestmark = needs_chromium
TAGS = {"game": [160, 210], "saliency": [320, 464], "yours/inverted": [160, 210]}
TAGS |= {"within/last_convolution": [140, 140], "within/memory": [100, 100]}


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
        activations=True,
        visualisations={"inverted": lambda frame, network: 255 - frame},
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
    many = recorder._current.writer
    for step in range(25):  # more than the ten that TensorBoard samples by default
        many.add_image("within/many", np.full((3, 8, 8), step / 25), step)
    many.flush()
    recorder.writer.flush()
    yield logdir
    recorder.close()


@pytest.fixture(scope="module")
def address(logdir, tmp_path_factory) -> str:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, *shlex.split(tensorboard_command(logdir))[1:], "--port", str(port)]
    with serve(command, port, log) as address:
        for _ in range(240):
            if b"000000" in urllib.request.urlopen(f"{address}/data/runs", timeout=30).read():
                break
            time.sleep(0.25)
        yield address


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile"), height=1700) as page:
        yield page


def wait(page, found, seconds: float = 60):
    """Return what `found` returns as soon as it is not empty."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"not seen within {seconds} s: {found.__name__}"
        page.wait_for_timeout(200)
    return result


def test_all_movies_play_in_the_images_tab(page, address):
    def images():
        """Find the images by (run, tag), which stand in their addresses."""
        shown = {}
        for image in page.locator("img").all():
            if "blob_key=" in (source := image.get_attribute("src") or ""):
                key = parse_qs(urlsplit(source).query)["blob_key"][0]
                parts = json.loads(base64.urlsafe_b64decode(key + "==="))
                for place in (i for i, part in enumerate(parts) if part in TAGS):
                    shown[parts[place - 1], parts[place]] = image
        return shown if len(shown) == len(TAGS) else None

    page.goto(f"{address}/#images")
    for group in ("within", "yours"):  # `game` and `saliency` are open from the start
        page.locator(".heading", has_text=group).click()
    shown = wait(page, images)
    assert set(shown) == {("episodes/000000", tag) for tag in TAGS}
    for (_, tag), image in shown.items():
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())
        assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == TAGS[tag]
        with urllib.request.urlopen(image.evaluate("image => image.src")) as answer:
            assert answer.headers["Content-Type"] == "image/gif"
            assert Image.open(io.BytesIO(answer.read())).n_frames > 1
    page.locator("img").first.scroll_into_view_if_needed()
    keep(page, "images")
    assert page.outside == []


def test_all_images_are_served_not_ten(page, address):
    query = "plugin=images&run=episodes%2F000001-running&tag=within%2Fmany"
    found = json.loads(
        page.evaluate(
            "address => fetch(address).then(answer => answer.text())",
            f"{address}/data/plugin/images/images?{query}",
        )
    )
    assert [image["step"] for image in found] == list(range(25))


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
