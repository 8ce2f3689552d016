"""The explorer without a kernel: a browser computes what the library computes, and asks nobody."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from browser import free_port, keep, needs_chromium, open_browser, serve

from atarilens import load_agent, overlay, perturbation_saliency, rollout
from atarilens.apps.explorer.decision import probe
from atarilens.play.inference import read_episodes
from atarilens.play.trajectories import save_replay
from compendium.pages import explorer

STEPS = explorer.SPACING + 4  # so that the page has to compute a memory that is not stored
SHORT = tuple(
    replace(recording, start=start, steps=STEPS, opening=start + 2)
    for recording, start in zip(explorer.RECORDINGS, (90, 60, 60), strict=True)
)
OTHER = {"stride": 10, "radius": 3, "blur": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("explorer")
    explorer.write_explorer(where, SHORT)
    return where


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    """The page, opened from its folder."""
    profile = tmp_path_factory.mktemp("profile")
    with open_browser(profile, 1400, 900, has_touch=True) as page:
        page.told = []
        page.on("console", lambda message: page.told.append(message.text))
        page.on("pageerror", lambda error: page.told.append(str(error)))
        page.goto((folder / "index.html").as_uri())
        yield page


@pytest.fixture(scope="module")
def games():
    """Agent -> (agent, screens, observations, memory, logits, values) of the steps shown."""
    found = {}
    for recording in SHORT:
        agent = load_agent(recording.agent)
        played, _ = explorer.opening_of(recording.replay, recording.start + STEPS)
        read = read_episodes(agent, played["frames"], played["episode"])
        found[agent.name] = agent, played | read
    return found


def follow(page, link: str) -> None:
    """Open a link to a moment, as someone who was sent it does."""
    page.evaluate("delete document.body.dataset.ready")
    page.evaluate("link => { location.hash = link }", link)
    page.wait_for_selector("body[data-ready]")


def close(found, expected, share: float = 1e-3) -> bool:
    return np.abs(np.asarray(found) - expected).max() <= share * np.abs(expected).max()


def test_what_is_shown_is_the_replay(tmp_path):
    game = rollout(load_agent("untrained-pong"), seed=3, max_steps=12)
    played, _ = explorer.opening_of(save_replay(game, tmp_path / "short.npz"), 12)
    for name, values in played.items():
        assert np.array_equal(values, getattr(game, name)), name


def test_too_large_a_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(explorer, "LARGEST", 1e4)
    with pytest.raises(ValueError, match=r"the explorer is 0\.\d MB, expected at most 0\.01"):
        explorer.write_explorer(tmp_path, ())


def test_another_network_is_refused():
    agent = load_agent("untrained-pong")
    agent = replace(agent, facts=agent.facts | {"architecture": "gru"})
    with pytest.raises(ValueError, match="'gru', expected 'lstm'"):
        explorer.weights(agent)


@needs_chromium
@pytest.mark.parametrize("recording", SHORT, ids=lambda recording: recording.title)
def test_its_numbers_are_the_librarys(page, games, recording):
    agent, played = games[recording.agent]
    last = recording.start + STEPS - 1
    follow(page, f"#agent={agent.name}&episode={recording.replay}&step={last}&pixel=70,45")
    found = json.loads(
        page.evaluate(
            """async ([step, other]) => {
                const plain = (key, x) => (ArrayBuffer.isView(x) ? Array.from(x) : x);
                return JSON.stringify({
                    stored: atarilens.storedMap(step), usual: await atarilens.map(step),
                    other: await atarilens.map(step, other),
                    decision: await atarilens.decision(step),
                    spot: await atarilens.spot(step, 70, 45), picture: atarilens.picture(step),
                    gain: atarilens.state.episode.gain,
                }, plain);
            }""",
            [last, OTHER],
        )
    )
    decision = played["observations"][last], played["memory"][last]
    maps = perturbation_saliency(agent.network, *decision)
    other = perturbation_saliency(agent.network, *decision, stride=10, mask_sigma=3, blur_sigma=2)
    for head in ("actor", "critic"):
        grid = getattr(maps, f"{head}_grid")
        assert close(found["usual"][head], grid.ravel()), head
        assert close(found["stored"][head], grid.ravel()), head
        assert close(found["other"][head], getattr(other, f"{head}_grid").ravel()), head
    assert np.allclose(found["decision"]["logits"], played["action_logits"][last], atol=1e-4)
    assert np.isclose(found["decision"]["value"], played["values"][last], atol=1e-4)
    image = overlay(played["frames"][last], maps, agent.region, found["gain"])
    shown = np.reshape(found["picture"], (210, 160, 4))[..., :3]
    assert np.abs(shown.astype(int) - image).max() <= 1
    spot = probe(agent, SimpleNamespace(**played), last, (70, 45))
    assert close(found["spot"]["image"], spot.observation.ravel(), 1e-6)
    assert np.allclose(found["spot"]["after"]["logits"], spot.logits[1], atol=1e-4)
    assert np.isclose(found["spot"]["after"]["value"], spot.value[1], atol=1e-4)
    assert np.isclose(found["spot"]["actor"], spot.actor_score, rtol=1e-3, atol=1e-6)


@needs_chromium
def test_a_link_that_is_opened_meanwhile_is_not_overwritten(page):
    follow(page, "#agent=pong-strong")
    page.evaluate("""() => {
        document.querySelector('#copy').click(); // the page writes its link 150 ms later
        history.replaceState(null, '', '#agent=breakout-strong');
    }""")
    page.wait_for_timeout(500)
    assert page.evaluate("location.hash") == "#agent=breakout-strong"


@needs_chromium
def test_people_scrub_click_and_send_a_moment(page):
    start, opening = SHORT[1].start, SHORT[1].opening
    follow(page, "#agent=pong-strong")
    moment, asked = page.locator("#moment"), page.locator("#asked")
    assert moment.inner_text().startswith(f"Step {opening} ")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"atarilens.state.step === {opening + 1}")
    page.focus("#step")
    page.keyboard.press("Home")
    page.wait_for_function(f"atarilens.state.step === {start}")
    page.click("#play")
    page.wait_for_function(f"atarilens.state.step > {start + 2}")
    page.click("#play")
    assert page.locator("#play").inner_text() == "Play"

    box = page.locator("#screen").bounding_box()
    at = {"x": 0.5 * box["width"], "y": 0.507 * box["height"]}  # the middle of row 35
    page.locator("#screen").click(position=at)
    page.wait_for_function("document.querySelector('#asked').textContent.includes('row 35, col')")
    row = page.locator("#probabilities tr").first.inner_text()
    assert row.count("0.") == 2
    page.focus("#screen")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#asked').textContent.includes('row 36, col')")
    page.locator("#screen").tap(position=at)
    page.wait_for_function("document.querySelector('#asked').textContent.includes('row 35, col')")

    page.focus("#density")
    page.keyboard.press("ArrowLeft")  # fewer spots
    page.focus("#radius")
    page.keyboard.press("ArrowRight")
    words = "document.querySelector('#map-state').textContent"
    page.wait_for_function(f"{words} === '8 × 8 spots, computed here'")
    page.wait_for_function("location.hash.includes('radius=5.5')")
    link, answer = page.evaluate("location.hash"), asked.inner_text()
    step = page.evaluate("atarilens.state.step")
    assert f"agent=pong-strong&episode=pong-strong&step={step}&pixel=35," in link
    keep(page, "kernel-free-explorer")
    follow(page, "#agent=breakout-strong")
    follow(page, link)
    assert asked.inner_text() == answer
    assert page.evaluate("atarilens.state.settings") == {"radius": 5.5, "blur": 3, "stride": 10}
    follow(page, "#agent=nobody&step=7&pixel=90,1")
    said = page.locator("#problem").inner_text()
    assert "the agent “nobody”; there is breakout-strong, pong-strong" in said
    assert "the step “7”; expected 90 to" in said
    assert "the row “90”; expected 0 to 79" in said


@needs_chromium
def test_it_fits_a_phone_and_names_what_can_be_used(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "kernel-free-explorer-phone")
    page.set_viewport_size({"width": 1400, "height": 900})
    bottom = page.locator("#asked").bounding_box()
    assert bottom["y"] + bottom["height"] <= 900
    nameless = """[...document.querySelectorAll("button, input, select, canvas, svg, progress")]
        .filter(e => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
        .map(e => e.outerHTML)"""
    assert page.evaluate(nameless) == []


@needs_chromium
def test_from_a_folder_and_from_a_server_it_asks_nobody_else(page, folder, tmp_path):
    def outside():
        return [url for url in page.outside if not url.startswith(folder.as_uri())]

    assert (page.told, outside()) == ([], [])
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with serve([*command, "--directory", str(folder)], port, tmp_path / "log.txt") as address:
        page.goto(f"{address}/index.html#agent=spaceinvaders-strong&step=70&pixel=70,45")
        page.wait_for_selector("body[data-ready='spaceinvaders-strong 70']")
        assert "Blurred at row 70, column 45" in page.locator("#asked").inner_text()
        assert page.evaluate("atarilens.map(70, {stride: 10}).then(map => map.side)") == 8
        assert (page.told, outside()) == ([], [])
