"""The quiz: its clips, its two questions, and how people are counted."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import atarilens.apps.quiz as quiz_module
from atarilens import load_agent, rollout
from atarilens.apps.quiz import (
    CONDITIONS,
    KINDS,
    PAPER,
    UNSURE,
    Answer,
    Clip,
    Quiz,
    clip_frames,
    make_clips,
    missing_agents,
    quiz,
    read_answers,
    results_html,
    save_answers,
    shares,
)
from atarilens.measures import mean_interval
from atarilens.saliency import SaliencyMaps, perturbation_saliency
from atarilens.views import common_gain, overlay

WITHOUT, WITH = CONDITIONS


def test_clips_are_balanced_and_come_in_the_order_of_the_study():
    clips = make_clips(6, 300, seed=4)
    assert [clip.condition for clip in clips] == [WITHOUT] * 6 + [WITH] * 6
    for half in (clips[:6], clips[6:]):
        assert sorted(clip.kinds for clip in half) == [KINDS[::-1]] * 3 + [KINDS] * 3
    moments = [
        (kind, start) for clip in clips for kind, start in zip(clip.kinds, clip.starts, strict=True)
    ]
    assert len(set(moments)) == 24
    assert all(0 <= start <= 300 - quiz_module.CLIP_STEPS for _, start in moments)
    assert clips == make_clips(6, 300, seed=4)
    assert clips != make_clips(6, 300, seed=5)


def test_clips_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="num_clips is 0, expected 1 or more"):
        make_clips(0, 300, 0)
    with pytest.raises(ValueError, match="50 steps are too few for 12 clips of 48 steps"):
        make_clips(6, 50, 0)


def test_answers_become_shares_by_condition():
    answers = [
        Answer(WITHOUT, "overfit", "the game", "the game"),
        Answer(WITHOUT, UNSURE, UNSURE, "the bars"),
        Answer(WITH, "control", "the bars", "the game"),
    ]
    found = shares(answers)
    assert found[WITHOUT] == {"control": 0, "overfit": 0.5, UNSURE: 0.5, "bars": 0}
    assert found[WITH] == {"control": 1, "overfit": 0, UNSURE: 0, "bars": 1}
    assert shares([]) == {}
    for condition in (0, 1):  # the paper's three answers make a whole
        total = sum(PAPER[kind][condition] for kind in ("control", "overfit", UNSURE))
        assert total == pytest.approx(1, abs=1e-3)


def test_a_person_counts_once(tmp_path):
    first = [Answer(WITHOUT, "overfit", "the game", "the game")]
    second = [Answer(WITH, "control", "the bars", "the game")] * 2
    assert save_answers(tmp_path / "pong", "Ada", first)
    assert not save_answers(tmp_path / "pong", "  ada ", second)
    assert save_answers(tmp_path / "pong", "Grace", second)
    people = read_answers(tmp_path / "pong")
    assert sorted(people, key=len) == [first, second]
    assert not [path for path in (tmp_path / "pong").iterdir() if "ada" in path.name.lower()]
    assert read_answers(tmp_path / "nobody") == []


def test_the_results_stand_beside_the_papers():
    own = [Answer(WITHOUT, "overfit", "the game", "the game"), Answer(WITH, "control", *"ab")]
    html = results_html(own, [own, [Answer(WITHOUT, "control", "the bars", "the game")]])
    rows = [row.split("<td>")[1:] for row in html.split("<tr>")[3:]]
    assert [row[0].split("”")[0] for row in rows][3] == "“it uses the bars"
    cells = [[cell.split("<")[0] or cell for cell in row] for row in rows]
    assert [cell for cell in cells[0] if "35.5" in cell]
    assert [cell for cell in cells[3] if "67.7%" in cell]
    assert "<b>0%</b></td><td>50%" in html  # you against two people
    assert "mean over 2 people" in html
    assert "<small>" not in html  # too few for an interval
    crowd = [own, *([Answer(WITHOUT, "control", "the bars", "the game")] for _ in range(5))]
    low, high = np.clip(mean_interval([0, 1, 1, 1, 1, 1]), 0, 1)
    assert f"83% <small>({low:.0%} to {high:.0%})</small>" in results_html(own, crowd)


@pytest.fixture(scope="module")
def pair():
    """Two agents in the places of the imitators: the untrained one, with random bars."""
    agent = load_agent("untrained-pong")
    agent = replace(agent, settings=replace(agent.settings, hint="random"))
    return {"overfit": replace(agent, name="first"), "control": replace(agent, name="second")}


def test_a_clip_shows_saliency_only_in_its_condition(pair, monkeypatch):
    monkeypatch.setattr(quiz_module, "CLIP_STEPS", 3)
    trajectory = rollout(pair["overfit"], seed=1, max_steps=8)
    play = {"overfit": trajectory, "control": trajectory}
    plain = clip_frames(pair, play, Clip(WITHOUT, KINDS, (5, 2)))
    shown = clip_frames(pair, play, Clip(WITH, KINDS, (5, 2)))
    assert plain.shape == shown.shape
    screens = slice(22, 22 + 420)  # below the title, enlarged twice
    left, right = plain[:, screens, :320][:, ::2, ::2], plain[:, screens, 328:][:, ::2, ::2]
    np.testing.assert_array_equal(left, trajectory.frames[5:8])
    np.testing.assert_array_equal(right, trajectory.frames[2:5])
    agent, steps = pair["overfit"], slice(5, 8)
    both = perturbation_saliency(
        agent.network, trajectory.observations[steps], trajectory.memory[steps]
    )
    maps = SaliencyMaps(both.actor, None, both.actor_grid, None)  # imitation trains no critic
    drawn = overlay(trajectory.frames[5], maps[0], agent.region, common_gain([maps]))
    np.testing.assert_array_equal(shown[0, screens, :320][::2, ::2], drawn)
    assert (drawn != trajectory.frames[5]).any()


def test_the_quiz_is_asked_answered_and_counted(pair, monkeypatch, tmp_path):
    monkeypatch.setattr(quiz_module, "STEPS", 12)
    monkeypatch.setattr(quiz_module, "CLIP_STEPS", 4)
    page = Quiz(pair, num_clips=1, seed=0, folder=tmp_path / "pong")
    page.person.value = "Ada"
    page.start.click()
    seen = set()
    for number, clip in enumerate(page.clips, 1):
        assert f"Clip {number} of 2" in page.heading.value
        assert ("Blue:" in page.heading.value) == (clip.condition == WITH)
        with Image.open(io.BytesIO(page.clip.value)) as movie:
            assert movie.n_frames > 1
        seen.add(page.clip.value)
        assert page.check.disabled
        side_of = dict(zip(clip.kinds, "AB", strict=True))
        right = clip.condition == WITH
        page.robust.value = side_of["control" if right else "overfit"]
        page.uses[side_of["overfit"]].value = "the bars" if right else UNSURE
        assert page.check.disabled
        page.uses[side_of["control"]].value = "the game"
        page.check.click()
        assert f"{3 if right else 1} of 3 right" in page.feedback.value
        assert f"<b>{side_of['overfit']}</b> uses the bars" in page.feedback.value
        page.next.click()
    assert len(seen) == 2
    assert "What you found" in page.heading.value
    assert page.clip not in page.page.children
    (answers,) = read_answers(tmp_path / "pong")
    assert answers == page.answers
    assert answers[1] == Answer(WITH, "control", "the bars", "the game")

    old = page.clips
    page.again.click()  # other clips, by the same person
    assert page.clips != old
    for _ in page.clips:
        page.robust.value = UNSURE
        for side in "AB":
            page.uses[side].value = UNSURE
        page.check.click()
        page.next.click()
    assert "not counted again" in page.heading.value
    assert len(read_answers(tmp_path / "pong")) == 1


def test_missing_agents_are_named(monkeypatch):
    monkeypatch.setattr(quiz_module, "list_agents", lambda: ["pong-overfit", "pong-strong"])
    assert missing_agents("pong") == ["pong-control"]
    assert "needs the agents pong-control" in quiz("pong").value
    assert "breakout-overfit and breakout-control" in quiz("breakout").value
