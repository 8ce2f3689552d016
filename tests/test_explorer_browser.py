"""A real browser drives the explorer, in Voilà as `make app` starts it and in JupyterLab."""

import json
import re
import shutil
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import nbformat
import papermill
import pytest
from browser import WAIT, free_port, keep, needs_chromium, open_browser, serve
from nbclient import NotebookClient
from nbclient.output_widget import OutputWidget

from atarilens import load_agent, save_agent
from atarilens.apps.explorer import drawing
from atarilens.paths import NOTEBOOKS, ROOT

NOTEBOOK = "10_explore_an_agent.ipynb"
REGION = (35, 195, 0, 160)  # what every agent of ours sees of the screen
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def in_voila(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make: `make app` cannot be run")
    port = free_port()
    options = f"APP=--no-browser --port={port}"
    command = ["make", "-C", str(ROOT), "app", f"PY={sys.executable}", options]
    with serve(command, port, tmp_path / "log.txt", OMP_NUM_THREADS="1") as address:
        yield address


@pytest.fixture
def in_lab(tmp_path):
    port = free_port()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    small = {"agent": "untrained-pong", "max_steps": 40}
    papermill.execute_notebook(
        str(NOTEBOOKS / NOTEBOOK), str(folder / NOTEBOOK), small, prepare_only=True
    )
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token="]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    own = {
        f"JUPYTERLAB_{name}_DIR": str(tmp_path / name.lower())
        for name in ("WORKSPACES", "SETTINGS")
    }
    with serve(command, port, tmp_path / "log.txt", OMP_NUM_THREADS="1", **own) as address:
        yield address


def wait_for(page, selector: str, words: str) -> None:
    """Wait until an element's text holds some words."""
    page.wait_for_function(
        "([selector, words]) => document.querySelector(selector)?.textContent.includes(words)",
        arg=[selector, words],
    )


def pixels(page, place: str = ".al-screen") -> str:
    return page.locator(f"{place} canvas").first.evaluate("canvas => canvas.toDataURL()")


def step_of(page) -> int:
    return int(re.search(r"step (\d+) of", page.locator(".al-title").inner_text())[1])


def wait_for_other_pixels(page, before: str) -> str:
    page.wait_for_function(
        "old => document.querySelector('.al-screen canvas').toDataURL() !== old", arg=before
    )
    return pixels(page)


def drive(page, name: str) -> None:
    """Do what a person does, and read back what changed."""
    page.wait_for_selector(".al-screen .al-picture[data-painted]")
    size = page.locator(".al-screen canvas").evaluate("canvas => [canvas.width, canvas.height]")
    assert size == [160, 210]
    assert page.locator(".al-bar").count() in (4, 6)
    seen = pixels(page)

    start = step_of(page)
    assert start > 0  # something moves there
    handle = page.locator(".al-screen .noUi-handle")
    handle.focus()
    page.keyboard.press("ArrowRight")
    wait_for(page, ".al-title", f"step {start + 1} of")
    seen = wait_for_other_pixels(page, seen)
    page.keyboard.press("PageUp")
    page.wait_for_function(
        "step => !document.querySelector('.al-title').textContent.includes(step)",
        arg=f"step {start + 1} of",
    )
    seen = wait_for_other_pixels(page, seen)

    picture = page.locator(".al-screen .al-picture")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    place = {"x": 0.3 * box["width"], "y": 0.6 * box["height"]}
    picture.click(position=place)
    page.wait_for_selector(".al-probe table")
    row, column = drawing.pixel_at(0.3, 0.6, REGION, (80, 80))
    found = page.locator(".al-probe").inner_text()
    at = re.search(r"Blurred at row (\d+), column (\d+)", found)
    assert abs(int(at[1]) - row) <= 1
    assert abs(int(at[2]) - column) <= 1
    assert "logits moved by" in found
    assert "value moved by" in found
    assert page.locator(".al-screen ellipse.probe").count() == 1
    assert "→" in page.locator(".al-bars").inner_text()
    keep(page, f"explorer-{name}")
    page.keyboard.press("Escape")
    page.wait_for_selector(".al-screen ellipse.probe", state="detached")

    ask_what_if(page, name)
    look_inside(page, name)
    picture.focus()
    page.keyboard.press("Home")
    wait_for(page, ".al-title", "step 0 of")
    page.keyboard.press("Space")
    page.wait_for_function(  # a busy machine skips steps
        "Number(document.querySelector('.al-title').textContent.match(/step (\\d+)/)[1]) >= 3"
    )
    page.keyboard.press("Space")

    page.keyboard.press("End")
    seen = pixels(page)
    page.get_by_role("button", name="Jacobian").click()
    seen = wait_for_other_pixels(page, seen)
    curve = page.locator(".al-curves .al-picture").first
    curve.click(position={"x": 0.5 * curve.bounding_box()["width"], "y": 20})
    page.wait_for_function(
        """() => {
            const [step, last] = document.querySelector('.al-title').textContent
                .match(/step (\\d+) of (\\d+)/).slice(1).map(Number);
            return Math.abs(step - last / 2) <= 2;
        }"""
    )

    title = page.locator(".al-title").inner_text()
    other = "Space Invaders" if "Space" not in title else "Pong"
    page.get_by_label("Game", exact=True).select_option(label=other)
    wait_for(page, ".al-title", f"plays {other}")
    wait_for_other_pixels(page, seen)
    assert page.locator(".al-error").count() == 0
    assert page.outside == []


