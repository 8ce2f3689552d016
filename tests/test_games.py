"""Object boxes against the colours of real screens, game by game."""

import re

import ale_py
import numpy as np
import pytest
from ale_py import roms

from atarilens.games.catalogue.mspacman import ghost_box
from atarilens.games.emulators import make_env
from atarilens.games.events import event, find_events
from atarilens.games.objects import (
    GAMES,
    aliens,
    bricks,
    cell,
    game,
    has_objects,
    object_boxes,
    to_observation,
)
from atarilens.play.rollouts import replay

COLOURS = {
    "pong": {"ball": (236, 236, 236), "paddle": (92, 186, 92), "opponent": (213, 130, 74)},
    "breakout": {"ball": (200, 72, 72), "paddle": (200, 72, 72)},
    "spaceinvaders": {
        "ship": (50, 132, 50),
        "aliens": (134, 134, 29),
        "shields": (181, 83, 40),
        "missiles": (142, 142, 142),
    },
}

MYSTERY_SHIP = (151, 25, 122)
SHIP = np.array(
    [
        [pixel == "#" for pixel in row]
        for row in (
            "...#...",
            "..###..",
            "..###..",
            ".#####.",
            "..###..",
            "..###..",
            "#######",
            ".#####.",
            "#######",
            "#######",
        )
    ]
)
MOVING_SHIP = np.pad(SHIP, ((0, 0), (0, 1))) | np.pad(SHIP, ((0, 0), (1, 0)))


def follow_ball(name, ram, rng):
    """Play so that balls are hit and aliens shot; actions of the minimal sets."""
    if name == "seaquest":
        return int(rng.choice([1, 3, 4, 5, 11, 12, 13]))
    if name in ("mspacman", "frostbite"):
        return int(rng.choice([2, 3, 4, 5]))
    if name == "enduro":
        return int(rng.choice([1, 7, 8], p=[0.6, 0.2, 0.2]))  # straight on, right, left
    if name == "freeway":
        return int(rng.choice(3, p=[0.1, 0.8, 0.1]))
    if name == "spaceinvaders" or rng.random() < 0.2:
        return int(rng.integers(4))
    if name == "pong":
        distance = int(ram[51]) - int(ram[54])
        return 0 if abs(distance) < 4 else 2 if distance > 0 else 3
    distance = int(ram[72]) + 8 - int(ram[99])
    return 1 if not ram[101] else 0 if abs(distance) < 4 else 3 if distance > 0 else 2


def play(name, steps, **settings):
    """Return screens `[steps, 210, 160, 3]` and RAM `[steps, 128]` of one scripted run."""
    env, rng = make_env(name, **settings), np.random.default_rng(0)
    _, info = env.reset(seed=0)
    screens, rams = [], []
    for _ in range(steps):
        screen, _, terminated, _, info = env.step(follow_ball(name, info["ram"], rng))
        screens.append(screen.copy())
        rams.append(info["ram"].copy())
        if terminated:
            env.reset()
    return np.array(screens), np.array(rams)


def filled(boxes):
    """Return `[210, 160]` bool: the pixels inside of any of the boxes."""
    mask = np.zeros((210, 160), bool)
    for top, bottom, left, right in boxes.astype(int):
        mask[top:bottom, left:right] = True
    return mask


def coloured(screen, colour, rows=(0, 210), columns=(0, 160)):
    """Return `[210, 160]` bool: the pixels of a colour inside of a window."""
    mask = np.zeros((210, 160), bool)
    window = slice(*rows), slice(*columns)
    mask[window] = (screen[window] == colour).all(-1)
    return mask


@pytest.mark.parametrize("kind", ["ball", "paddle", "opponent"])
def test_pong_boxes_hold_exactly_the_coloured_pixels(kind):
    screens, rams = play("pong", 400, max_pool=False)
    found = [object_boxes("pong", ram)[kind] for ram in rams]
    exact = [
        np.array_equal(filled(boxes), coloured(screen, COLOURS["pong"][kind], (34, 194)))
        for boxes, screen in zip(found, screens, strict=True)
    ]
    assert np.mean(exact) > 0.95  # ball: the kernel draws two rows at a time
    assert np.mean([len(boxes) for boxes in found]) > 0.5


