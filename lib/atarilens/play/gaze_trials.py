"""Read trials of people who played while an eye tracker watched, in the layout of Atari-HEAD.

A folder holds `meta_data.csv` and, loose or inside of the archive `<game>.zip`, two files for each
trial: `<trial>_<subject>_<number>_<date>.txt` has a line per emulator frame, the gaze at its end;
`.tar.bz2` of the same name has the frames as PNG. Archives are read in memory, never unpacked.

Reference:
    Zhang et al. (2020), "Atari-HEAD: Atari Human Eye-Tracking and Demonstration Dataset",
    arXiv:1903.06754, doi:10.5281/zenodo.3451402 (the current version). Frames and gaze are aligned
    as in Nikulin et al. (2019), arXiv:1908.02511.
"""

import csv
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ale_py
import numpy as np
from PIL import Image

from atarilens import paths
from atarilens.agents import Agent
from atarilens.games.objects import game as record_of
from atarilens.play.inference import read_episodes
from atarilens.play.trajectories import Trajectory

SCREEN = (210, 160)  # px
SKIP = 4  # emulator frames per decision
READ_BACK = (0, 1, 4, 5, 8, 9, 12, 13)  # frames before a decision that four stacked screens show
COLUMNS = ("frame_id", "episode_id", "score", "duration(ms)", "unclipped_reward", "action")
GAZE = "gaze_positions"  # the last column, which spills over the rest of its line as x, y, x, y ...
META = "meta_data.csv"
NAMES_OF_META = {"game": ("GameName", "Game"), "trial": ("trial_id", "TrialNumber")}
TRIAL = re.compile(r"(^|/)\d+_[^/]*\.txt$")
MAX_PNG = 2**20  # bytes; a real one has two thousand
BROKEN = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, SyntaxError)


