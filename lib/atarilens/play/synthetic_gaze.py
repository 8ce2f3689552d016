"""Make trials whose gaze follows a rule, in the layout of Atari-HEAD, for tests and examples.

Nobody looked at these screens. The rule says where the gaze has to be, so that a map of that place
must win every comparison with it; nothing else follows from synthetic gaze.
"""

import csv
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm import tqdm

from atarilens import paths
from atarilens.agents import Agent, load_agent
from atarilens.games.emulators import make_env
from atarilens.games.objects import game as record_of
from atarilens.games.objects import object_boxes
from atarilens.play.gaze_trials import (
    COLUMNS,
    GAZE,
    META,
    SKIP,
    GazeTrial,
    list_gaze_trials,
    load_gaze_trial,
)
from atarilens.play.inference import Stream, run_network
from atarilens.play.rollouts import action_chooser

META_COLUMNS = (
    *("GameName", "trial_id", "subject_id", "load_trial", "highest_score", "total_frame"),
    *("total_game_play_time", "total_episode", "avg_error", "max_error", "low_sample_rate"),
    *("frame_averaging", "fps", "synthetic"),
)
DELAY = 4  # emulator frames, 67 ms
NOISE = 6.0  # px, standard deviation along x and y
SAMPLES = 5  # gaze points per emulator frame
BLINKS = 0.05  # share of the frames without gaze
RULE = (
    "synthetic: the gaze is where the {object} was {delay} emulator frames before, plus noise of "
    "{noise:g} px; {blinks:.0%} of the frames have none"
)


def open_gaze_trials(
    game: str,
    folder: str | Path = "",
    *,
    trials: int = 4,
    steps: int = 100,
    player: str = "",
    seed: int = 0,
) -> list[GazeTrial]:
    """Load trials of people from a folder, or make synthetic ones where no folder is named.

    Args:
        game: of the trials.
        folder: in the layout of Atari-HEAD; "" makes synthetic trials.
        trials: how many; the first ones of a folder.
        steps: decisions of each, at most.
        player: agent that plays synthetic trials; by default the game's strong one.
        seed: of the first synthetic trial.

    Raises:
        ValueError: if the folder has no trial of the game.
    """
    if not folder:
        with TemporaryDirectory() as made:
            write_synthetic_trials(
                made, game, trials=trials, frames=SKIP * steps + 1, player=player, seed=seed
            )
            return open_gaze_trials(game, made, trials=trials, steps=steps)
    names = list_gaze_trials(game, folder)[:trials]
    if not names:
        raise ValueError(f"{folder} has no trial of {record_of(game).name}")
    return [load_gaze_trial(name, game, folder, max_steps=steps) for name in names]