def test_breakout_boxes_hold_exactly_the_coloured_pixels():
    screens, rams = play("breakout", 500, max_pool=False)
    exact = {"ball": [], "paddle": [], "bricks": []}
    for screen, ram in zip(screens, rams, strict=True):
        boxes = object_boxes("breakout", ram)
        ball, paddle, wall = (filled(boxes[kind]) for kind in ("ball", "paddle", "bricks"))
        red = coloured(screen, (200, 72, 72), (93, 210), (8, 152))
        ball_below = ball & (np.arange(210) >= 93)[:, None]
        exact["ball"].append(np.array_equal(ball_below[:189], red[:189]))
        exact["paddle"].append(np.array_equal(paddle[189:193], (red & ~ball)[189:193]))
        visible = (screen != 0).any(-1)
        exact["bricks"].append(np.array_equal((wall | ball)[57:93, 8:152], visible[57:93, 8:152]))
    assert {kind: np.mean(share) > 0.95 for kind, share in exact.items()} == dict.fromkeys(
        exact, True
    )
    assert 80 < bricks(rams[-1]).sum() < 108  # some are gone


def test_breakout_tunnel_is_the_columns_without_bricks():
    ram = play("breakout", 1)[1][0]
    assert bricks(ram).shape == (6, 18)
    assert bricks(ram).all()
    assert len(object_boxes("breakout", ram)["tunnel"]) == 0
    ram[24:30] &= 0b11110011  # two bits a row, the third brick of the part that starts at px 16
    assert bricks(ram).sum() == 102
    boxes = object_boxes("breakout", ram)
    assert boxes["tunnel"].tolist() == [[57, 93, 32, 40]]
    assert len(boxes["bricks"]) == 102
    ram[0] &= 0b11111100  # bottom row, first brick of the part that starts at px 128
    gone = ~bricks(ram)
    assert np.argwhere(gone)[-1].tolist() == [5, 15]
    assert gone.sum() == 7


def test_space_invaders_boxes_hold_the_coloured_pixels():
    screens, rams = play("spaceinvaders", 400, max_pool=False)
    colours = COLOURS["spaceinvaders"]
    drawn, inside, tight = ({"ship": [], "aliens": [], "shields": []} for _ in range(3))
    for screen, ram in zip(screens, rams, strict=True):
        boxes = object_boxes("spaceinvaders", ram)
        for kind in tight:
            if kind == "ship" and not len(boxes[kind]):  # an explosion has the ship's colour
                continue
            pixels = coloured(screen, colours[kind], (31, 195))
            drawn[kind].append(pixels.sum())
            inside[kind].append((pixels & filled(boxes[kind])).sum())
            for top, bottom, left, right in boxes[kind].astype(int):
                rows, columns = np.nonzero(pixels[top:bottom, left:right])
                size = (np.ptp(rows) + 1, np.ptp(columns) + 1) if rows.size else (0, 0)
                tight[kind].append(size[0] >= bottom - top - 1 and size[1] == right - left)
    for kind in tight:
        # The rest are aliens that explode, their bit is gone, and a ship on its way: 1 px ahead.
        assert np.sum(inside[kind]) / np.sum(drawn[kind]) > 0.95, kind
        assert np.mean(tight[kind]) > (0.8 if kind == "ship" else 0.97), kind
    assert aliens(rams[0]).all()
    assert 15 < aliens(rams[-1]).sum() < 36


def ship_is_whole(screen):
    """Whether what has the ship's colour is the ship, or the ship at two places 1 px apart."""
    green = coloured(screen, COLOURS["spaceinvaders"]["ship"], (185, 195))[185:195]
    green = green[:, green.any(0)]
    return any(np.array_equal(green, shape) for shape in (SHIP, MOVING_SHIP))