def look_inside(page, name: str) -> None:
    """Show hidden activations, the spread of jittered maps, and another agent side by side."""
    shown = {pixels(page, ".al-seen")}
    for kind in ("last convolution", "memory"):
        page.get_by_label("Network", exact=True).select_option(label=kind)
        wait_for(page, ".al-seen", "red positive")
        page.wait_for_function(
            "known => !known.includes(document.querySelector('.al-seen canvas').toDataURL())",
            arg=list(shown),
        )
        shown.add(pixels(page, ".al-seen"))
    page.get_by_label("Network", exact=True).select_option(label="spread of the maps")
    wait_for(page, ".al-seen", "tick “Mean of jittered maps”")
    page.get_by_label("Mean of 8 jittered maps").check()
    wait_for(page, ".al-seen", "standard deviation over 8 jittered maps")
    page.get_by_label("Mean of 8 jittered maps").uncheck()
    page.get_by_label("Network", exact=True).select_option(label="what it reads")
    wait_for(page, ".al-seen", "the newest screen")
    title = page.locator(".al-title h1").inner_text().lower()
    game = next(game for game in ("pong", "breakout") if game in title)
    for other in (f"untrained-{game}", f"{game}-early"):
        if not title.startswith(other):
            page.get_by_label("Beside", exact=True).select_option(label=other)
            break
    wait_for(page, ".al-screen", f"{other} (right)")
    assert page.locator(".al-screen canvas").count() == 2
    keep(page, f"explorer-{name}-beside")
    page.get_by_label("Beside", exact=True).select_option(label="nothing")
    page.wait_for_function("document.querySelectorAll('.al-screen canvas').length === 1")


def ask_what_if(page, name: str) -> None:
    """Move the paddle in the game, and look at both futures."""
    card = page.locator(".al-whatif")
    card.get_by_label("Object", exact=True).select_option(label="paddle")
    change = card.get_by_label("Change", exact=True)
    moves = change.locator("option", has_text="move ")
    moves.first.wait_for(state="attached")
    for deed in moves.all_inner_texts():  # the paddle may stand at the wall
        change.select_option(label=deed)
        card.evaluate("card => card.querySelector('.al-error')?.classList.remove('al-error')")
        card.get_by_role("button", name="Play both games").click()
        page.wait_for_selector(".al-whatif .al-answer table, .al-whatif .al-error")
        if card.locator(".al-answer table").count():
            break
    wait_for(page, ".al-answer", "The map promises")
    wait_for(page, ".al-answer", "the policy moves by")
    page.wait_for_function("document.querySelectorAll('.al-future canvas').length === 2")
    page.wait_for_function(
        "() => new Set([...document.querySelectorAll('.al-future canvas')]"
        ".map(canvas => canvas.toDataURL())).size === 2"
    )
    first = pixels(page, ".al-future")
    card.locator(".noUi-handle").last.focus()
    page.keyboard.press("PageUp")
    page.wait_for_function(
        "old => document.querySelector('.al-future canvas').toDataURL() !== old", arg=first
    )
    card.scroll_into_view_if_needed()
    keep(page, f"explorer-{name}-what-if")


