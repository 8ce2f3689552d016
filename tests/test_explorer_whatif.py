"""The explorer's what-if: two futures of one decision, beside what the map promised."""

import io

import numpy as np
import pytest
from PIL import Image

from atarilens import load_agent, perturbation_saliency, rollout
from atarilens.apps.explorer import Explorer, whatif
from atarilens.games.objects import object_boxes
from atarilens.measures import saliency_on
from atarilens.play import effects, intervene

STEP = 40


@pytest.fixture(scope="module")
def breakout():
    agent = load_agent("breakout-strong")
    return agent, rollout(agent, seed=1, max_steps=60, greedy=True)


@pytest.fixture(scope="module")
def page():
    return Explorer("breakout-strong", seed=1, steps=60, greedy=True)


def load_image(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_game_with_changes_offers_moves_and_removals():
    pong = whatif.deeds("pong")
    assert list(pong) == ["ball", "paddle", "opponent"]
    assert pong["ball"]["move up"] == pong["ball"]["move down"] == "ball_y"
    assert pong["ball"]["remove"] == "ball_gone"
    assert whatif.deeds("breakout")["bricks"] == {"remove": "brick_gone", "remove all": "wall_gone"}
    assert whatif.deeds("spaceinvaders")["bombs"] == {"remove": "bomb_gone"}
    assert whatif.deeds("tennis") == {}


@pytest.mark.parametrize(
    ("name", "words", "spelt"),
    [
        ("ball_x", "move left", "ball_x-6"),
        ("ball_x", "move right", "ball_x+6"),
        ("ball_y", "move up", "ball_y-6"),
        ("brick_gone", "remove", "brick_gone:2,7"),
        ("ball_gone", "remove", "ball_gone"),
    ],
)
def test_a_choice_is_spelt_as_the_library_reads_it(name, words, spelt):
    assert whatif.spelling("breakout", name, words, 6, (2, 7)) == spelt


def test_a_point_finds_its_object(breakout):
    ram = breakout[1].ram[STEP]
    top, bottom, left, right = object_boxes("breakout", ram)["ball"][0]
    middle = (top + bottom) / 2, (left + right) / 2
    assert whatif.object_at("breakout", ram, *middle) == ("ball", 0)
    assert whatif.object_at("breakout", ram, middle[0], left - 3) == ("ball", 0)
    assert whatif.object_at("breakout", ram, 58.0, 10.0) == ("bricks", 0)
    assert whatif.unit_of("breakout", "brick_gone", ram, 0) == (0, 0)
    assert whatif.object_at("breakout", ram, 205.0, 80.0) is None


def test_the_answer_is_that_of_the_library(breakout):
    agent, trajectory = breakout
    saliency = perturbation_saliency(agent.network, *trajectory.decision(STEP)).actor
    found = whatif.ask(agent, trajectory, STEP, "paddle_x+8", saliency)
    (both,) = intervene(
        trajectory, agent, [STEP], ["paddle_x+8"], horizon=whatif.HORIZON, film=True
    )
    assert found.tv == effects([both])["tv"][0] > 0
    np.testing.assert_array_equal(found.screens[:, 0], both.screens)
    np.testing.assert_array_equal(found.screens[:, 1:], both.future.screens)
    np.testing.assert_array_equal(found.screens[0, 1:20], trajectory.frames[STEP + 1 : STEP + 20])
    names = [agent.action_meanings[a] for a in both.future.actions[1]]
    assert found.actions[1] == names
    assert found.words == "paddle 8 px right"
    boxes = {"paddle": (object_boxes("breakout", trajectory.ram[STEP])["paddle"] - 35) / 2}
    boxes["paddle"][:, 2:] += 17.5
    assert found.promised["paddle"] == pytest.approx(saliency_on(saliency, boxes)["paddle"])
    words = whatif.answer_html(found)
    assert f"{found.tv:.0%}" in words
    assert f"{found.promised['paddle']:.0%}" in words


def test_the_page_shows_both_futures(page):
    page.go(STEP)
    card = page.what_if
    assert card._films.layout.display == "none"
    trajectory = page.exploration.trajectory
    top, _, left, _ = object_boxes("breakout", trajectory.ram[STEP])["paddle"][0]
    event = {"kind": "click", "x": (left + 2) / 160, "y": (top + 1) / 210}
    page._on_picture({"new": event, "owner": page.screen})
    assert card.object.value == "paddle"
    card.deed.value = "move right"
    card.distance.value = 8
    card.start.click()
    assert "al-error" not in card.hint.value
    assert "paddle 8 px right" in card.hint.value
    for later in (12, 0):
        card.later.value = later
        np.testing.assert_array_equal(load_image(card.was.image), trajectory.frames[STEP + later])
    assert (load_image(card.was.image) != load_image(card.now.image)).any()
    assert "The map promises" in card.answer.value
    page.go(STEP + 1)
    assert card.futures is None
    assert not card.answer.value


def test_what_cannot_be_done_is_said(page):
    card = page.what_if
    page.go(STEP)  # the paddle stands at the left wall
    card.object.value, card.deed.value = "paddle", "move left"
    card.start.click()
    assert "not possible at this step: the paddle would be in a side wall" in card.hint.value
    assert card.futures is None
    page.go(0)
    card.start.click()
    assert "too young for a change" in card.hint.value


def test_a_game_without_changes_says_so():
    page = Explorer("untrained-tennis", steps=10)
    assert page.what_if.start.disabled
    assert "Tennis has no table of changes" in page.what_if.hint.value
    page.game.value = "pong"
    assert not page.what_if.start.disabled
    assert page.what_if.object.options == ("ball", "paddle", "opponent")