def test_space_invaders_ship_has_a_box_exactly_while_it_is_drawn():
    # 2 to 4 frames a step meet each part of a blink and of an explosion.
    screens, rams = play("spaceinvaders", 2000, max_pool=False, frame_skip=(2, 5))
    boxed = np.array([len(object_boxes("spaceinvaders", ram)["ship"]) for ram in rams])
    assert boxed.tolist() == [ship_is_whole(screen) for screen in screens]
    assert np.count_nonzero(np.diff(cell("spaceinvaders", "ship_state", rams) == 4)) >= 10
    assert 0.6 < boxed.mean() < 0.9


@pytest.mark.parametrize("name", ["spaceinvaders-strong", "spaceinvaders-control"])
def test_space_invaders_ship_has_a_box_while_it_is_drawn_in_recorded_games(name):
    trajectory = replay(name)
    boxed = np.array([len(object_boxes("spaceinvaders", ram)["ship"]) for ram in trajectory.ram])
    whole = np.array([ship_is_whole(screen) for screen in trajectory.frames])
    assert np.mean(boxed == whole) > 0.995  # else: gone in the last of the two frames
    assert 0.1 < np.mean(~whole) < 0.2
    wins = cell("spaceinvaders", "ship_state", trajectory.ram) == 8
    assert wins.any() == (name == "spaceinvaders-control")
    passages = event("spaceinvaders", "mystery_ship")
    start, end = passages.find(trajectory.ram, trajectory.rewards, trajectory.episode)
    inside = np.zeros(len(whole), bool)
    for first, last in zip(start, end, strict=True):
        inside[first : last + 1] = True
    purple = [coloured(screen, MYSTERY_SHIP, (0, 35)) for screen in trajectory.frames]
    assert np.mean(inside == np.any(purple, (1, 2))) > 0.998  # else: gone in the last frame
    assert len(start) >= 3
    for t in np.flatnonzero(inside)[5::20]:
        ((top, bottom, left, right),) = passages.target(trajectory.ram, t, t)
        rows, columns = np.nonzero(purple[t][:, :159])  # its edge can show at the other side
        assert (top, bottom) == (rows.min(), rows.max() + 1)
        assert abs(left - columns.min()) <= 1
        assert abs(right - columns.max() - 1) <= 1
    assert passages.target(trajectory.ram, int(start[0]) - 1, 0).shape == (0, 4)


def test_space_invaders_missiles_are_inside_their_boxes():
    screens, rams = play("spaceinvaders", 400)
    drawn = inside = 0
    seen = {"laser": [], "bombs": []}
    for screen, ram in zip(screens, rams, strict=True):
        boxes = object_boxes("spaceinvaders", ram)
        grey = coloured(screen, COLOURS["spaceinvaders"]["missiles"], (35, 195))
        drawn += grey.sum()
        inside += (grey & filled(np.concatenate([boxes["laser"], boxes["bombs"]]))).sum()
        for kind, flags in seen.items():
            flags += [(grey & filled(box[None])).any() for box in boxes[kind] if box[0] > 35]
    assert inside / drawn > 0.95
    assert np.mean(seen["laser"]) > 0.9
    assert np.mean(seen["bombs"]) > 0.9


@pytest.mark.parametrize("name", GAMES)
def test_boxes_lie_on_the_screen_and_the_keys_never_change(name):
    rng = np.random.default_rng(0)
    keys = None
    for ram in rng.integers(0, 256, (200, 128), dtype=np.uint8):
        boxes = object_boxes(name, ram)
        keys = keys or list(boxes)
        assert list(boxes) == keys
        for found in boxes.values():
            assert found.shape == (len(found), 4)
            assert (found[:, 1] > found[:, 0]).all()
            assert (found[:, 3] > found[:, 2]).all()


