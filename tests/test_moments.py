"""Moments of real play by simple scripts, and of RAM written by hand where the answer is known."""

import numpy as np
import pytest

from atarilens.games.emulators import make_env
from atarilens.games.events import (
    aimed_shots,
    breakout_paddle_hits,
    event,
    find_events,
    first_ball_above_bricks,
    hits_on_aliens,
    last_paddle_hit_before_point,
    pong_paddle_hits,
)
from atarilens.games.objects import aliens, cell, object_boxes


def follow_ball(name, ram, rng):
    """Play so that balls are hit and aliens shot; actions of the minimal sets."""
    if name == "spaceinvaders" or rng.random() < 0.2:
        return int(rng.integers(4))
    if name == "pong":
        distance = int(ram[51]) - int(ram[54])
        return 0 if abs(distance) < 4 else 2 if distance > 0 else 3
    distance = int(ram[72]) + 8 - int(ram[99])
    return 1 if not ram[101] else 0 if abs(distance) < 4 else 3 if distance > 0 else 2


def play(name, steps):
    """Return ram `[T, 128]`, rewards `[T]`, episode `[T]` of scripted play over episodes."""
    env, rng = make_env(name), np.random.default_rng(0)
    _, info = env.reset(seed=0)
    ram, rewards, episode, number = [], [], [], 0
    for _ in range(steps):
        ram.append(info["ram"].copy())
        episode.append(number)
        _, reward, terminated, _, info = env.step(follow_ball(name, info["ram"], rng))
        rewards.append(reward)
        if terminated:
            number += 1
            _, info = env.reset(seed=number)
    return np.array(ram), np.array(rewards), np.array(episode)


def test_breakout_hits_happen_above_the_paddle_and_before_every_brick():
    ram, rewards, episode = play("breakout", 1000)
    hits = breakout_paddle_hits(ram, episode)
    assert len(hits) > 10
    for t in hits:
        boxes = object_boxes("breakout", ram[t])
        _, bottom, left, right = boxes["ball"][0]
        _, _, paddle_left, paddle_right = boxes["paddle"][0]
        assert 170 < bottom <= 197
        assert paddle_left - 8 < left < right < paddle_right + 8
    # A brick needs a ball that the paddle has sent up; a serve falls.
    served = cell("breakout", "ball_y", ram) == 0
    for brick in np.flatnonzero(rewards):
        last_serve = np.flatnonzero(served[: brick + 1] | (episode[: brick + 1] != episode[brick]))
        since = last_serve[-1] if last_serve.size else 0
        assert ((hits > since) & (hits <= brick)).any() or brick == np.flatnonzero(rewards)[-1]


def test_pong_kill_shots_are_the_last_hits_of_the_rallies_won():
    ram, rewards, episode = play("pong", 1500)
    hits = pong_paddle_hits(ram, episode)
    for t in hits:
        boxes = object_boxes("pong", ram[t])
        assert boxes["ball"][0][3] > 125
        assert boxes["ball"][0][1] > boxes["paddle"][0][0] - 12
        assert boxes["ball"][0][0] < boxes["paddle"][0][1] + 12
    kills = last_paddle_hit_before_point(ram, rewards, episode)
    won = np.flatnonzero(rewards > 0)
    assert len(won) >= 3
    assert len(kills) == len(won)
    assert set(kills) <= set(hits)
    for kill, point in zip(kills, won, strict=True):
        assert kill < point
        assert not rewards[kill:point].any()
        assert not ((hits > kill) & (hits < point)).any()
    assert len(last_paddle_hit_before_point(ram, -rewards, episode)) != len(kills)


def test_every_alien_is_killed_by_a_shot_and_most_had_moved():
    ram, rewards, episode = play("spaceinvaders", 1000)
    hits = hits_on_aliens(ram, rewards, episode)
    assert len(hits.fired) > 15
    shots = find_events("spaceinvaders", "shot", ram, rewards, episode).end
    assert set(hits.fired) <= set(shots)
    assert len(shots) > len(hits.fired)  # play by chance misses
    # The mother ship gives points too and is no alien of the block: it takes 30 steps to come.
    assert len(hits.impact) >= 0.95 * np.count_nonzero(rewards)
    assert (rewards[hits.impact] > 0).all()
    flight = hits.impact - hits.fired
    assert flight.min() > 0
    assert flight.max() < 25  # 88 rows at 1 row a frame, 4 frames a step
    alive = aliens(ram)
    for fired, impact in zip(*hits, strict=True):
        (row, column), *rest = np.argwhere(alive[impact] & ~alive[impact + 1])
        assert not rest
        left = cell("spaceinvaders", "aliens_x", ram[impact]) - 1 + 16 * column
        shot = cell("spaceinvaders", "laser_x", ram[impact]) - 2
        assert left - 3 <= shot < left + 11, (row, column)
        assert cell("spaceinvaders", "laser_y", ram[fired + 1]) > 70  # just off the ship
    aimed = aimed_shots(ram, rewards, episode)
    assert set(aimed.impact) < set(hits.impact)
    for fired, impact in zip(*aimed, strict=True):
        assert ram[fired, [16, 26]].tolist() != ram[impact, [16, 26]].tolist()


def ram_of(length, **cells):
    """Return ram `[length, 128]` with address -> values written."""
    ram = np.zeros((length, 128), np.uint8)
    for address, values in cells.items():
        ram[:, int(address.removeprefix("at"))] = values
    return ram


