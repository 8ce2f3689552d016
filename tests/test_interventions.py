"""Changes of the game's RAM on the real emulator, and the decisions that follow."""

import re
from collections import Counter

import numpy as np
import pytest
import torch
from ale_py import ALEInterface, roms
from torch import nn

from atarilens import load_agent, replay, rollout
from atarilens.agents import agent_from_module
from atarilens.games import EnvironmentSettings, bricks, object_boxes
from atarilens.games.catalogue import GAMES
from atarilens.games.interventions import held, parse, visible
from atarilens.play import effects, intervene, seen_by
from atarilens.play.interventions import Branches

MOVES = {
    "pong": ["ball_y-8", "ball_y+8", "ball_x+8", "paddle_y-8", "opponent_y+8", "ball_gone"],
    "breakout": ["ball_x-8", "ball_y+8", "paddle_x+8", "ball_gone", "brick_gone:0,0", "wall_gone"],
    "spaceinvaders": ["ship_x+8", "block_x+8", "alien_gone:0,3", "shields_gone", "shield_gone:1"],
    "freeway": ["chicken_y-8", "other_y-8", "car_x+8:8", "car_x-8:2"],
    "seaquest": ["submarine_x-8", "enemy_gone:3,0", "diver_gone:1", "oxygen_low"],
}


@pytest.fixture(scope="module")
def games():
    """A game with a record -> (agent, trajectory) of a strong agent, or of an untrained one."""
    known = {"pong": "pong-strong", "breakout": "breakout-strong"}
    agents = {name: load_agent(known.get(name, f"untrained-{name}")) for name in MOVES}
    return {name: (agent, rollout(agent, seed=3, max_steps=130)) for name, agent in agents.items()}


def later_steps(trajectory, count=12):
    """Return steps that are well inside of the first episode."""
    first = np.flatnonzero(trajectory.episode == 0)
    return np.linspace(20, first[-1] - 1, count).astype(int)


@pytest.mark.parametrize("name", MOVES)
def test_the_branch_without_change_is_the_trajectory(games, name):
    agent, trajectory = games[name]
    before = [trajectory.frames.copy(), trajectory.memory.copy(), trajectory.ram.copy()]
    steps = later_steps(trajectory, 5)
    for t, found in zip(steps, intervene(trajectory, agent, steps, ["null"]), strict=True):
        assert (found.t, found.names, found.skipped) == (t, ["unchanged", "null"], {})
        for i in range(2):  # writing all 128 cells with their own values changes nothing
            np.testing.assert_array_equal(found.screens[i], trajectory.frames[t])
            np.testing.assert_array_equal(found.ram[i], trajectory.ram[t])
            np.testing.assert_array_equal(found.observations[i], trajectory.observations[t])
            np.testing.assert_allclose(
                found.action_logits[i], trajectory.action_logits[t], rtol=1e-5, atol=1e-5
            )
        assert found.changed_px.tolist() == [0, 0]
    after = trajectory.frames, trajectory.memory, trajectory.ram
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", MOVES)
def test_what_holds_shows_in_the_objects_boxes_and_nowhere_else(games, name):
    agent, trajectory = games[name]
    held = Counter()
    for found in intervene(trajectory, agent, later_steps(trajectory), MOVES[name]):
        assert set(found.names[1:]) | set(found.skipped) == set(MOVES[name])
        assert not found.outside_px.any()
        assert not found.reward_difference.any()
        for i, named in enumerate(found.named, 1):
            held[named.name] += 1
            differs = (found.screens[i] != found.screens[0]).any(-1)
            assert differs.sum() == found.changed_px[i] > 0
            old, new = (visible(name, ram, named.change.object) for ram in found.ram[[0, i]])
            if named.change.kind == "remove":
                assert len(new) < len(old)
            elif named.change.kind == "move" and named.change.units is None:
                offset = [0, 0, 1, 1] if named.change.axis == "x" else [1, 1, 0, 0]
                wanted = np.tile(offset, (len(old), 1)) * named.amount
                np.testing.assert_allclose(new - old, wanted, atol=1)  # px
    assert set(held) == set(MOVES[name])
    assert max(held.values()) >= 8