def test_to_observation_halves_and_cuts_at_the_border():
    boxes = {"a": np.array([[35.0, 39, 10, 12], [30, 37, 158, 170], [0, 20, 0, 160]])}
    moved = to_observation(boxes, (35, 195, 0, 160), (80, 80))
    assert moved["a"].tolist() == [[0, 2, 5, 6], [0, 1, 79, 80]]
    assert to_observation({"a": np.zeros((0, 4))}, (35, 195, 0, 160))["a"].shape == (0, 4)
    stretched = to_observation({"a": np.array([[0.0, 210, 0, 160]])}, (0, 210, 0, 160), (84, 42))
    assert stretched["a"].tolist() == [[0, 84, 0, 42]]


def test_the_scores_in_ram_are_the_rewards():
    env, rng = make_env("breakout"), np.random.default_rng(1)
    _, info = env.reset(seed=1)
    total = 0
    for _ in range(250):
        _, reward, *_, info = env.step(follow_ball("breakout", info["ram"], rng))
        total += reward
    hundreds, units = cell("breakout", "score", info["ram"])
    assert total > 0
    assert (hundreds & 15) * 100 + (units >> 4) * 10 + (units & 15) == total
    assert cell("breakout", "lives", info["ram"]) == info["lives"]


def test_freeway_boxes_hold_the_coloured_pixels():
    screens, rams = play("freeway", 600, max_pool=False)
    car_colours = [
        *[(167, 26, 26), (180, 231, 117), (105, 105, 15), (228, 111, 111), (24, 26, 167)],
        *[(162, 98, 33), (84, 92, 214), (184, 50, 50), (135, 183, 84), (210, 210, 64)],
    ]
    exact, inside, tight = [], 0, []
    lines = range(100, 108)  # the yellow lines in the middle have the chicken's colour
    for screen, ram in zip(screens, rams, strict=True):
        boxes = object_boxes("freeway", ram)
        cars = filled(boxes["cars"])
        painted = np.any([coloured(screen, colour, (24, 184)) for colour in car_colours], axis=0)
        tyres = coloured(screen, (0, 0, 0), (24, 183), (8, 160))  # black rows are borders
        inside += (painted & ~cars).sum() == 0
        exact.append(np.array_equal(_outer_box(painted | tyres), _outer_box(cars)))
        for kind, columns in (("chicken", (40, 56)), ("other", (104, 120))):
            (top, bottom, left, right), *_ = boxes[kind].astype(int)
            yellow = coloured(screen, (252, 252, 84), (15, 196), columns)
            yellow[lines] = False
            free = (
                not set(range(top, bottom)) & set(lines) and not cars[top:bottom, left:right].any()
            )
            if free:
                found = _outer_box(yellow)
                tight.append(found[:3] == (top, bottom, left) and right - found[3] in (0, 1))
    assert inside == len(screens)
    assert np.mean(exact) > 0.95  # the rest: only a corner of an outer car is in the picture
    assert len(tight) > 600
    assert np.mean(tight) > 0.95  # the rest: knocked over by a car
    assert len(boxes["cars"]) >= 8


def _outer_box(mask):
    """Return (top, bottom, left, right) of the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_seaquest_boxes_hold_the_coloured_pixels():
    screens, rams = play("seaquest", 700, max_pool=False)
    enemies, diver = [(92, 186, 92), (160, 171, 79), (170, 170, 170)], (66, 72, 200)
    seen = {kind: [] for kind in object_boxes("seaquest", rams[0])}
    missed = 0
    for screen, ram in zip(screens, rams, strict=True):
        boxes = object_boxes("seaquest", ram)
        fish = np.any([coloured(screen, colour, (62, 155), (8, 160)) for colour in enemies], axis=0)
        missed += (fish & ~filled(boxes["enemies"])).sum() > 0
        for kind, places in boxes.items():
            for top, bottom, left, right in places.astype(int):
                if right - left < 8 or (kind == "submarine" and ram[97] < 20):
                    continue  # at the edge, or half out of the water
                box = np.s_[top:bottom, left:right]
                if kind == "oxygen":
                    row = coloured(screen, (214, 214, 214), (172, 173), (8, 160))[172]
                    seen[kind].append(row.sum() == right - left and row[left])
                elif kind == "enemies":
                    found = fish[box].any(1).sum(), fish[box].any(0).sum()
                    seen[kind].append(found in ((7, 8), (11, 8), (10, 8)))
                elif kind in ("divers", "missiles"):
                    seen[kind].append(coloured(screen, diver)[box].sum() > 3)
                else:
                    yellow = coloured(screen, (187, 187, 53))[box]
                    seen[kind].append(yellow.any(0).mean() > 0.9)
    assert missed / len(screens) < 0.02
    for kind, exact in seen.items():
        assert len(exact) > 20, kind
        # The rest: hidden behind something, blinking, exploding, or a game that is over.
        assert np.mean(exact) > (0.95 if kind in ("enemies", "divers") else 0.8), kind


GHOSTS = {0: (180, 122, 48), 1: (84, 184, 153), 2: (198, 89, 179), 3: (200, 72, 72)}
SPRITE = 10, 8  # px, of a ghost


def frames_of(name, steps, first=0):
    """Return the emulator's frames, one by one, and the RAM after each, from frame `first` on."""
    screens, rams = play(name, steps, max_pool=False, frame_skip=1)
    return screens[first:], rams[first:]


