"""Trajectories, and their files: whole (HDF5), or as a replay of some kilobytes.

Index t is the moment at which the agent decides.
"""

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

import ale_py
import h5py
import numpy as np

from atarilens import paths
from atarilens.agents.files import list_agents
from atarilens.games.emulators import EnvironmentSettings

TRAJECTORY_FORMAT = "atarilens-trajectory-1"
REPLAY_FORMAT = "atarilens-replay-1"
CHUNK = 16  # steps per compressed chunk of HDF5
HASHED = ("frames", "ram", "rewards")  # what a replay must re-create bit for bit
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, RuntimeError)
OPTIONAL = ("values", "hints")  # None where the network has no value, or there are no hints


@dataclass(frozen=True, repr=False)
class Trajectory:
    """T decisions of an agent. Several episodes may follow one another.

    Attributes:
        frames: `[T, 210, 160, 3]` uint8, what the agent was shown, hint included.
        observations: `[T, C, H, W]` float32 in [0, 1], what its network read.
        memory: `[T, k, M]` float32 ENTERING step t (LSTM k = 2: h, c; GRU 1; feed-forward 0),
            zeros at the start of an episode.
        action_logits: `[T, A]` float32 (Q-values of a Q-network).
        values: `[T]` float32 (largest Q-value of a Q-network), or None.
        actions: `[T]` int64.
        rewards: `[T]` float32, unclipped, that FOLLOWED actions[t].
        terminated: `[T]` bool: the game ended after actions[t].
        truncated: `[T]` bool: it was cut off after actions[t], by the settings' `max_frames`.
        episode: `[T]` int64: 0, 1, ...
        ram: `[T, 128]` uint8, of the emulator's last frame in frames[t].
        hints: `[T]` int64, the bright bar in frames[t], or None.
        settings: of the environment.
        origin: plain data that re-create the run: agent, agent_sha256, seed, noops (per episode)
            and greedy; and watched_by, if another agent's network read the screens.
    """

    frames: np.ndarray
    observations: np.ndarray
    memory: np.ndarray
    action_logits: np.ndarray
    values: np.ndarray | None
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode: np.ndarray
    ram: np.ndarray
    hints: np.ndarray | None
    settings: EnvironmentSettings
    origin: dict

    def __len__(self) -> int:
        """Return T."""
        return len(self.actions)

    def __repr__(self) -> str:
        """Say in a line what this is."""
        games, origin = len(np.unique(self.episode)), self.origin
        reader = f", as {origin['watched_by']} sees it" if "watched_by" in origin else ""
        return (
            f"<Trajectory of {origin['agent']}: {len(self)} steps of {self.settings.game}, "
            f"{games} episode{'s' * (games != 1)}{reader}>"
        )

    def decision(self, t) -> tuple[np.ndarray, np.ndarray]:
        """Return what entered the network: (observation, memory) of a step, or of several.

        Example:
            `perturbation_saliency(agent.network, *trajectory.decision(t))`

        Args:
            t: a step, a slice, or `[n]` int.
        """
        return self.observations[t], self.memory[t]


ARRAYS = [field.name for field in fields(Trajectory) if field.name not in ("settings", "origin")]
DTYPES = {
    **dict.fromkeys(("frames", "ram"), np.uint8),
    **dict.fromkeys(("actions", "episode", "hints"), np.int64),
    **dict.fromkeys(("terminated", "truncated"), np.bool_),
}  # all others are float32