def write_synthetic_trials(
    folder: str | Path,
    game: str = "breakout",
    *,
    trials: int = 4,
    frames: int = 401,
    player: str = "",
    follows: str = "ball",
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Let an agent play, and write its screens with a gaze that follows an object.

    The gaze of an emulator frame is where the object's centre was `DELAY` frames before, with
    independent Gaussian noise for each of its points. While the object is absent, the object that
    the player moves takes its place. A share of the frames has no gaze (`null`), as if the person
    blinked. Beside the files of Atari-HEAD, a trial has its RAM, `<name>.npy`, `[N, 128]` uint8,
    and `meta_data.csv` has a last column that states the rule.

    Args:
        folder: made if missing; its `meta_data.csv` is replaced.
        game: with a record of its objects.
        trials: how many; trial i is played from seed + i and has the number i + 1.
        frames: emulator frames of each.
        player: who plays; by default the game's strong agent.
        follows: object of the game's record.
        seed: of the first trial.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        ValueError: if there are fewer than two frames, or the game has no such object.
    """
    folder, record = Path(folder), record_of(game)
    known = object_boxes(record.name, np.zeros(128, np.uint8))
    if frames < 2 or follows not in known:
        raise ValueError(
            f"received {frames} frames and the object {follows!r}; expected 2 frames or more, and "
            f"one of {', '.join(known)}"
        )
    agent = load_agent(player or f"{record.name}-strong", game=record.name)
    words = RULE.format(object=follows, delay=DELAY, noise=NOISE, blinks=BLINKS)
    rows = []
    for trial in tqdm(range(1, trials + 1), unit="trial", disable=not progress):
        subject = f"{trial}_SYNTH_{seed + trial - 1}"
        played = _play(agent, seed + trial - 1, frames)
        places = _places(record.name, played["ram"], follows, record.player)
        gaze = _gaze(places, np.random.default_rng([seed + trial - 1, 2]))
        _write_trial(folder / f"{subject}_Jan-01-00-00-00", played, gaze)
        score = int(played["rewards"].sum())
        rest = [50 * frames, 1, 0, 0, 0, "FALSE", 20, words]
        rows.append([record.ale, trial, "SYNTH", 0, score, frames, *rest])
    with paths.whole_file(folder / META) as beside, beside.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([META_COLUMNS, *rows])
    return folder


def _play(agent: Agent, seed: int, frames: int) -> dict[str, np.ndarray]:
    """Play emulator frame by emulator frame; the agent decides at every fourth."""
    env = make_env(agent.settings, frame_skip=1, max_pool=False)
    stream, choose = Stream(agent), action_chooser(seed, greedy=False)
    kept: dict[str, list] = {"screens": [], "ram": [], "actions": [], "rewards": []}
    screen, info = env.reset(seed=seed)
    for number in range(frames):
        if number % SKIP == 0:
            shown = np.maximum(screen, kept["screens"][-1]) if number else screen
            stream.read(shown, start=number == 0)
            action = choose(run_network([stream])[0][0])
        kept["screens"].append(screen)
        kept["ram"].append(info["ram"])
        kept["actions"].append(env.actions[action].value)
        screen, reward, terminated, truncated, info = env.step(action)
        kept["rewards"].append(reward)
        if terminated or truncated:
            screen, info = env.reset()
    return {name: np.array(values) for name, values in kept.items()}


def _places(game: str, ram: np.ndarray, follows: str, instead: str) -> np.ndarray:
    """Return the centre (x, y) `[N, 2]` px of an object, or of another one while it is absent."""
    places, last = np.empty((len(ram), 2)), np.array([80.0, 105.0])
    for place, row in zip(places, ram, strict=True):
        boxes = object_boxes(game, row)
        found = boxes[follows] if len(boxes[follows]) else boxes[instead]
        if len(found):
            last = np.array([found[0, 2:].mean(), found[0, :2].mean()])
        place[:] = last
    return places


def _gaze(places: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """Return the gaze points `[n, 2]` of each frame."""
    late = places[np.maximum(np.arange(len(places)) - DELAY, 0)]
    noisy = late[:, None] + generator.normal(0, NOISE, (len(places), SAMPLES, 2))
    blinks = generator.random(len(places)) < BLINKS
    return [points[: 0 if blink else None] for points, blink in zip(noisy, blinks, strict=True)]


def _write_trial(stem: Path, played: dict[str, np.ndarray], gaze: Sequence[np.ndarray]) -> None:
    """Write the three files of a trial."""
    subject = stem.name.split("_")[1]
    names = [f"{subject}_{stem.name.split('_')[2]}_{i}" for i in range(1, len(gaze) + 1)]
    lines, score = [",".join((*COLUMNS, GAZE))], 0
    for i, points in enumerate(gaze):
        reward = int(played["rewards"][i])
        score += reward
        looked = [f"{value:.2f}" for value in points.ravel()] or ["null"]
        values = names[i], 0, score, 50, reward, played["actions"][i]
        lines.append(",".join([*map(str, values), *looked]))
    with paths.whole_file(f"{stem}.txt") as beside:
        beside.write_text("\n".join(lines) + "\n")
    with paths.whole_file(f"{stem}.tar.bz2") as beside, tarfile.open(beside, "w:bz2") as archive:
        for name, screen in zip(names, played["screens"], strict=True):
            png = io.BytesIO()
            Image.fromarray(screen).save(png, "PNG", compress_level=1)
            member = tarfile.TarInfo(f"{stem.name}/{name}.png")
            member.size = png.tell()
            png.seek(0)
            archive.addfile(member, png)
    with paths.whole_file(f"{stem}.npy") as beside, beside.open("wb") as file:
        np.save(file, played["ram"])