def test_ms_pacmans_boxes_of_the_frame_before_hold_exactly_the_coloured_pixels():
    screens, rams = frames_of("mspacman", 900, first=280)  # the game stands still until then
    seen = dict.fromkeys(GHOSTS, 0)
    player = []
    for screen, before, ram in zip(screens[1:], rams, rams[1:], strict=False):
        for ghost, colour in GHOSTS.items():
            found = coloured(screen, colour, (0, 172))
            if found.any() and _outer_box(found)[1] - _outer_box(found)[0] == SPRITE[0]:
                box = ghost_box(before, (ghost,))  # the RAM is one frame ahead of the screen
                assert _outer_box(found) == box
                ahead = np.subtract(ghost_box(ram, (ghost,)), box)
                assert abs(ahead).max() <= 3
                seen[ghost] += 1
        boxes = object_boxes("mspacman", before)
        assert len(boxes["ghosts"]) + len(boxes["blue_ghosts"]) == 4
        yellow = coloured(screen, (210, 164, 74), (0, 172))
        player.append(yellow.any() and not (yellow & ~filled(boxes["pacman"])).any())
    assert min(seen.values()) > 50
    assert max(seen.values()) < 0.95 * len(screens)  # they blink
    assert np.mean(player) > 0.95


def test_a_power_pill_turns_the_ghosts_blue():
    env = make_env("mspacman", max_pool=False)
    _, info = env.reset(seed=0)
    for _ in range(75):
        _, _, _, _, info = env.step(0)
    before = object_boxes("mspacman", info["ram"])
    assert [len(before[kind]) for kind in ("ghosts", "blue_ghosts", "power_pills")] == [4, 0, 4]
    for address, value in {10: 20, 16: 136}.items():  # beside the lower left pill
        env.ale.setRAM(address, value)
    blue = np.zeros((210, 160), bool)
    for _ in range(12):
        screen, _, _, _, info = env.step(4)
        after = object_boxes("mspacman", info["ram"])
        blue |= coloured(screen, (66, 114, 194), (0, 172))
    assert [len(after[kind]) for kind in ("ghosts", "blue_ghosts")] == [0, 4]
    assert blue.sum() > 100
    assert len(after["power_pills"]) == 3