def test_every_brick_is_48_pixels(games):
    agent, trajectory = games["breakout"]
    t = int(np.flatnonzero((trajectory.ram[:, 101] > 110) & (trajectory.ram[:, 101] < 150))[-1])
    there = bricks(trajectory.ram[t])
    changes = [f"brick_gone:{i},{j}" for i, j in np.argwhere(there)]
    changes += [f"brick_back:{i},{j}" for i, j in np.argwhere(~there)]
    (found,) = intervene(trajectory, agent, [t], changes)
    assert found.names[1:] == changes
    assert set(found.changed_px[1:]) == {48}
    assert len(changes) == 108
    assert {int(bricks(ram).sum()) for ram in found.ram[1:]} == {
        there.sum() - 1,
        there.sum() + 1,
    } - (set() if (~there).any() else {there.sum() + 1})


def test_digits_outside_of_what_the_network_reads_change_nothing(games):
    for name in ("pong", "breakout"):
        agent, trajectory = games[name]
        found = intervene(trajectory, agent, later_steps(trajectory, 4), ["digits"])
        for each in found:
            assert each.names == ["unchanged", "digits"]
            assert each.changed_px[1] > 20
            np.testing.assert_array_equal(each.action_logits[1], each.action_logits[0])
        assert effects(found)["tv"].tolist() == [0] * 4


def test_sticky_actions_are_drawn_as_they_were():
    agent = load_agent("untrained-pong")
    settings = EnvironmentSettings("pong", repeat_action_probability=0.25)
    trajectory = rollout(agent, seed=1, max_steps=40, settings=settings)
    for found in intervene(trajectory, agent, [12, 20, 38], ["null"], horizon=4):
        assert found.names == ["unchanged", "null"]
        np.testing.assert_array_equal(found.screens[0], trajectory.frames[found.t])
        np.testing.assert_array_equal(found.future.ram[0], found.future.ram[1])


def test_the_emulators_screen_is_stale_right_after_a_restore():
    """Why every branch acts before it looks."""
    ale = ALEInterface()
    ale.loadROM(roms.get_rom_path("breakout"))
    state = ale.cloneState(include_rng=True)
    for _ in range(40):
        ale.act(1)
    late, ram = ale.getScreenRGB(), ale.getRAM()
    ale.restoreState(state)
    assert not np.array_equal(ale.getRAM(), ram)
    np.testing.assert_array_equal(ale.getScreenRGB(), late)


