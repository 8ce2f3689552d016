"""The environment factory on the real emulator."""

import numpy as np
import pytest

from atarilens.games.emulators import EnvironmentSettings, make_env, make_vector_env
from atarilens.games.hints import draw_hint

GAMES = ("pong", "breakout", "spaceinvaders", "freeway")


def play(env, seed, actions, **options):
    """Return screens, RAM, rewards of an episode's first steps."""
    screen, info = env.reset(seed=seed, options=options or None)
    screens, rams, rewards = [screen], [info["ram"]], []
    for action in actions:
        screen, reward, terminated, truncated, info = env.step(int(action))
        screens.append(screen)
        rams.append(info["ram"])
        rewards.append(reward)
        if terminated or truncated:
            break
    return np.array(screens), np.array(rams), np.array(rewards)


@pytest.mark.parametrize("game", GAMES)
def test_the_vector_environment_shows_what_a_single_one_shows(game):
    """Bit for bit, in every screen but the terminal ones, for the same integer seed."""
    settings = EnvironmentSettings(game, noop_max=0)
    vector = make_vector_env(settings, 2)
    screens, _ = vector.reset(seed=np.array([7, 11], np.int32))
    singles = [make_env(settings) for _ in range(2)]
    for index, seed in enumerate((7, 11)):
        assert np.array_equal(singles[index].reset(seed=seed)[0], screens[index, 0])
    rng = np.random.default_rng(0)
    for _ in range(150):
        actions = rng.integers(0, len(singles[0].action_meanings), 2)
        screens, rewards, terminated, _, _ = vector.step(actions)
        for index, env in enumerate(singles):
            screen, reward, over, _, info = env.step(int(actions[index]))
            assert (reward, over) == (rewards[index], terminated[index])
            assert over or np.array_equal(screen, screens[index, 0])
        if terminated.any():
            break
    else:
        assert info["lives"] >= 0
    vector.close()


@pytest.mark.parametrize("skip", [4, (2, 5)])
@pytest.mark.parametrize("stickiness", [0.0, 0.25])
def test_an_episode_is_a_function_of_the_seed_and_the_actions(skip, stickiness):
    actions = np.random.default_rng(1).integers(0, 6, 60)
    make = lambda: make_env("pong", frame_skip=skip, repeat_action_probability=stickiness)  # noqa: E731
    env = make()
    first = play(env, 5, actions)
    again, elsewhere, other = play(env, 5, actions), play(make(), 5, actions), play(env, 6, actions)
    for a, b, c in zip(first, again, elsewhere, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)
    assert not np.array_equal(first[1], other[1])


def test_a_screen_is_the_maximum_of_the_last_two_frames():
    """Space Invaders' lasers blink: each is drawn on every other frame."""
    pooled = make_env("spaceinvaders", noop_max=0)
    single = make_env("spaceinvaders", noop_max=0, frame_skip=1, max_pool=False)
    pooled.reset(seed=3)
    single.reset(seed=3)
    differs = 0
    for action in [1, 2, 1, 3, 1] * 12:
        screen, *_ = pooled.step(action)
        frames = [single.step(action)[0] for _ in range(4)]
        assert np.array_equal(screen, np.maximum(frames[2], frames[3]))
        differs += not np.array_equal(screen, frames[3])
    assert differs > 10


def test_ram_and_screen_are_of_the_same_moment():
    env = make_env("breakout", max_pool=False)
    env.reset(seed=0)
    screen, _, _, _, info = env.step(1)
    assert np.array_equal(info["ram"], env.ale.getRAM())
    assert np.array_equal(screen, env.ale.getScreenRGB())


def test_noops_are_drawn_from_the_seed_or_given():
    env = make_env("pong")
    counts = [env.reset(seed=seed)[1]["noops"] for seed in range(40)]
    assert min(counts) >= 0
    assert max(counts) <= 30
    assert len(set(counts)) > 10
    screen = env.reset(seed=4)[0]
    given = env.reset(seed=9, options={"noops": counts[4]})[0]
    assert env.reset(seed=9, options={"noops": counts[4]})[1]["noops"] == counts[4]
    assert np.array_equal(screen, given)  # Pong's opening does not depend on the seed


def test_rewards_are_the_games_own():
    env = make_env("spaceinvaders")
    rewards = play(env, 0, [1] * 400)[2]
    assert set(np.unique(rewards)) > {0.0}
    assert rewards.max() >= 5


def test_hints_are_four_by_one_pixels_per_action():
    screen = np.full((210, 160, 3), 7, np.uint8)
    hinted = draw_hint(screen, 2, 4)
    changed = np.argwhere((hinted != screen).any(2))
    assert set(changed[:, 0]) == {37, 38, 39, 40}
    assert sorted(set(changed[:, 1])) == [72, 77, 82, 87]
    assert [int(hinted[38, column, 0]) for column in (72, 77, 82, 87)] == [50, 50, 250, 50]
    assert (screen == 7).all()