def test_frostbites_boxes_hold_exactly_the_coloured_pixels():
    screens, rams = play("frostbite", 600, max_pool=False)
    colours = {
        "floes": (214, 214, 214),
        "used_floes": (84, 138, 210),
        "animals": (132, 144, 252),
    }
    exact = {kind: [] for kind in [*colours, "bailey", "igloo", "igloo's top"]}
    for screen, ram in zip(screens, rams, strict=True):
        boxes = object_boxes("frostbite", ram)
        for kind, colour in colours.items():
            painted = coloured(screen, colour, (77, 183))
            inside = not (painted & ~filled(boxes[kind])).any()
            whole = [box.astype(int) for box in boxes[kind] if box[2] > 8 and box[3] < 160]
            drawn = [painted[a:b, c:d].sum() > 10 for a, b, c, d in whole]
            exact[kind] += [inside and all(drawn)] * bool(painted.any() or drawn)
        skin = coloured(screen, (198, 108, 58), (77, 183)) | coloured(
            screen, (162, 98, 33), (77, 183)
        )
        if skin.any():
            a_pixel_higher = boxes["bailey"] - [1, 0, 0, 0]  # the RAM may be a frame ahead
            exact["bailey"].append(not (skin & ~filled(a_pixel_higher)).any())
        bailey = filled(boxes["bailey"])
        igloo = coloured(screen, (142, 142, 142), (30, 56))
        # A row of the igloo that is being built fills its box from the left.
        exact["igloo"].append(not (igloo & ~filled(boxes["igloo"]) & ~bailey).any())
        if igloo.any() and not bailey[30:56].any():
            exact["igloo's top"].append(abs(np.argwhere(igloo)[0, 0] - boxes["igloo"][0, 0]) <= 1)
    for kind, found in exact.items():
        assert len(found) > 40, kind
        assert np.mean(found) > 0.95, kind
    assert len(object_boxes("frostbite", rams[-1])["floes"]) > 0


def test_enduros_boxes_of_the_next_frame_hold_the_coloured_pixels():
    screens, rams = play("enduro", 1200, max_pool=False)
    road = np.zeros((210, 160), bool)
    road[52:155, 8:] = True
    exact = {kind: [] for kind in ("cars", "drawn", "own_car", "mountains")}
    for screen, ram in zip(screens, rams, strict=True):
        boxes = object_boxes("enduro", ram)
        bright = np.ptp(screen.astype(int), axis=2) > 20
        cars = bright & ~coloured(screen, (0, 68, 0), (52, 155)) & road
        places = boxes["cars"] + np.array([-5, 5, 0, 0])
        exact["cars"] += [not (cars & ~filled(places)).any()] * bool(cars.any())
        exact["drawn"] += [cars[a:b, c:d].any() for a, b, c, d in places.astype(int)]
        own = coloured(screen, (192, 192, 192), (130, 155)) & filled(boxes["own_car"])
        exact["own_car"].append(own.sum() > 100)  # of 120
        hills = (screen[40:51] != screen[40, 20]).any(-1)
        hills[:, :8] = False
        exact["mountains"].append(
            not (hills & ~filled(boxes["mountains"] + [0, 0, -3, 3])[40:51]).any()
        )
    assert len(exact["cars"]) > 300
    assert np.mean(exact["cars"]) > 0.9  # all but those that change their section
    assert np.mean(exact["drawn"]) > 0.95
    assert np.mean(exact["own_car"]) > 0.98
    assert np.mean(exact["mountains"]) > 0.98


def test_enduros_collisions_stop_the_car_and_passings_score():
    env, rng = make_env("enduro"), np.random.default_rng(0)
    _, info = env.reset(seed=0)
    rams, rewards = [], []
    for _ in range(800):
        rams.append(info["ram"])
        _, reward, *_, info = env.step(follow_ball("enduro", info["ram"], rng))
        rewards.append(reward)
    rams, rewards = np.array(rams), np.array(rewards)
    hits = find_events("enduro", "collision", rams, rewards, np.zeros(800, int)).start
    speed = cell("enduro", "speed", rams).astype(int)
    assert len(hits) >= 3
    assert (speed[hits] - speed[hits + 1] >= 6).all()
    assert (speed[hits + 1] <= 10).all()
    passed = find_events("enduro", "passing", rams, rewards, np.zeros(800, int)).start
    assert len(passed) == (rewards > 0).sum() >= 3