def test_first_ball_above_the_bricks_is_the_first_of_each_episode():
    ball_y = [90, 45, 44, 43, 60, 40, 90, 0, 0, 30, 44, 90]
    episode = np.repeat([0, 1, 2], [4, 4, 4])
    ram = ram_of(12, at101=ball_y)
    assert first_ball_above_bricks(ram, episode).tolist() == [2, 5, 9]
    assert first_ball_above_bricks(ram[:2], episode[:2]).tolist() == []
    top = object_boxes("breakout", ram[2])["ball"]
    assert top[0][1] == 57  # the ball's lower edge is where the wall begins


@pytest.mark.parametrize(
    ("ball_y", "expected"),
    [
        ([160, 170, 178, 170, 160], [2]),
        ([160, 170, 178, 178, 160], [3]),  # stood still: rises from 3 on
        ([160, 170, 0, 170, 160], []),  # lost in between
        ([160, 170, 178, 180, 182], []),
        ([60, 70, 78, 70, 60], []),  # up from the top of the wall
        ([160, 150, 140, 150, 160], []),  # down from a brick
    ],
)
def test_breakout_hit_is_where_the_ball_begins_to_rise(ball_y, expected):
    episode = np.zeros(5, int)
    assert breakout_paddle_hits(ram_of(5, at101=ball_y), episode).tolist() == expected
    across = np.array([0, 0, 1, 1, 1])
    assert breakout_paddle_hits(ram_of(5, at101=ball_y), across).tolist() == []


def test_kill_shot_needs_a_hit_in_the_same_rally_and_episode():
    ball_x = [170, 180, 188, 180, 100, 60, 0, 170, 180, 100, 50]
    ball_y = [90] * 6 + [0] + [90] * 4
    rewards = np.array([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1])
    ram, episode = ram_of(11, at49=ball_x, at54=ball_y), np.zeros(11, int)
    assert pong_paddle_hits(ram, episode).tolist() == [2, 8]
    assert last_paddle_hit_before_point(ram, rewards, episode).tolist() == [2]
    assert last_paddle_hit_before_point(ram, abs(rewards), episode).tolist() == [2, 8]
    no_hit = np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert last_paddle_hit_before_point(ram, no_hit, episode).tolist() == []
    later = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    assert last_paddle_hit_before_point(ram, rewards, later).tolist() == []


def test_the_records_name_the_same_events():
    ram, rewards, episode = play("spaceinvaders", 400)
    aimed = aimed_shots(ram, rewards, episode)
    found = find_events("spaceinvaders", "decisive", ram, rewards, episode)
    assert np.array_equal(found, aimed)
    assert len(found.start) > 3
    for fired, impact in zip(*found, strict=True):  # the target is where the shot arrives
        (box,) = event("spaceinvaders", "decisive").target(ram, int(impact), int(impact))
        assert box[2] - 3 <= cell("spaceinvaders", "laser_x", ram[impact]) - 2 < box[3] + 3
        assert len(event("spaceinvaders", "decisive").target(ram, int(fired), int(impact))) == 1
    ram, rewards, episode = play("pong", 300)
    start, end = find_events("Pong", "contact", ram, rewards, episode)
    assert start.tolist() == end.tolist() == pong_paddle_hits(ram, episode).tolist()
    with pytest.raises(ValueError, match="Pong has no event 'goal'; it has kill_shot, paddle_hit"):
        find_events("pong", "goal", ram, rewards, episode)


def test_passages_of_the_mystery_ship_end_with_their_episode():
    ram = ram_of(8, at30=[180, 1, 2, 180, 4, 5, 6, 180])
    passages = find_events("spaceinvaders", "mystery_ship", ram, np.zeros(8), np.zeros(8, int))
    assert [each.tolist() for each in passages] == [[1, 4], [2, 6]]
    across = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    passages = find_events("spaceinvaders", "mystery_ship", ram, np.zeros(8), across)
    assert [each.tolist() for each in passages] == [[1, 4, 6], [2, 5, 6]]
    always = ram_of(2, at30=[7, 9])
    passages = find_events("spaceinvaders", "mystery_ship", always, np.zeros(2), np.zeros(2, int))
    assert [each.tolist() for each in passages] == [[0], [1]]


def test_aimed_shots_leave_out_aliens_that_stood_still():
    laser = [246, 85, 60, 246, 85, 60, 246, 246]
    left = [30, 30, 30, 30, 30, 31, 31, 31]
    bottom_row = [63, 63, 63, 62, 62, 62, 60, 60]
    rewards = np.array([0, 0, 5, 0, 0, 5, 0, 0])
    ram = ram_of(8, at85=laser, at26=left, at18=bottom_row)
    episode = np.zeros(8, int)
    hits = hits_on_aliens(ram, rewards, episode)
    assert (hits.fired.tolist(), hits.impact.tolist()) == ([0, 3], [2, 5])
    shots = find_events("spaceinvaders", "shot", ram, 0 * rewards, episode)
    assert shots.end.tolist() == [0, 3]
    aimed = aimed_shots(ram, rewards, episode)
    assert (aimed.fired.tolist(), aimed.impact.tolist()) == ([3], [5])
    across = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert hits_on_aliens(ram, rewards, across).impact.tolist() == [2]
    assert hits_on_aliens(ram, 0 * rewards, episode).impact.tolist() == []