@dataclass(frozen=True, repr=False)
class GazeTrial:
    """A stretch of somebody's play, as an agent would be shown it, with the gaze.

    Decision t is at emulator frame 4 t, counted from 0. The trial is one episode, as in the paper:
    lives, and games that follow one another, are not told apart.

    Attributes:
        name: of the trial's files.
        game: name of the game's record.
        frames: `[T, 210, 160, 3]` uint8, the maximum of emulator frames 4 t - 1 and 4 t.
        gaze: number of an emulator frame in the file, from 1 -> `[n, 2]` float64, (x, y) in px of
            the screen, some of them outside of it.
        actions: `[T]` int, the emulator's number of the action taken; 0 (no-op) where unknown.
        rewards: `[T]` float32, points of the four frames from the decision on.
        rule: how the gaze was made; "" if it is a person's.
        ram: `[T, 128]` uint8 if the trial is synthetic; None for a person's, which has none.
    """

    name: str
    game: str
    frames: np.ndarray
    gaze: dict[int, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    rule: str = ""
    ram: np.ndarray | None = None

    def __len__(self) -> int:
        """Return T."""
        return len(self.frames)

    def __repr__(self) -> str:
        """Say in a line what this is."""
        whose = "synthetic gaze" if self.rule else "a person's gaze"
        lost = self.lost
        return (
            f"<GazeTrial {self.name}: {len(self)} decisions of {self.game}, {whose}; "
            f"{lost['frames without gaze']} of {len(self.gaze)} frames without gaze, "
            f"{lost['points outside the screen']} points outside the screen>"
        )

    @property
    def lost(self) -> dict[str, int]:
        """What gives no fixation: frames without any gaze, and points outside of the screen."""
        outside = sum(len(points) - len(on_screen(points)) for points in self.gaze.values())
        without = sum(not len(points) for points in self.gaze.values())
        return {"frames without gaze": without, "points outside the screen": outside}

    def points(self, step: int, gaze_offset: int = 1) -> np.ndarray:
        """Return where somebody looked on the frames that decision `step` reads.

        These are the emulator frames of four stacked screens: 0, 1, 4, 5, 8, 9, 12 and 13 frames
        before the decision, as far as the trial has them.

        Args:
            step: decision t.
            gaze_offset: number in the file of the first emulator frame. The files count from 1.
                The paper's code compares these numbers with frames counted from 0, which is 0 here.

        Returns:
            `[n, 2]` int, (row, column) in px, rounded as Python rounds; points outside of the
            screen are dropped.
        """
        read = [SKIP * step - back + gaze_offset for back in READ_BACK if back <= SKIP * step]
        found = [on_screen(self.gaze[number]) for number in read if number in self.gaze]
        return np.concatenate([np.empty((0, 2), int), *found])

    def fixations(self, steps: Sequence[int] | None = None, gaze_offset: int = 1) -> np.ndarray:
        """Count the gaze points of `points` on each pixel.

        Args:
            steps: n decisions; by default all.
            gaze_offset: see `points`.

        Returns:
            `[n, 210, 160]` int32.
        """
        steps = range(len(self)) if steps is None else steps
        counts = np.zeros((len(steps), *SCREEN), np.int32)
        for count, step in zip(counts, steps, strict=True):
            np.add.at(count, tuple(self.points(step, gaze_offset).T), 1)
        return counts


def on_screen(points: np.ndarray) -> np.ndarray:
    """Return the pixels (row, column) `[m, 2]` of those of `[n, 2]` points (x, y) on the screen."""
    pixels = np.rint(points[np.isfinite(points).all(1)]).astype(int)[:, ::-1]
    return pixels[((pixels >= 0) & (pixels < SCREEN)).all(1)]


def gaze_folder() -> Path:
    """Return the folder of the user's cache that `make gaze-data` fetches trials into."""
    return paths.cache() / "gaze"


def list_gaze_trials(game: str, folder: str | Path) -> list[str]:
    """Return the names of a game's trials in a folder, in the order of their numbers.

    Raises:
        FileNotFoundError: if the folder has no `meta_data.csv`.
        ValueError: if there is no such game, or a column is missing.
    """
    game, table = record_of(game).name, _read_meta(Path(folder))
    found = sorted((_number(name), name) for name in _files(Path(folder)))
    return [name for number, name in found if table.get(number, {}).get("game") == game]


def load_gaze_trial(
    name: str, game: str, folder: str | Path, *, max_steps: int | None = None
) -> GazeTrial:
    """Read a trial.

    Args:
        name: of its files, without ending.
        game: that it must be of.
        folder: see the module.
        max_steps: read so many decisions at most; one takes 100 kB of memory.

    Raises:
        FileNotFoundError: if there is no such trial, or it lacks one of its files.
        ValueError: if it is of another game, empty or damaged, or a column is missing.
    """
    folder, game = Path(folder), record_of(game).name
    files, meta = _files(folder), _read_meta(folder)
    if name not in files:
        known = ", ".join(list_gaze_trials(game, folder)) or "none"
        raise FileNotFoundError(f"there is no trial {name!r} in {folder}; of {game}: {known}")
    row = meta.get(_number(name))
    if row is None or row["game"] != game:
        found = f"of {row['game']}" if row else f"not in {META}"
        raise ValueError(f"trial {name!r} is {found}, expected one of {game}")
    container, stem = files[name]
    with _opened(container, f"{stem}.txt") as file:
        gaze, labels = _read_labels(file.read(), f"{name}.txt")
    numbers = [int(number) for number in gaze]
    steps = -(-(max(numbers) - 1) // SKIP)  # the decision at the last frame is never taken
    steps = steps if max_steps is None else min(steps, max_steps)
    if steps < 1:
        raise ValueError(
            f"trial {name!r} is empty: it has {max(numbers)} frame, expected 2 or more"
        )
    with _opened(container, f"{stem}.tar.bz2") as file:
        frames = _read_frames(file, steps, f"{name}.tar.bz2")
    actions = [labels.get(SKIP * t + 1, (0, 0))[0] for t in range(steps)]
    following = [range(SKIP * t + 1, SKIP * t + 1 + SKIP) for t in range(steps)]
    rewards = [sum(labels.get(number, (0, 0))[1] for number in each) for each in following]
    return GazeTrial(
        name,
        game,
        frames,
        {number: points for number, points in gaze.items() if number <= SKIP * steps},
        np.array(actions),
        np.array(rewards, np.float32),
        row["rule"],
        _read_ram(container, stem, steps) if row["rule"] else None,
    )


def watched(trial: GazeTrial, agent: Agent) -> Trajectory:
    """Return a trial as an agent's network sees it, which decides nothing.

    Where a trial has no RAM, it is all zeros. An action that the agent does not have is its first
    one, the no-op.

    Raises:
        ValueError: if the agent plays another game.
    """
    if agent.game != trial.game:
        raise ValueError(f"agent {agent.name!r} plays {agent.game}, the trial {trial.game}")
    names = [ale_py.Action(int(action)).name for action in trial.actions]
    known = {meaning: index for index, meaning in enumerate(agent.action_meanings)}
    ends, steps = np.zeros(len(trial), bool), len(trial)
    ends[-1] = True
    return Trajectory(
        frames=trial.frames,
        actions=np.array([known.get(name, 0) for name in names]),
        rewards=trial.rewards,
        terminated=np.zeros(steps, bool),
        truncated=ends,
        episode=np.zeros(steps, np.int64),
        ram=np.zeros((steps, 128), np.uint8) if trial.ram is None else trial.ram,
        hints=None,
        settings=agent.settings,
        origin={
            "agent": f"trial {trial.name}",
            "seed": 0,
            "watched_by": agent.name,
            "trial": trial.name,
            "gaze": "synthetic gaze" if trial.rule else "a person's gaze",
        },
        **read_episodes(agent, trial.frames, np.zeros(steps, np.int64)),
    )


def _number(name: str) -> int:
    """Return the number of a trial, with which the name of its files begins."""
    return int(name.partition("_")[0])


def _files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Find all trials: name -> (folder or zip archive, path in it without the ending)."""
    places = [(folder, str(path.relative_to(folder))) for path in folder.rglob("*.txt")]
    for archive in sorted(folder.glob("*.zip")):
        try:
            with zipfile.ZipFile(archive) as opened:
                places += [(archive, name) for name in opened.namelist()]
        except BROKEN as error:
            raise ValueError(f"{archive.name} is a damaged archive: {error}") from error
    trials = [(where, name[:-4]) for where, name in places if TRIAL.search(name)]
    return {stem.rpartition("/")[2]: (where, stem) for where, stem in trials}


@contextmanager
def _opened(container: Path, name: str) -> Iterator[io.BufferedIOBase]:
    """Open a file of a folder or of a zip archive."""
    try:
        if container.is_dir():
            with (container / name).open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(container) as archive, archive.open(name) as file:
                yield file
    except (FileNotFoundError, KeyError) as error:
        raise FileNotFoundError(f"the trial's file {name} is missing in {container}") from error
    except zipfile.BadZipFile as error:
        raise ValueError(f"{container.name} is a damaged archive: {error}") from error


def _read_meta(folder: Path) -> dict[int, dict[str, str]]:
    """Return the number of each trial -> its game and its rule ("" if the gaze is a person's)."""
    path = folder / META
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {META}, expected a folder of trials in the layout of Atari-HEAD"
        )
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    heads = {
        key: next((name for name in names if rows and name in rows[0]), None)
        for key, names in NAMES_OF_META.items()
    }
    for key, head in heads.items():
        if head is None:
            raise ValueError(f"{path} has no column {' or '.join(map(repr, NAMES_OF_META[key]))}")
    return {
        int(row[heads["trial"]]): {
            "game": _game(row[heads["game"]]),
            "rule": row.get("synthetic") or "",
        }
        for row in rows
        if row[heads["trial"]] and row[heads["trial"]].isdecimal()
    }


def _game(name: str) -> str:
    """Return our name of a game; games that the library does not know keep theirs."""
    try:
        return record_of(name.removesuffix("_highscore")).name
    except ValueError:
        return name


def _read_labels(content: bytes, name: str) -> tuple[dict, dict]:
    """Return frame number -> gaze `[n, 2]`, and frame number -> (action, reward)."""
    lines = content.decode("utf-8", "replace").splitlines()
    header = [column.strip() for column in lines[0].split(",")] if lines else []
    for column in (*COLUMNS, GAZE):
        if column not in header:
            raise ValueError(f"{name} has no column {column!r}, its first line is {header}")
    if header[-1] != GAZE:
        raise ValueError(f"the last column of {name} is {header[-1]!r}, expected {GAZE!r}")
    places = {column: header.index(column) for column in COLUMNS}
    gaze, labels = {}, {}
    for line, text in enumerate(lines[1:], 2):
        values = [value.strip() for value in text.split(",")]
        if values == [""]:
            continue
        try:
            number = int(values[places["frame_id"]].rpartition("_")[2])
            gaze[number] = _points(values[len(header) - 1 :])
            action, reward = (values[places[key]] for key in ("action", "unclipped_reward"))
            labels[number] = (_or_zero(action, int), _or_zero(reward, float))
            if number < 1 or not 0 <= labels[number][0] < 18:
                raise ValueError("frame number or action out of range")
        except (ValueError, IndexError) as error:
            raise ValueError(f"{name}, line {line}: {error}; received {text[:80]!r}") from error
    if not gaze:
        raise ValueError(f"{name} is empty: it has no frame")
    return gaze, labels


def _points(values: Sequence[str]) -> np.ndarray:
    """Turn x, y, x, y ... into `[n, 2]`; none for `null`."""
    if not values or values[0] in ("", "null"):
        return np.empty((0, 2))
    if len(values) % 2:
        raise ValueError(f"{len(values)} numbers of gaze, expected pairs")
    return np.array([_or_nan(value) for value in values]).reshape(-1, 2)


def _or_nan(value: str) -> float:
    return float("nan") if value == "null" else float(value)


def _or_zero(value: str, kind: type) -> float:
    return 0 if value in ("", "null") else kind(value)


def _read_frames(file: io.BufferedIOBase, steps: int, name: str) -> np.ndarray:
    """Return the screens `[steps, 210, 160, 3]` of decisions, from an archive of numbered PNGs.

    Nothing is written: a member's path serves for its number alone, links are left out.
    """
    frames = np.zeros((steps, *SCREEN, 3), np.uint8)
    found = np.zeros((steps, 2), bool)  # emulator frames 4 t - 1 and 4 t
    found[0, 0] = True  # there is none before the first
    try:
        with tarfile.open(fileobj=file, mode="r|bz2") as archive:
            for member in archive:
                number = re.search(r"_(\d+)\.png$", member.name)
                if not number or not member.isreg():
                    continue
                # Decision t shows emulator frames 4 t - 1 and 4 t: numbers 4 t and 4 t + 1.
                step, rest = divmod(int(number[1]), SKIP)
                if rest > 1 or step >= steps:
                    continue
                if member.size > MAX_PNG:
                    raise ValueError(f"{member.name} has {member.size} bytes, expected a PNG")
                picture = Image.open(io.BytesIO(archive.extractfile(member).read()))
                if picture.size != SCREEN[::-1]:
                    raise ValueError(f"{member.name} has {picture.size} px, expected (160, 210)")
                np.maximum(frames[step], np.asarray(picture.convert("RGB")), out=frames[step])
                found[step, rest] = True
    except BROKEN as error:
        raise ValueError(f"{name} is a damaged archive: {str(error) or 'it ends early'}") from error
    if not found.all():
        step, rest = np.argwhere(~found)[0]
        raise ValueError(f"{name} is incomplete: it has no picture of frame {SKIP * step + rest}")
    return frames


def _read_ram(container: Path, stem: str, steps: int) -> np.ndarray:
    """Return the RAM `[steps, 128]` of a synthetic trial's decisions."""
    with _opened(container, f"{stem}.npy") as file:
        return np.load(io.BytesIO(file.read()), allow_pickle=False)[::SKIP][:steps]
