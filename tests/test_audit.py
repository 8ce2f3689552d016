"""An audit says what is so: of networks whose behaviour is known, and of agents of ours."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atarilens import load_agent, play, rollout
from atarilens.agents import agent_from_module
from atarilens.measures import spread_steps
from compendium import audit, cli
from compendium.audit import moments, patches, statements

BARS = (35, 55, 60, 100)  # holds the hint bars of the overfit study
SMALL = {"episodes": 3, "recorded": 3, "steps": 60, "decisions": 4, "progress": False}


class IgnoresTheScreen(torch.nn.Module):
    """Every screen gets the same action logits and the same value."""

    def __init__(self, actions: int):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.arange(actions, dtype=torch.float32) / 4)

    def forward(self, observation):
        nothing = 0 * observation.sum((1, 2, 3))
        return self.logits + nothing[:, None], nothing


def blind(game: str, actions: int):
    module = IgnoresTheScreen(actions)
    settings = {"max_frames": 400}
    return agent_from_module(
        module, game=game, preprocessing="luma80", settings=settings, name=f"blind-{game}"
    )


@pytest.fixture(scope="module")
def student():
    agent = load_agent("breakout-overfit")
    return agent, rollout(agent, seed=0, max_steps=150)


@pytest.fixture(scope="module")
def blind_audit(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    return audit.audit(blind("pong", 6), out, **SMALL)


def said(page: Path) -> dict[str, dict]:
    found = json.loads((page.parent / "audit.json").read_text())
    return {(each["section"], each["subject"]): each for each in found["statements"]}


def test_a_network_that_ignores_the_screen_is_found_out(blind_audit):
    found = said(blind_audit)
    assert found["attention", "the screen"]["verdict"] == "empty maps"
    for section, subject in found:
        if section == "answers":
            assert found[section, subject]["verdict"] in (
                *("not at all", "cannot see it", "as expected: none", "not tried", "undecided"),
            )
    assert found["scores", "sampled"]["verdict"] == "cut off: no comparison"  # 400 frames of Pong
    for subject in ("paddle 8 px up", "paddle gone", "opponent gone"):
        assert found["answers", subject]["verdict"] == "not at all"
        assert found["answers", subject]["values"] == [0, 0, 0]
    assert found["shortcuts", "a cheat sheet on the screen"]["number"] == 0
    for (section, _), each in found.items():
        if section == "maps":
            assert each["verdict"] == "undefined"
    short = json.loads((blind_audit.parent / "audit.json").read_text())["short"]
    assert next(iter(short)) == "Beware"
    assert short["Beware"].startswith("It ignores the screen: no spot that was blurred")


def test_the_page_needs_nothing_else(blind_audit):
    text = blind_audit.read_text()
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    links = re.findall(r'download="(game-\d.npz)" href="data:[^,]*,([^"]*)"', text)
    assert len(links) == 3
    for name, content in links:
        assert base64.b64decode(content) == (blind_audit.parent / name).read_bytes()
    facts = json.loads((blind_audit.parent / "audit.json").read_text())["facts"]
    for name, hashes in facts["replays"].items():
        trajectory = play.replay(blind_audit.parent / name, blind("pong", 6))
        assert play.trajectories.hashes(trajectory) == hashes


def test_an_interrupted_audit_goes_on(blind_audit, monkeypatch):
    parts = {path: path.stat().st_mtime_ns for path in (blind_audit.parent / "parts").iterdir()}
    assert len(parts) == 3 + 3 + 1
    text = blind_audit.read_bytes()
    blind_audit.unlink()
    lost = next(path for path in parts if path.name.startswith("greedy"))
    lost.unlink()
    measured = []
    monkeypatch.setattr(
        audit, "_scores", lambda agent, name, episodes: measured.append(name) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        audit.audit(blind("pong", 6), blind_audit.parent, **SMALL)
    assert measured == ["greedy"]
    assert not blind_audit.is_file()
    assert not lost.is_file()
    monkeypatch.undo()
    audit.audit(blind("pong", 6), blind_audit.parent, **SMALL)
    assert blind_audit.read_bytes() == text
    for path, changed in parts.items():
        assert path == lost or path.stat().st_mtime_ns == changed


def test_a_game_without_a_table_says_what_is_missing(tmp_path):
    small = SMALL | {"episodes": 2, "recorded": 2}
    page = audit.audit(blind("tennis", 18), tmp_path, **small)
    text = page.read_text()
    assert text.count("This game has no table of changes") == 2
    sections = {section for section, _ in said(page)}
    assert sections == {"scores", "attention", "shortcuts"}


def test_the_cheat_sheet_of_the_overfit_student_is_found(student):
    agent, trajectory = student
    steps = spread_steps(trajectory.episode, 12)
    scans = [patches.scan(agent, trajectory, [int(t) for t in steps])]
    boxes = patches.suspects(agent, scans)
    top, bottom, left, right = boxes[0]
    assert (top, bottom) == (35, 55)
    assert left <= 80 < right
    asked = patches.question(agent, trajectory, range(5, 150, 5), BARS)
    assert asked["asked"] >= 5
    assert asked["followed"] > 0.9
    beside = patches.question(
        agent, trajectory, range(5, 150, 5), patches.beside(BARS, agent.region)
    )
    assert beside["followed"] < 0.2


def test_the_student_plays_as_well_with_nothing_but_the_sheet(student):
    agent, _ = student
    settings = replace(agent.settings, max_frames=600)
    usual = play.evaluate(agent, 1, 0, settings=settings).returns
    scores = patches.paint_to_play(agent, BARS, [0], settings)
    assert scores["only"] == usual.tolist()
    assert scores["without"][0] < usual[0]


def test_an_agent_without_a_sheet_does_not_follow_the_patch():
    agent = load_agent("breakout-strong")
    trajectory = rollout(agent, seed=0, max_steps=80)
    asked = patches.question(agent, trajectory, range(5, 80, 5), BARS)
    assert asked["followed"] is None or asked["followed"] < 0.2


def test_painting_an_agent_changes_nothing_else():
    agent = load_agent("untrained-pong")
    screen = np.random.default_rng(0).integers(0, 256, (210, 160, 3), dtype=np.uint8)
    box = (75, 95, 20, 40)
    without = patches.painting(agent, box).preprocess(screen)
    only = patches.painting(agent, box, only=True).preprocess(screen)
    own = agent.preprocess(screen)
    inside = (slice(None), slice(20, 30), slice(10, 20))
    np.testing.assert_array_equal(only[inside], own[inside])
    assert np.ptp(without[inside]) == 0
    without[inside] = own[inside]
    np.testing.assert_array_equal(without, own)


def test_statements_can_be_re_created():
    agent = load_agent("breakout-strong")
    trajectory = moments.one_game(agent, 0, 120)
    maps = moments.maps_at(agent, trajectory, [60, 90])
    rows = audit.answers.answers_at(agent, trajectory, [60, 90], maps)
    found = {each.subject: each for each in statements.about_answers([rows], "breakout")}
    one = found["paddle 8 px right"]
    known = {"play": play, "audit": audit, "game": trajectory, "agent": agent}
    again = [row["towards"] for rows in eval(one.recreate, known) for row in rows]
    assert one.values == [pytest.approx(np.mean(again))]
    assert found["digits"].verdict == "cannot see it"
    shares = [row for row in rows["objects"] if row["object"] == "paddle"]
    assert {row["t"] for row in shares} <= {60, 90}
    assert all(0 <= row["shares"]["perturbation"] <= 1 for row in shares)


def test_verdicts_follow_the_interval():
    def change(towards: list[float], tv: float) -> str:
        row = {"t": 1, "name": "paddle_x+8", "label": "paddle_x+8", "flip": False, "seen": True}
        parts = [
            {
                "changes": [row | {"towards": t, "tv": tv, "value": 0.0}],
                "skipped": {},
                "history": 0,
            }
            for t in towards
        ]
        (found,) = statements.about_answers(parts, "breakout")
        return found.verdict

    assert change([0.3, 0.4, 0.35], 0.4) == "as expected"
    assert change([-0.3, -0.4, -0.35], 0.4) == "the wrong way"
    assert change([0.001, -0.001, 0.0], 0.01) == "not at all"
    assert change([-1e-6, -2e-6, -1e-6], 1e-6) == "not at all"
    assert change([0.001, -0.001, 0.0], 0.4) == "moves, but neither way"
    assert change([0.3, -0.4, 0.35], 0.4) == "undecided"
    assert change([0.3, 0.4], 0.4) == "undecided"


def test_a_score_is_compared_with_random_play_as_far_as_its_games_allow():
    def sampled(game: str, returns: list[float], cut: int = 0) -> str:
        each = {"returns": returns, "truncated": [True] * cut, "frames": 400}
        scores = dict.fromkeys(("sampled", "greedy", "sticky"), each)
        return statements.about_scores(scores, game, q_values=False)[0].verdict

    assert sampled("breakout", [90, 95, 100]) == "plays"
    assert sampled("breakout", [75, 75, 280]) == "too few games to tell"
    assert sampled("breakout", [0, 2, 3]) == "cannot be told from random play"
    assert sampled("breakout", [0, 0, 0.1]) == "below random play"
    assert sampled("breakout", [90, 95, 100], cut=3) == "plays"  # points are never lost
    assert sampled("pong", [-1, -1, -1], cut=3) == "cut off: no comparison"


def test_a_change_that_was_never_possible_is_named():
    part = {"changes": [], "skipped": {"paddle_x-8": {"the paddle would be in a side wall": 4}}}
    (found,) = statements.about_answers([part], "breakout")
    assert found.subject == "paddle 8 px left"
    assert found.verdict == "not tried"
    assert "the paddle would be in a side wall" in found.text


def test_greedy_copies_are_counted():
    game = {"situations": ["a", "b"]}
    scores = {"greedy": {"returns": [21.0, 21.0, 21.0, 20.0], "lengths": [9, 9, 9, 8]}}
    copies, *_ = statements._about_copies([game, game], scores, "again")
    assert copies.number == 2
    assert copies.verdict == "found: 2 of 4 differ"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audit"], "AGENT= is missing: make audit AGENT="),
        (["audit", "AGENT=pong-stronk"], "unknown agent 'pong-stronk', did you mean pong-strong"),
        (["audit", "AGENT=pong-strong", "GAME=breakout"], "plays pong, not breakout"),
        (["audit", "AGENT=pong-strong", "EPISODES=0"], "EPISODES=0: expected a whole number above"),
        (["audit", "AGENT=pong-strong", "REPLAYS=1"], "expected 2 or more"),
    ],
)
def test_a_wrong_variable_is_one_clear_line(words, message, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
