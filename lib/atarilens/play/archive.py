"""Rollouts of the zoo's agents: re-created once, kept in the user's cache, read array by array.

A rollout of 2,500 steps takes 530 MB of memory as a `Trajectory`, and there is one for each agent.
So its arrays lie in a compressed file, and an analysis reads only those that it needs. The file is
a copy: the repository holds the replay of 3 kB that re-creates it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from atarilens import paths
from atarilens.agents import Agent, zoo
from atarilens.play.rollouts import replay, rollout
from atarilens.play.trajectories import ARRAYS, CHUNK, OPTIONAL, Trajectory, save_replay

STEPS = 2_500  # agent steps of a rollout, as Such et al. (2019) keep of each model
SEED = 0  # of its first episode: the episodes are those that the reported scores begin with
FORMAT = "atarilens-zoo-rollout-1"
NAMES = (*(name for name in ARRAYS if name != "hints"), "hidden")
BATCH = 32  # observations that go through the network at once


@dataclass(frozen=True)
class ZooRollout:
    """A rollout of one agent, whose arrays are read from a file when they are asked for.

    Attributes:
        agent: who plays; its network gave the action logits, values and hidden layer.
        path: of the file.
    """

    agent: Agent
    path: Path

    def read(self, name: str, steps: Sequence[int] | slice | None = None) -> np.ndarray | None:
        """Read an array, whole or at some steps.

        Args:
            name: of `Trajectory`'s arrays; or "hidden", the last hidden layer `[T, D]` float32.
            steps: indices of steps, in any order; by default all.

        Returns:
            `[T, ...]` or `[n, ...]`; None for the values of a network without any.

        Raises:
            ValueError: for an unknown name.
            IndexError: for a step that the rollout does not have.
        """
        if name not in NAMES:
            raise ValueError(f"a rollout has no array {name!r}; it has {', '.join(NAMES)}")
        with h5py.File(self.path) as file:
            if steps is None or isinstance(steps, slice):
                asked = np.arange(file.attrs["steps"])[steps or slice(None)]
            else:
                asked = np.asarray(steps, np.int64)
            if asked.size and not 0 <= asked.min() <= asked.max() < file.attrs["steps"]:
                raise IndexError(
                    f"the rollout of {self.agent.name} has the steps 0 to "
                    f"{file.attrs['steps'] - 1}, asked for {asked.min()} to {asked.max()}"
                )
            if name == "observations" and name not in file:
                stack = np.arange(file.attrs["screens"])[::-1]
                first = file["first"][()]
                return _at(file["pictures"], np.maximum(asked[:, None] - stack, first[asked, None]))
            return _at(file[name], asked) if name in file else None

    def trajectory(self, steps: int | None = None) -> Trajectory:
        """Return the first steps, or all, as a `Trajectory`: 210 kB of memory a step."""
        with h5py.File(self.path) as file:
            origin = json.loads(file.attrs["origin"])
        arrays = {name: self.read(name, slice(steps)) for name in ARRAYS if name != "hints"}
        return Trajectory(**arrays, hints=None, settings=self.agent.settings, origin=origin)

    def __len__(self) -> int:
        """Return T."""
        with h5py.File(self.path) as file:
            return int(file.attrs["steps"])


def zoo_rollout(
    algorithm: str,
    game: str,
    run: int = 1,
    tag: str = zoo.FINAL,
    *,
    steps: int = STEPS,
    progress: bool = False,
) -> ZooRollout:
    """Return the rollout of an agent of the zoo, by the same address as `zoo.load`.

    Args:
        algorithm: see `zoo.load`.
        game: see `zoo.load`.
        run: see `zoo.load`.
        tag: see `zoo.load`.
        steps: see `archived`.
        progress: show a bar while it is re-created.

    Example:
        >>> hidden = zoo_rollout("ga", "freeway", run=1).read("hidden")
    """
    return archived(zoo.load(algorithm, game, run, tag), steps=steps, progress=progress)


def archived(agent: Agent, *, steps: int = STEPS, progress: bool = False) -> ZooRollout:
    """Return the rollout of any agent; re-create it if the cache does not hold it.

    The seed is 0. Q-networks play greedily, policies draw their actions. If the agent has a replay
    beside its row in `data/zoo`, the recorded actions are played again; if all of them are, every
    screen, RAM and reward is compared with the record. For more steps than that the agent plays.

    Args:
        agent: of the zoo, or anyone's.
        steps: T.
        progress: show a bar while it is re-created.

    Raises:
        ValueError: if the replay does not come out as recorded, or is of other weights.
    """
    path = paths.cache() / "zoo" / f"{agent.name}-{_key(agent, steps)}.h5"
    if not _is_whole(path):
        recorded = replay_path(agent)
        if steps <= STEPS and recorded.is_file():
            played = replay(recorded, agent, max_steps=steps, progress=progress)
            if played.origin.get("agent_sha256") != agent.facts.get("sha256"):
                raise ValueError(
                    f"replay {recorded} was recorded with other weights than those of "
                    f"{agent.name!r}: ship the agent again"
                )
        else:
            played = rollout(agent, SEED, steps, progress=progress)
        _write(path, agent, played)
    return ZooRollout(agent, path)


def replay_path(agent: Agent) -> Path:
    """Return where the replay of an agent of the zoo is stored."""
    return paths.ZOO / f"{agent.name}.npz"


def record(agent: Agent, path: str | Path, epsilon: float = 0.0) -> Path:
    """Play an agent's rollout and write its replay; return the path.

    Args:
        agent: who plays.
        path: of the replay.
        epsilon: probability of an action drawn evenly from all instead.
    """
    return save_replay(rollout(agent, SEED, STEPS, epsilon=epsilon), path)


def hidden_layer(agent: Agent, observations: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Return the last hidden layer `[T, D]` float32.

    Args:
        agent: whose network runs.
        observations: `[T, C, H, W]` float32 in [0, 1].
        memory: `[T, k, M]` float32, entering each step.
    """
    with torch.inference_mode():
        parts = zip(
            torch.from_numpy(observations).split(BATCH),
            torch.from_numpy(memory).split(BATCH),
            strict=True,
        )
        return torch.cat([agent.network.features(*part) for part in parts]).numpy()