def test_with_history_the_agent_lives_in_the_changed_game(games):
    agent, trajectory = games["breakout"]
    steps = [int(t) for t in later_steps(trajectory, 6)]
    still = intervene(trajectory, agent, steps, ["null"], history=3)
    for found in still:
        np.testing.assert_allclose(
            found.action_logits[1], trajectory.action_logits[found.t], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_array_equal(found.screens[1], trajectory.frames[found.t])
    at_once = intervene(trajectory, agent, steps, ["wall_gone"])
    lived = intervene(trajectory, agent, steps, ["wall_gone"], history=3)
    for a, b in zip(at_once, lived, strict=True):
        assert len(b.boxes[1]["bricks"]) == 0
        np.testing.assert_array_equal(a.observations[0], b.observations[0])
        assert not np.allclose(a.action_logits[1], b.action_logits[1])


def test_the_future_without_change_is_what_the_agent_plays():
    agent = load_agent("breakout-strong")
    trajectory = rollout(agent, seed=5, max_steps=80, greedy=True)
    t, horizon = 30, 40
    (found,) = intervene(trajectory, agent, [t], ["ball_gone", "null"], horizon=horizon, film=True)
    own = found.names.index("null")
    for i in (0, own):
        np.testing.assert_array_equal(found.future.actions[i], trajectory.actions[t : t + horizon])
        np.testing.assert_array_equal(found.future.rewards[i], trajectory.rewards[t : t + horizon])
        np.testing.assert_array_equal(
            found.future.screens[i][:-1], trajectory.frames[t + 1 : t + horizon]
        )
    (followed,) = intervene(
        trajectory, agent, [t], ["null"], horizon=3, player=lambda ram, generator: 2
    )
    assert followed.future.actions.tolist() == [[2, 2, 2]] * 2


class Column(nn.Module):
    """Go to the side of the brightest column of the lower field, in Breakout."""

    def forward(self, observation):
        """Return logits that grow with the ball's column."""
        field = observation[:, 0, 32:74, 6:74]
        column = (field.sum(1) * torch.arange(field.shape[-1])).sum(1) / field.sum((1, 2))
        none = torch.zeros_like(column)
        return torch.stack([none, none, column, -column], 1)


def test_an_agent_that_follows_the_ball_is_seen_to_follow_it(games):
    agent = agent_from_module(Column(), game="breakout", preprocessing="luma80")
    trajectory = seen_by(games["breakout"][1], agent)
    flies = np.flatnonzero((trajectory.ram[:, 101] > 110) & (trajectory.ram[:, 101] < 155))
    found = intervene(trajectory, agent, flies[1:9], ["ball_x-4", "ball_x+4", "paddle_x+8"])
    moved = effects(found)
    on_ball = moved["object"] == "ball"
    assert on_ball.sum() >= 8
    assert (moved["towards"][on_ball] > 0).all()
    assert (moved["tv"][~on_ball] < 1e-6).all()
    assert (moved["tv"][on_ball] > 0).all()
    assert np.isnan(moved["value"]).all()


def test_a_stack_of_screens_shows_the_change_in_the_newest_or_in_all():
    class Sums(nn.Module):
        def forward(self, observation):
            return observation.sum((2, 3))[:, 1:], observation.sum((1, 2, 3))

    agent = agent_from_module(Sums(), game="freeway", preprocessing="area84-stack4")
    trajectory = rollout(agent, seed=0, max_steps=30)
    (newest,) = intervene(trajectory, agent, [25], ["car_colour"])
    differs = (newest.observations[1] != newest.observations[0]).any((1, 2))
    assert differs.tolist() == [False, False, False, True]
    (whole,) = intervene(trajectory, agent, [25], ["car_colour"], history=3)
    assert (whole.observations[1] != whole.observations[0]).any((1, 2)).all()


def test_the_target_is_the_alien_that_the_shot_will_hit():
    trajectory = replay("spaceinvaders-strong")
    agent = load_agent("spaceinvaders-strong")
    gone = parse("alien_gone:target", "spaceinvaders").change
    arrays = trajectory.ram, trajectory.rewards, trajectory.episode
    steps = [t for t in range(30, 200) if gone.choose["target"](*arrays, t)][:12]
    found = intervene(trajectory, agent, steps, ["alien_gone:target"])
    named = [each.named[0].unit for each in found if each.named]
    assert len(named) >= 6
    for each in found:
        if each.named:
            row, column = each.named[0].unit
            later = np.array([len(object_boxes("spaceinvaders", r)["aliens"]) for r in arrays[0]])
            falls = np.flatnonzero(np.diff(later[each.t : each.t + 30]) < 0)[0]
            lost = (
                trajectory.ram[each.t + falls, 23 - row]
                ^ trajectory.ram[each.t + falls + 1, 23 - row]
            )
            assert lost == 1 << column


@pytest.mark.parametrize(
    ("game", "name", "message"),
    [
        ("pong", "bal_y-8", "Pong has no change 'bal_y-8'; it has ball_y, ball_x, "),
        ("pong", "ball_y", "write change 'ball_y' of Pong like 'ball_y+8'"),
        ("pong", "ball_gone+3", "write change 'ball_gone+3' of Pong like 'ball_gone'"),
        ("breakout", "brick_gone", "change 'brick_gone' of Breakout names no object: write it lik"),
        ("breakout", "wall_gone:2", "change 'wall_gone:2' of Breakout is not about one of many: "),
        ("qbert", "null", "Qbert has no table of changes; breakout, freeway, pong, seaquest, "),
    ],
)
def test_a_change_that_is_not_there_is_named(game, name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(name, game)


def test_what_cannot_be_done_is_said(games):
    agent, trajectory = games["pong"]
    with pytest.raises(ValueError, match="the episode of step 0 is too young for a change 0 earl"):
        intervene(trajectory, agent, [0], ["null"])
    with pytest.raises(ValueError, match="step is 900, expected 0 to 129"):
        intervene(trajectory, agent, [900], ["null"])
    with pytest.raises(
        ValueError, match="agent 'breakout-strong' plays breakout, the trajectory p"
    ):
        intervene(trajectory, games["breakout"][0], [5], ["null"])
    with pytest.raises(ValueError, match="agent 'untrained-pong' does not decide as the trajector"):
        intervene(trajectory, load_agent("untrained-pong"), [30], ["null"])
    served = int(np.flatnonzero(trajectory.ram[:, 54] == 0)[3])
    (found,) = intervene(trajectory, agent, [served], ["ball_y+8", "null"])
    assert found.skipped == {"ball_y+8": "ball: there is none"}
    assert found.names == ["unchanged", "null"]


@pytest.mark.parametrize("name", MOVES)
def test_every_change_of_a_record_is_whole(name):
    record = GAMES[name]
    assert record.changes
    objects = set(record.boxes(np.zeros(128, np.uint8)))
    for change in record.changes.values():
        assert change.object in objects or change.area
        assert change.meaning or change.units
        assert (change.axis in ("x", "y")) == (change.kind == "move")
        assert change.kind in ("move", "velocity", "remove", "add", "decorate")


@pytest.mark.parametrize(
    ("game", "name", "words"),
    [
        ("pong", "ball_y-8", "ball 8 px up"),
        ("breakout", "paddle_x+4", "paddle 4 px right"),
        ("freeway", "car_x-8:2", "cars 2 8 px left"),
        ("breakout", "brick_gone:2,7", "brick gone 2,7"),
        ("pong", "null", "null"),
    ],
)
def test_a_change_has_words(game, name, words):
    assert parse(name, game).words == words


def test_effects_are_the_textbooks():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], np.float32))
    named = parse("ball_y-8", "pong")
    empty = np.zeros(2, int)
    branches = Branches(
        *(7, ["unchanged", "ball_y-8"], empty, empty, empty, logits, np.float32([1, 3])),
        *([{}, {}], empty, empty, empty, {}, [named], ["NOOP", "RIGHT", "LEFT"]),
    )
    found = effects([branches])
    assert {key: found[key].tolist() for key in ("t", "change", "object", "flip")} == {
        "t": [7],
        "change": ["ball_y-8"],
        "object": ["ball"],
        "flip": [True],
    }
    np.testing.assert_allclose(found["tv"], 0.25, rtol=1e-6)
    np.testing.assert_allclose(found["value"], 2)
    np.testing.assert_allclose(found["towards"], 0.25, rtol=1e-6)  # up, and RIGHT goes up
    np.testing.assert_allclose(found["centred_logit"], np.log(2) ** 2, rtol=1e-5)


def test_a_move_of_what_is_gone_by_then_did_not_hold():
    """A point ends between the write and the decision: neither game has a ball any more."""
    ram = np.zeros(128, np.uint8)
    assert not len(object_boxes("pong", ram)["ball"])
    assert held(parse("ball_y+8", "pong"), "pong", ram, ram) == "ball: it is gone by itself"
