from types import SimpleNamespace

import numpy as np
import pytest

from atarilens.games.events import event, find_events
from atarilens.games.objects import boxes_at
from atarilens.measures.attention import (
    by_episode,
    centres_near,
    correlation,
    episode_means,
    object_alone,
)
from atarilens.measures.controls import (
    apart,
    different_episodes,
    elsewhere,
    other_times,
    spread_steps,
)
from atarilens.measures.intervals import around_events, course_interval, intervals
from atarilens.measures.verdicts import (
    against_controls,
    attention_in_words,
    contrast,
    joint_outcome,
    outcome,
    stays_above,
    verdict,
    what_came_out,
)

EPISODE = np.array([0] * 10 + [1] * 30)


def test_steps_are_spread_over_every_episode_in_proportion():
    steps = spread_steps(EPISODE, 8)
    assert steps.tolist() == [2, 7, 12, 17, 22, 27, 32, 37]
    assert np.bincount(EPISODE[spread_steps(EPISODE, 1)]).tolist() == [2, 2]
    assert spread_steps(np.zeros(1, int), 5).tolist() == [0]
    assert spread_steps(EPISODE, 1000).tolist() == list(range(40))
    assert spread_steps(np.append(EPISODE, 2), 8).max() < 40  # one step has no other time


def test_boxes_are_moved_into_the_observation():
    ram = np.zeros((2, 128), np.uint8)
    ram[:, 49], ram[:, 54] = 49 + 80, (14 + 115, 14 + 125)  # Pong's ball: x, y
    first, second = boxes_at("pong", ram, (35, 195, 0, 160))
    assert first["ball"].tolist() == [[40, 42, 40, 41]]
    assert second["ball"].tolist() == [[45, 47, 40, 41]]


def test_other_times_are_half_an_episode_away_and_of_the_same_episode():
    boxes = [{"step": t} for t in range(6)]
    episode = np.array([0, 0, 1, 1, 1, 1])
    assert [b["step"] for b in other_times(boxes, episode)] == [1, 0, 4, 5, 2, 3]
    with pytest.raises(ValueError, match="episode 3 has one step only, expected two or more"):
        other_times(boxes[:1], np.array([3]))


def test_episodes_are_averaged_over_the_steps_that_show_the_object():
    ball = SimpleNamespace(actor_nss=np.array([1, np.nan, 3, np.nan, np.nan]))
    never = SimpleNamespace(actor_nss=np.full(5, np.nan))
    table = by_episode({"ball": ball, "never": never}, np.array([4, 4, 4, 9, 9]))
    assert list(table) == ["ball"]
    np.testing.assert_array_equal(table["ball"], [2, np.nan])


def test_a_course_stays_above_another_only_if_it_is_above_in_every_part():
    lags = np.arange(-6, 3)
    rng = np.random.default_rng(0)
    low = rng.normal(0, 0.01, (5, 9))
    lasting, peak = low + 2, low + 0
    peak[:, 3:5] += 50  # lags -3 and -2: its mean is high, but it does not last
    found = stays_above(lasting, low, lags, (-6, -1))
    assert list(found) == [
        "part 1, steps -6 to -5",
        "part 2, steps -4 to -3",
        "part 3, steps -2 to -1",
    ]
    assert joint_outcome(found) == "holds"
    assert found["part 2, steps -4 to -3"]["difference"] == pytest.approx(2)
    broken = stays_above(peak, low, lags, (-6, -1))
    assert [each["outcome"] for each in broken.values()] == ["absent", "holds", "holds"]
    assert broken["part 2, steps -4 to -3"]["difference"] == pytest.approx(25)
    gaps = lasting.copy()
    gaps[0], gaps[1, :2] = np.nan, np.nan
    assert [each["episodes"] for each in stays_above(gaps, low, lags, (-6, -1)).values()] == [
        3,
        4,
        4,
    ]
    with pytest.raises(ValueError, match="2 lags from -2 to -1 make no 3 parts"):
        stays_above(lasting, low, lags, (-2, -1))


def test_contrast_pairs_episodes_and_holds_only_above_zero():
    values, controls = np.array([3.0, 2, 3, np.nan]), np.array([1.0, 1, 0.5, 0])
    wide = contrast(values, controls, lambda d: (d.min(), d.max()))
    assert wide == {
        "mean": pytest.approx(8 / 3),
        "control": pytest.approx(2.5 / 3),
        "difference": pytest.approx(5.5 / 3),
        "low": 1.0,
        "high": 2.5,
        "episodes": 3,
        "outcome": "holds",
        "holds": True,
    }
    assert verdict(wide) == (
        "holds (2.67 against 0.83; difference 1.83, 95 % interval 1.00 to 2.50, n = 3)"
    )
    few = contrast(values[:2], controls[:2], lambda d: (d.min(), d.max()))
    assert not few["holds"]
    assert verdict(few).startswith("undecided (2.50")
    assert joint_outcome({"one": wide, "two": few}) == "undecided"
    assert joint_outcome({"one": wide, "two": wide}) == "holds"
    lines = what_came_out({"one": wide, "two": few}, "Pong").splitlines()
    assert lines[0] == "Pong: undecided"
    assert lines[1] == f"  against one: {verdict(wide)}"
    with pytest.raises(ValueError, match="no episode has both measures"):
        contrast(values[3:], controls[3:], lambda d: (d.min(), d.max()))
    assert contrast(controls, values, lambda d: (d.min(), d.max()))["outcome"] == "reversed"
    assert contrast(values, values, lambda d: (d.min(), d.max()))["outcome"] == "absent"