def _write(path: Path, agent: Agent, played: Trajectory) -> None:
    arrays = {name: getattr(played, name) for name in ARRAYS if name != "hints"}
    arrays["hidden"] = hidden_layer(agent, played.observations, played.memory)
    screens = agent.preprocessing.screens
    if screens > 1:  # each picture stands in several observations: it is stored once
        arrays["pictures"] = arrays.pop("observations")[:, -1]
        arrays["first"] = np.searchsorted(played.episode, played.episode)
    with paths.whole_file(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["steps"] = len(played)
        file.attrs["screens"] = screens
        file.attrs["origin"] = json.dumps(played.origin)
        for name, array in arrays.items():
            if array is None:
                continue
            layout = {}
            if array.size:
                layout = {"chunks": (min(CHUNK, len(array)), *array.shape[1:]), "compression": 1}
            file.create_dataset(name, data=array, **layout)


def _is_whole(path: Path) -> bool:
    """Return whether a file of the cache can be used; a damaged one is re-created."""
    try:
        with h5py.File(path) as file:
            present = {*file, *OPTIONAL, "observations"}
            return file.attrs["format"] == FORMAT and set(NAMES) <= present
    except (OSError, KeyError):
        return False


def _at(stored: h5py.Dataset, steps: np.ndarray) -> np.ndarray:
    """Read steps of any shape and order; the file wants them in order, each once."""
    wanted, back = np.unique(steps, return_inverse=True)
    if wanted.size and wanted[-1] - wanted[0] + 1 == wanted.size:
        found = stored[wanted[0] : wanted[-1] + 1]
    else:
        found = stored[wanted]
    return found[back.reshape(steps.shape)]


def _key(agent: Agent, steps: int) -> str:
    """Return a name for the agent's weights, observation and environment, and the steps."""
    weights = agent.facts.get("sha256")
    if weights is None:
        digest = hashlib.sha256()
        for name, value in sorted(agent.network.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
        weights = digest.hexdigest()
    told = [weights, agent.preprocessing.name, agent.settings.as_dict(), steps]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