def test_freeway_score_in_ram_is_the_rewards_and_each_crossing_an_event():
    env = make_env("freeway")
    _, info = env.reset(seed=0)
    rams, rewards = [], []
    for _ in range(400):
        rams.append(info["ram"])
        _, reward, *_, info = env.step(1)
        rewards.append(reward)
    rams, rewards = np.array(rams), np.array(rewards)
    crossed = find_events("freeway", "crossing", rams, rewards, np.zeros(400, int))
    assert len(crossed.start) == sum(rewards) == cell("freeway", "score", info["ram"]) >= 3
    assert (cell("freeway", "chicken_y", rams[crossed.start]) > 165).all()
    hit = find_events("freeway", "collision", rams, rewards, np.zeros(400, int)).start
    assert len(hit) >= 3
    for t in hit:  # a car knocks the chicken back, although it is told to go up
        assert (np.diff(cell("freeway", "chicken_y", rams[t : t + 6])) < 4).any()


@pytest.mark.parametrize(
    ("spelling", "name", "ale"),
    [
        ("pong", "pong", "pong"),
        ("Pong", "pong", "pong"),
        ("ALE/Pong-v5", "pong", "pong"),
        ("PongNoFrameskip-v4", "pong", "pong"),
        ("Pong-ramDeterministic-v0", "pong", "pong"),
        ("SpaceInvaders", "spaceinvaders", "space_invaders"),
        ("space_invaders", "spaceinvaders", "space_invaders"),
        ("Space Invaders", "spaceinvaders", "space_invaders"),
        ("Ms. Pac-Man", "mspacman", "ms_pacman"),
        ("ALE/Qbert-v5", "qbert", "qbert"),
        ("tic_tac_toe_3d", "tictactoe3d", "tic_tac_toe_3d"),
    ],
)
def test_a_game_is_found_under_its_usual_spellings(spelling, name, ale):
    record = game(spelling)
    assert (record.name, record.ale) == (name, ale)
    assert make_env(spelling).settings.game == name


def test_games_without_a_record_play_and_say_that_they_have_no_objects():
    screen, info = make_env("ALE/Qbert-v5").reset(seed=0)
    assert screen.shape == (210, 160, 3)
    assert not has_objects("qbert")
    message = "where the objects of Qbert are is not known; it is for breakout, enduro, freeway"
    with pytest.raises(ValueError, match=message):
        object_boxes("qbert", info["ram"])
    with pytest.raises(ValueError, match="Qbert has no event 'decisive'; it has none"):
        find_events("qbert", "decisive", info["ram"][None], np.zeros(1), np.zeros(1))


def test_exactly_the_games_of_210_lines_are_known():
    known, other = [], []
    for rom in roms.get_all_rom_ids():
        try:
            known.append(game(rom).ale)
        except ValueError:
            other.append(rom)
    assert len(known) == 91
    lines = {}
    for rom in known + other:
        if not any(word in rom for word in ("combat", "joust", "maze_craze", "warlords")):
            ale = ale_py.ALEInterface()
            ale.loadROM(roms.get_rom_path(rom))
            lines[rom] = ale.getScreenDims()[0]
    assert {lines[rom] for rom in known} == {210}
    assert all(lines.get(rom) != 210 for rom in other)


@pytest.mark.parametrize("name", GAMES)
def test_a_record_is_whole(name):
    record = GAMES[name]
    boxes = object_boxes(name, make_env(name).reset(seed=0)[1]["ram"])
    assert record.name == name
    assert record.player in boxes
    for kind in ("decisive", "contact"):
        assert event(name, kind).rule
    top, bottom, left, right = record.region
    assert 0 <= top < bottom <= 210
    assert 0 <= left < right <= 160


def test_errors_name_what_was_received():
    for name, message in {
        "pongg": "unknown game 'pongg', did you mean pong? Known are breakout, enduro, fre",
        "ALE/Pacman-v5": "game 'ALE/Pacman-v5' has more than 210 screen lines, which is not sup",
        "joust": "game 'joust' is for two players only, which is not supported",
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            game(name)
    message = "ram must be [128] uint8, received [2, 128] uint8"
    with pytest.raises(ValueError, match=re.escape(message)):
        object_boxes("pong", np.zeros((2, 128), np.uint8))
