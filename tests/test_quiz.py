"""The quiz: its questions, its clips, and how its answers are counted."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atarilens import load_agent, rollout
from atarilens.apps import explorer
from atarilens.apps import quiz as quiz_module
from atarilens.apps.quiz import Answer, Question, count_answers, make_questions

WITHOUT, WITH = quiz_module.CONDITIONS


def test_questions_are_balanced_and_come_in_the_order_of_the_study():
    questions = make_questions(6, 300, seed=4)
    assert [question.condition for question in questions] == [WITHOUT] * 6 + [WITH] * 6
    for half in (questions[:6], questions[6:]):
        assert sorted(question.kind for question in half) == ["control"] * 3 + ["overfit"] * 3
    moments = [(question.kind, question.start) for question in questions]
    assert len(set(moments)) == 12
    assert all(0 <= start <= 300 - quiz_module.CLIP_STEPS for _, start in moments)
    assert questions == make_questions(6, 300, seed=4)
    assert questions != make_questions(6, 300, seed=5)


@pytest.mark.parametrize("num_clips", [0, 5, -2])
def test_an_odd_number_of_clips_is_refused(num_clips):
    with pytest.raises(ValueError, match=f"num_clips is {num_clips}, expected an even number"):
        make_questions(num_clips, 300, 0)


def test_a_short_episode_is_refused():
    with pytest.raises(ValueError, match="50 steps are too few for 6 clips of 48 steps"):
        make_questions(6, 50, 0)


def test_answers_are_counted_by_condition_with_their_interval():
    answers = [Answer(WITHOUT, "overfit", "overfit"), Answer(WITHOUT, "control", "overfit")]
    answers += [Answer(WITH, "control", "control")] * 10
    counted = count_answers(answers)
    assert counted[WITHOUT]["right"] == 1
    assert counted[WITHOUT]["share"] == 0.5
    z = 1.959963984540054
    for found in counted.values():  # Wilson's formula, written out
        n, p = found["asked"], found["share"]
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        assert found["low"] == pytest.approx(centre - half)
        assert found["high"] == pytest.approx(min(centre + half, 1))
    assert count_answers([]) == {}
    assert list(count_answers(answers[2:])) == [WITH]


def test_the_answers_of_a_class_add_up(tmp_path):
    path = tmp_path / "quiz" / "pong.csv"
    assert quiz_module.read_answers(path) == []
    first = [Answer(WITHOUT, "overfit", "control")]
    second = [Answer(WITH, "overfit", "overfit")] * 2
    quiz_module.append_answers(path, first)
    quiz_module.append_answers(path, second)
    assert quiz_module.read_answers(path) == first + second


@pytest.fixture(scope="module")
def pair():
    """Two agents in the places of the students: the untrained one, with random bars."""
    agent = load_agent("untrained-pong")
    agent = replace(agent, settings=replace(agent.settings, hint="random"))
    return {"overfit": replace(agent, name="first"), "control": replace(agent, name="second")}


def test_a_clip_shows_saliency_only_where_it_is_asked_for(pair, monkeypatch):
    monkeypatch.setattr(quiz_module, "CLIP_STEPS", 3)
    agent = pair["overfit"]
    trajectory = rollout(agent, seed=1, max_steps=8)
    plain = quiz_module.make_clip(agent, trajectory, Question("overfit", WITHOUT, 5))
    shown = quiz_module.make_clip(agent, trajectory, Question("overfit", WITH, 5))
    assert plain.shape == shown.shape
    screens = slice(22, 22 + 420)  # below the title, enlarged twice
    np.testing.assert_array_equal(plain[:, screens][:, ::2, ::2], trajectory.frames[5:8])
    added = shown[:, screens].astype(int) - plain[:, screens]
    assert added[..., 2].max() > 100
    assert not added[..., :2].any()  # imitation trains no critic


def test_the_quiz_is_asked_answered_and_counted(pair, monkeypatch, tmp_path):
    monkeypatch.setattr(quiz_module, "STEPS", 12)
    monkeypatch.setattr(quiz_module, "CLIP_STEPS", 4)
    quiz = quiz_module.Quiz(pair, num_clips=2, seed=0, path=tmp_path / "pong.csv")
    seen = set()
    for number, question in enumerate(quiz.questions, 1):
        assert f"Clip {number} of 4" in quiz.heading.value
        assert ("Blue is" in quiz.heading.value) == (question.condition == WITH)
        with Image.open(io.BytesIO(quiz.clip.value)) as movie:
            assert movie.n_frames > 1
        seen.add(quiz.clip.value)
        right = question.condition == WITH
        wrong = "control" if question.kind == "overfit" else "overfit"
        quiz.buttons[question.kind if right else wrong].click()
    assert len(seen) == 4
    assert "0 of 2 right" in quiz.heading.value
    assert "2 of 2 right" in quiz.heading.value
    assert quiz.clip not in quiz.page.children
    quiz.answer("control")  # too late
    assert len(quiz_module.read_answers(tmp_path / "pong.csv")) == 4


def test_missing_agents_are_named(monkeypatch):
    monkeypatch.setattr(quiz_module, "list_agents", lambda: ["pong-overfit", "pong-strong"])
    assert quiz_module.missing_agents("pong") == ["pong-control"]
    assert "needs the agents pong-control" in explorer.quiz("pong").value
    assert "breakout-overfit and breakout-control" in explorer.quiz("breakout").value