def save_trajectory(trajectory: Trajectory, path: str | Path) -> Path:
    """Write a trajectory whole, as HDF5: gzip 4, chunks of 16 steps, checksums.

    Returns:
        The path.
    """
    with paths.whole_file(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["format"] = TRAJECTORY_FORMAT
        file.attrs["settings"] = json.dumps(trajectory.settings.as_dict())
        file.attrs["origin"] = json.dumps(trajectory.origin)
        for name in ARRAYS:
            array = getattr(trajectory, name)
            if array is None:
                continue
            layout = {}
            if array.size:
                chunks = (min(CHUNK, len(array)), *array.shape[1:])
                layout = {"chunks": chunks, "compression": 4, "fletcher32": True}
            file.create_dataset(name, data=array, **layout)
    return Path(path)


def load_trajectory(path: str | Path) -> Trajectory:
    """Read what `save_trajectory` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, damaged or not a trajectory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no trajectory {path}")
    try:
        with h5py.File(path) as file:
            if file.attrs["format"] != TRAJECTORY_FORMAT:
                raise ValueError(f"its format is {file.attrs['format']!r}")
            arrays = {
                name: None if name in OPTIONAL and name not in file else file[name][()]
                for name in ARRAYS
            }
            settings = EnvironmentSettings(**json.loads(file.attrs["settings"]))
            return Trajectory(**arrays, settings=settings, origin=json.loads(file.attrs["origin"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no {TRAJECTORY_FORMAT} file, or a damaged one: {error}"
        ) from error


def replay_path(name_or_path: str | Path) -> Path:
    """Return `data/replays/<name>.npz` for a bare name, and a path as it is."""
    path = Path(name_or_path)
    return path if path.suffix or len(path.parts) > 1 else paths.REPLAYS / f"{path}.npz"


def hashes(trajectory: Trajectory) -> dict[str, str]:
    """Return the sha256 of the screens, the RAM and the rewards."""
    arrays = {name: np.ascontiguousarray(getattr(trajectory, name)) for name in HASHED}
    return {name: hashlib.sha256(array).hexdigest() for name, array in arrays.items()}


def save_replay(trajectory: Trajectory, name_or_path: str | Path) -> Path:
    """Write what re-creates a rollout: settings, seed, no-ops, actions, hints, and hashes.

    Args:
        trajectory: of `rollout`, or of a `replay` by its own agent.
        name_or_path: a name in `data/replays`, or a path. Equal trajectories give equal bytes.

    Raises:
        ValueError: if the memory and logits are those of another agent than the player.
    """
    if reader := trajectory.origin.get("watched_by"):
        raise ValueError(
            f"this trajectory of agent {trajectory.origin['agent']!r} is as {reader!r} sees it; "
            "only the player's own can be written as a replay"
        )
    path = replay_path(name_or_path)
    facts = {
        "format": REPLAY_FORMAT,
        "ale_py": ale_py.__version__,
        "settings": trajectory.settings.as_dict(),
        "origin": trajectory.origin,
        "sha256": hashes(trajectory),
    }
    arrays = {"facts": np.array(json.dumps(facts)), "actions": trajectory.actions.astype(np.uint8)}
    if trajectory.hints is not None:
        arrays["hints"] = trajectory.hints.astype(np.uint8)
    with paths.whole_file(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load_replay(name_or_path: str | Path) -> tuple[dict, np.ndarray, np.ndarray | None]:
    """Read a replay's facts, its actions `[T]` uint8, and its hints `[T]` uint8 or None.

    Raises:
        FileNotFoundError: if there is none of this name.
        MissingDataError: if there is none, but an agent has this name.
        ValueError: if the file is truncated, damaged or not a replay.
    """
    path = replay_path(name_or_path)
    if not path.is_file():
        if path.parent == paths.REPLAYS and path.stem in list_agents():
            raise paths.MissingDataError(f"replay {path.stem} missing: there is no file {path}")
        known = sorted(file.stem for file in paths.REPLAYS.glob("*.npz"))
        near = " or ".join(get_close_matches(path.stem, known))
        raise FileNotFoundError(
            f"there is no replay {path}{f', did you mean {near}' if near else ''}; in "
            f"{paths.REPLAYS.name}: {', '.join(known) or 'none'}"
        )
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            if facts["format"] != REPLAY_FORMAT:
                raise ValueError(f"its format is {facts['format']!r}")
            return facts, file["actions"], file.get("hints")
    except (OSError, EOFError, KeyError, TypeError, ValueError, *BROKEN_ZIP) as error:
        raise ValueError(f"{path} is no {REPLAY_FORMAT} file, or a damaged one: {error}") from error