def test_every_measure_meets_every_control_but_itself():
    none = np.full(4, np.nan)
    measures = {
        "a": np.arange(4.0) + 9,
        "edges": np.arange(4.0),
        "centre": np.ones(4),
        "gone": none,
    }
    found = against_controls(measures, ["edges", "centre", "gone"])
    assert {name: list(tests) for name, tests in found.items()} == {
        "a": ["edges", "centre"],
        "edges": ["centre"],
        "centre": ["edges"],
    }
    assert found["a"]["edges"] == contrast(measures["a"], measures["edges"])
    assert all(test["holds"] for test in found["a"].values())
    assert not found["centre"]["edges"]["holds"]


def test_absent_needs_an_interval_within_the_margin_and_undecided_is_the_rest():
    assert outcome(0.01, 3, episodes=3) == "holds"
    assert outcome(-3, -0.01, episodes=3) == "reversed"
    assert outcome(-0.4, 0.4, episodes=3) == "absent"
    assert outcome(-0.4, 0.6, episodes=3) == "undecided"
    assert outcome(-0.4, 0.4, episodes=3, margin=0.3) == "undecided"
    assert outcome(-0.4, 0.4, episodes=3, margin=None) == "undecided"
    assert outcome(0.01, 3, episodes=2) == "undecided"
    assert outcome(np.nan, np.nan, episodes=1) == "undecided"


def test_a_title_claims_no_more_than_the_two_controls_leave():
    """The words follow the outcomes of real contrasts, the one against an untrained network too."""
    map_on_ball, elsewhere_on_ball = np.array([7.0, 6.5, 7.5]), np.array([0.1, -0.1, 0.0])
    follows = contrast(map_on_ball, elsewhere_on_ball)
    title = attention_in_words("ball", follows, contrast(map_on_ball, np.array([9.0, 4.5, 7.5])))
    assert title == (
        "The agent's map follows the ball; whether an untrained network's does as much, "
        "3 games cannot tell"
    )
    assert attention_in_words("ball", follows, contrast(map_on_ball, elsewhere_on_ball)).endswith(
        "follows the ball, more than an untrained network's does"
    )
    assert attention_in_words("ball", contrast(elsewhere_on_ball, map_on_ball), {}).startswith(
        "The agent's map avoids the ball; whether"
    )


def test_curves_are_averaged_around_the_events_of_each_episode():
    values = np.zeros(40)
    values[[5, 20, 30]] = 1, 2, 4
    table = around_events(values, np.array([1, 5, 20, 30, 39]), EPISODE, window=2)
    # Episode 0 has mean 1/10; episode 1 has mean 6/30, its events 2 and 4: mean 3, over 0.2.
    np.testing.assert_allclose(table, [[0, 0, 10, 0, 0], [0, 0, 15, 0, 0]])
    later, never = around_events(values, np.array([4]), EPISODE, window=2)
    assert later.argmax() == 3  # one step after the event
    assert np.isnan(never).all()
    assert np.isnan(around_events(values, np.array([0]), EPISODE, window=2)).all()


def test_events_elsewhere_stay_in_their_episode():
    assert elsewhere(np.array([0, 7, 10, 30]), EPISODE).tolist() == [5, 2, 25, 15]
    assert elsewhere(np.array([], int), EPISODE).shape == (0,)


def test_boxes_near_to_another_object_are_left_out():
    boxes = {
        "tunnel": np.array([[0.0, 10, 0, 4], [0, 10, 30, 34]]),
        "ball": np.array([[13.0, 14, 8, 9]]),  # 3 below and 4 beside the first: 5 away
    }
    near = apart(boxes, "tunnel", "ball", 5.1)
    assert near["tunnel"].tolist() == [[0, 10, 30, 34]]
    assert near["ball"] is boxes["ball"]
    assert len(apart(boxes, "tunnel", "ball", 5.0)["tunnel"]) == 2
    assert apart(boxes, "tunnel", "ball", 50)["tunnel"].shape == (0, 4)
    assert len(apart(boxes, "tunnel", "paddle")["tunnel"]) == 2