def run_all_cells(page, address: str) -> None:
    """Run the notebook that is open in JupyterLab, once its kernel is there and connected."""
    page.locator(".jp-CodeCell").first.wait_for()
    for _ in range(WAIT // 500):
        kernels = json.loads(urllib.request.urlopen(f"{address}/api/kernels").read())
        if kernels and kernels[0]["connections"] and kernels[0]["execution_state"] == "idle":
            break
        page.wait_for_timeout(500)
    page.wait_for_timeout(1000)
    page.locator(".jp-Cell").first.click()
    for _ in page.locator(".jp-Cell").all():
        page.keyboard.press("Shift+Enter")


def test_nothing_is_written_to_the_kernel_while_the_page_is_made(tmp_path, monkeypatch):
    """A request beside a running cell can hide its reply from nbclient; Voilà waits for ever."""
    sent = []

    def send(widget, *arguments, **others):
        sent.append(widget.comm_id)
        return original(widget, *arguments, **others)

    original = OutputWidget.send
    monkeypatch.setattr(OutputWidget, "send", send)
    small = {"agent": "untrained-pong", "max_steps": 40}
    notebook = tmp_path / NOTEBOOK
    papermill.execute_notebook(str(NOTEBOOKS / NOTEBOOK), str(notebook), small, prepare_only=True)
    client = NotebookClient(nbformat.read(notebook, as_version=4), timeout=WAIT / 1000)
    made = client.execute()
    widgets = made.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert "OutputModel" in {widget["model_name"] for widget in widgets}
    assert sent == []


def test_the_explorer_in_voila(page, in_voila):
    page.goto(in_voila)
    drive(page, "voila")


def test_the_explorer_in_jupyterlab(page, in_lab):
    page.goto(f"{in_lab}/lab/tree/{NOTEBOOK}")
    run_all_cells(page, in_lab)
    drive(page, "lab")


def test_a_checkpoint_is_opened_in_the_browser(page, in_voila, tmp_path):
    agent = load_agent("untrained-pong")
    weights = save_agent(replace(agent, name="mine"), tmp_path / "mine")
    page.goto(in_voila)
    page.wait_for_selector(".al-screen .al-picture[data-painted]")
    page.get_by_label("Game", exact=True).select_option(label="Pong")
    wait_for(page, ".al-title", "plays Pong")
    with page.expect_file_chooser() as chooser:
        page.locator(".widget-upload").click()
    chooser.value.set_files([weights, weights.with_suffix(".yml")])
    wait_for(page, ".al-title", "mine plays Pong")
    assert page.locator(".al-error").count() == 0


@pytest.fixture
def quiz_in_voila(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "voila", "--Voila.ip=127.0.0.1", "--template=atarilens"]
    command += ["--no-browser", f"--port={port}", str(NOTEBOOKS / "11_which_agent_cheats.ipynb")]
    own = {"JUPYTER_PATH": str(Path(drawing.__file__).parent), "OMP_NUM_THREADS": "1"}
    with serve(command, port, tmp_path / "log.txt", **own) as address:
        yield address


def test_the_quiz_fits_the_window_and_says_what_was_right(page, quiz_in_voila):
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto(quiz_in_voila)
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector(".al-clip img")
    wait_for(page, ".al-title", "Clip 1 of 6")
    questions = page.locator(".al-questions .widget-toggle-buttons")
    assert questions.count() == 3
    for k in range(3):
        questions.nth(k).get_by_role("button", name="can't tell").click()
    page.get_by_role("button", name="Check").click()
    wait_for(page, ".al-feedback", "0 of 3 right")
    button = page.get_by_role("button", name="Next clip")
    for part in (page.locator(".al-clip img"), button):
        box = part.bounding_box()
        assert box["y"] + box["height"] <= 900
        assert box["x"] + box["width"] <= 1400
    keep(page, "quiz")
    button.click()
    wait_for(page, ".al-title", "Clip 2 of 6")
    assert page.outside == []


def test_make_app_listens_on_this_machine_only():
    recipe = (ROOT / "Makefile").read_text().split("\napp:")[1].split("\n\n")[0]
    assert "--Voila.ip=127.0.0.1" in recipe
    assert Path(ROOT / "notebooks" / NOTEBOOK).is_file()