def test_hints_come_from_the_expert_or_from_chance():
    seen = []

    def expert(screen, first):
        seen.append((screen.copy(), first))
        return len(seen) % 4

    env = make_env("breakout", hint="expert:someone", expert=expert)
    plain = make_env("breakout")
    screens, _, _ = play(env, 2, [1, 2, 3, 0, 1])
    unhinted, _, _ = play(plain, 2, [1, 2, 3, 0, 1])
    assert [first for _, first in seen] == [True, False, False, False, False, False]
    for index, (screen, hinted) in enumerate(zip(unhinted, screens, strict=True)):
        assert np.array_equal(seen[index][0], screen)
        assert np.array_equal(draw_hint(screen, (index + 1) % 4, 4), hinted)
    shifted = make_env("breakout", hint="shifted:someone", expert=lambda screen, first: 3)
    assert shifted.reset(seed=0)[1]["hint"] == 0
    random = make_env("breakout", hint="random")
    random.reset(seed=0)
    hints = [random.step(0)[4]["hint"] for _ in range(200)]
    assert np.all(np.bincount(hints, minlength=4) > 25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"game": "pongg"}, "unknown game 'pongg'"),
        ({"frame_skip": 0}, "frame_skip must be at least 1, or a pair low < high: 0"),
        ({"frame_skip": (4, 4)}, "frame_skip must be at least 1, or a pair low < high: "),
        ({"repeat_action_probability": 1.5}, "must lie in [0, 1], received 1.5"),
        ({"hint": "truth"}, "hint must be none, random, expert:<agent> or shifted:<agent>: 'tr"),
        ({"hint": "expert"}, "hint must be none"),
        ({"hint": "expert:a"}, "hint 'expert:a' needs an expert"),
        ({"stickyness": 0.25}, "unknown environment setting(s) ['stickyness']; known: ["),
    ],
)
def test_wrong_settings_are_named(change, message):
    game = change.pop("game", "pong")
    with pytest.raises(ValueError) as error:  # noqa: PT011 (compared below, as text)
        make_env(game, **change)
    assert message in str(error.value)


def play_breakout(env, seed, steps, before=()):
    """Follow the ball with the paddle; write cells first. Return rewards and RAM of the steps."""
    env.reset(seed=seed, options={"noops": 0})
    for action in [0] * 12 + [1]:  # the console takes ten steps to build its first wall
        env.step(action)
    for address, value in before:
        env.ale.setRAM(address, value)
    rewards, rams = [], []
    ram = env.ale.getRAM()
    for _ in range(steps):
        distance = int(ram[72]) + 8 - int(ram[99])
        action = 1 if not ram[101] else 0 if abs(distance) < 4 else 3 if distance > 0 else 2
        _, reward, *_, info = env.step(action)
        ram = info["ram"]
        rewards.append(reward)
        rams.append(ram)
    return np.array(rewards), np.array(rams)


def test_infinite_breakout_brings_the_wall_back_and_keeps_the_score():
    """One row is left and a point is missing to 864: the next brick is the last of two walls."""
    wall = [(6 * part + row, 0) for part in range(6) for row in range(1, 6)]
    last_point = [*wall, (76, 0x08), (77, 0x63)]
    plain, without = play_breakout(make_env("breakout"), 0, 150, last_point)
    env = make_env("breakout", infinite=True)
    rewards, rams = play_breakout(env, 0, 150, last_point)
    first = int(np.flatnonzero(rewards[1:])[0]) + 1  # step 0 has the points that the test wrote
    assert rewards[0] == plain[0] == 863
    assert rewards[first] == plain[first] == 1
    assert rams[first, 76:78].tolist() == [0x04, 0x32]
    assert without[first, 76:78].tolist() == [0x08, 0x64]
    # From here on the score goes from 432, and no reward is negative: the write costs nothing.
    assert (rewards[1:] >= 0).all()
    assert rewards[1:].sum() >= 1


def test_infinite_breakout_builds_a_third_wall_where_the_game_builds_none():
    empty = [*((address, 0) for address in range(36)), (76, 0x08), (77, 0x64)]
    bricks = lambda rams: np.unpackbits(rams[:, :36], axis=1).sum(1)  # noqa: E731
    plain, without = play_breakout(make_env("breakout"), 1, 60, empty)
    rewards, rams = play_breakout(make_env("breakout", infinite=True), 1, 60, empty)
    assert bricks(without).max() == 0
    assert bricks(rams).max() == 240
    assert rewards[0] == plain[0] == 864
    assert (rewards[1:] >= 0).all()


def test_infinite_changes_no_file_of_before_and_only_games_that_have_it():
    settings = EnvironmentSettings("breakout")
    assert "infinite" not in settings.as_dict()
    assert EnvironmentSettings(**settings.as_dict()) == settings
    infinite = EnvironmentSettings("breakout", infinite=True)
    assert EnvironmentSettings(**infinite.as_dict()) == infinite
    with pytest.raises(ValueError, match="Pong has no infinite variant; breakout has one"):
        make_env("pong", infinite=True)


def test_the_vector_environment_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no hints, no infinite games and a fixed frame skip"):
        make_vector_env(EnvironmentSettings("pong", frame_skip=(2, 5)), 2)
    with pytest.raises(ValueError, match="no infinite games"):
        make_vector_env(EnvironmentSettings("breakout", infinite=True), 2)


def test_episodes_are_truncated_at_max_frames():
    env = make_env("pong", max_frames=200, noop_max=0)
    env.reset(seed=0)
    for _step in range(60):
        _, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            break
    assert (terminated, truncated) == (False, True)