def test_copies_of_a_game_are_one_game():
    """Game 1 is game 0 a step later, with one screen of its own; game 3 has half of 2's screens.

    Game 4 is game 0 again, after others.
    """
    generator = np.random.default_rng(0)
    screens = generator.integers(0, 256, (100, 4, 4), dtype=np.uint8)
    games = [screens[:20], screens[np.r_[1:20, 60]], screens[20:40], screens[30:50], screens[:20]]
    episode = np.repeat([0, 1, 2, 3, 4], 20)
    assert different_episodes(np.concatenate(games), episode).tolist() == [0, 2, 3]
    assert different_episodes(np.concatenate(games), episode, 0.4).tolist() == [0, 2]
    assert different_episodes(np.concatenate(games), episode, 1.0).tolist() == [0, 1, 2, 3, 4]


def test_intervals_leave_out_episodes_without_the_object():
    table = {"agent": {"ball": np.array([1.0, np.nan, 3.0])}}
    assert intervals(table, lambda v: (v.min(), v.max())) == {"agent": {"ball": (1, 3)}}


def test_the_centre_of_a_map_is_measured_near_the_object_alone():
    maps = np.zeros((3, 80, 80))
    maps[0, 30, 40] = maps[0, 32, 40] = 2  # centre (31.5, 40.5), px centres lie at + 0.5
    maps[0, 5, 5] = 100  # far away: not counted
    maps[1, 30, 40] = 1
    box = np.array([[34.0, 36, 40, 43]])
    boxes = [{"ship": box}, {"ship": np.zeros((0, 4))}, {"ship": box}]
    offsets = centres_near(maps, boxes, "ship", reach=10)
    np.testing.assert_allclose(offsets[0], [31.5 - 35, 40.5 - 41.5])
    assert np.isnan(offsets[1:]).all()  # no ship; no saliency


def test_the_map_of_an_object_alone_has_its_centre_on_it_and_inwards_at_an_edge():
    observation = np.zeros((2, 1, 80, 80), np.float32)
    observation[0, 0, 40:42, 40:42] = 1
    observation[1, 0, 76:80, 40:42] = 1
    observation[:, 0, 10:14, 10:14] = 1  # another object, which must not count
    boxes = [{"ship": np.array([[40.0, 42, 40, 42]])}, {"ship": np.array([[76.0, 80, 40, 42]])}]
    maps = object_alone(observation, boxes, "ship")
    inside, edge = centres_near(maps.actor, boxes, "ship")
    assert np.abs(inside).max() < 1
    assert edge[0] < -1
    assert maps.actor[:, :20, :20].max() < 1e-6 * maps.actor.max()
    assert object_alone(observation[:1], [{}], "ship").actor.max() == 0


def test_means_of_episodes_and_correlations_leave_out_what_is_not_there():
    values = np.array([1.0, 3, np.nan, np.nan])
    means = episode_means(values, np.array([0, 0, 0, 5]))
    np.testing.assert_array_equal(means, [2, np.nan])
    assert correlation(np.arange(4), 3 - np.arange(4)) == pytest.approx(-1)
    assert np.isnan(correlation(np.arange(4), np.ones(4)))


def test_the_interval_of_a_course_is_that_of_each_column():
    table = np.array([[1.0, 5, np.nan], [2, 5, 1], [3, 5, 3]])
    low, high = course_interval(table).T
    np.testing.assert_allclose(low[:2], [2 - 2.48414, 5], atol=1e-4)
    np.testing.assert_allclose((low + high)[2], 4)


def test_breakouts_opening_column_is_the_one_that_has_just_lost_its_last_brick():
    """Column 9 of the wall: part 2 of each row, bits 4 and 5."""
    ram = np.zeros((6, 128), np.uint8)
    ram[:, :36] = 255
    ram[3:, 12:18] &= 0xFF ^ 0x30
    ram[2, 12:17] &= 0xFF ^ 0x30  # one brick of the column is left
    episode = np.zeros(6, int)
    found = find_events("breakout", "column_opened", ram, np.zeros(6), episode)
    assert found.end.tolist() == [3]
    rule = event("breakout", "column_opened")
    assert rule.target(ram, 0, 3).tolist() == [[57, 93, 8 + 8 * 9, 16 + 8 * 9]]
    closed = rule.alike(ram, 0, 3, 5)
    assert len(closed) == 17
    assert 80 not in closed[:, 2]


def test_the_row_mates_of_an_alien_are_the_living_ones_of_its_row():
    ram = np.zeros((2, 128), np.uint8)
    ram[:, 18:24] = 0b111111
    ram[:, 26], ram[1, 23] = 20, 0b111101  # alien (0, 1) dies after step 0
    rule = event("spaceinvaders", "alien_hit")
    mates = rule.alike(ram, 0, 0, 1)
    assert mates[:, 2].tolist() == [19, 51, 67, 83, 99]
    assert len(set(mates[:, 0])) == 1
