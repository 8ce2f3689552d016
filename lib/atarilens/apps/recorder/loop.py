"""The recorder that any training loop can call."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from atarilens.apps.recorder.episode import FLUSH, RUNNING, Episode, Moment, end_folder
from atarilens.saliency import perturbation_saliency
from atarilens.saliency.calling import as_batch, device_of, untouched


class AgentRecorder:
    """Write every n-th episode of a training loop for TensorBoard.

    Three lines in a loop, whose other lines stay as they are:

        recorder = AgentRecorder("runs/mine", network, every=50)
        ...
        recorder.update(observation, action, reward, done, frame=screen)  # after every step
        ...
        recorder.close()

    Memory is bounded: at most `max_frames` steps are kept. Where an episode is longer, every
    second of them is dropped and from then on every second step is kept (then every fourth ...),
    so that the movie always spans the whole episode. Nothing of the training is changed: modes,
    gradients and random states are as before.

    Args:
        logdir: for `tensorboard --logdir`. One recorder at a time; a later one goes on counting
            after the last recorded episode, and marks what was left running as interrupted.
        network: `(observation [B, C, H, W], memory [B, k, M]) -> (action_logits, value or None,
            memory)`, such as an agent's; the one in training, so that each step is explained by
            the network that decided it. None: no saliency. Its `features(observation, memory)`,
            if it has them, are the embedding.
        name: stands above the movies.
        every: record episodes 0, n, 2n, ...
        action_meanings: names of the actions.
        region: (top, bottom, left, right) of the frame that the observation covers; default all.
        stride: px between perturbation centres: at 8, a kept step takes 100 forward passes; at 5,
            256.
        max_frames: kept steps per episode.

    Raises:
        ValueError: if `every` or `max_frames` is too small.
    """

    def __init__(
        self,
        logdir: str | Path,
        network: Callable | None = None,
        *,
        name: str = "agent",
        every: int = 50,
        action_meanings: Sequence[str] = (),
        region: Sequence[int] | None = None,
        stride: int = 8,
        max_frames: int = 240,
    ):
        if every < 1 or max_frames < 2:
            raise ValueError(
                f"every must be at least 1 and max_frames at least 2, received {every} and "
                f"{max_frames}"
            )
        self.network, self.name, self.every = network, name, every
        self.action_meanings, self.region = list(action_meanings), region
        self.stride, self.max_frames = stride, max_frames
        self.folder = Path(logdir) / "episodes"
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"*{RUNNING}"):
            facts = left / "metadata.json"
            end_folder(left, json.loads(facts.read_text()) if facts.exists() else {}, "interrupted")
        recorded = [int(path.name[:6]) for path in self.folder.glob("[0-9]*")]
        self.episode = max(recorded, default=-1) + 1
        self.writer = SummaryWriter(str(self.folder), flush_secs=FLUSH)
        self._updates = self._length = 0
        self._return = 0.0
        self._current: Episode | None = None

    @property
    def recording(self) -> bool:
        """Whether the next update belongs to an episode that is recorded."""
        return self.episode % self.every == 0

    def update(
        self,
        observation,
        action,
        reward: float,
        done: bool,
        *,
        frame: np.ndarray | Callable[[], np.ndarray] | None = None,
        memory=None,
        value: float | None = None,
        hidden=None,
        step: int | None = None,
    ) -> None:
        """Take one step of the loop: call it after the environment's step.

        Arrays may be tensors on any device; nothing of them is kept.

        Args:
            observation: `[C, H, W]` that the action was chosen on.
            action: its index.
            reward: that followed it.
            done: whether the episode ended with it, terminated or truncated.
            frame: `[h, w, 3]` uint8, the screen at the decision, or a function that returns it,
                called only if it is needed. Default: the newest channel of the observation.
            memory: `[k, M]` entering the step; None for a network without one.
            value: that the network gave; by default it is asked.
            hidden: `[D]`, last hidden layer; by default the network is asked.
            step: of the training, the x axis over episodes; default: number of updates.

        Raises:
            ValueError: if there is no frame, or it is not `[h, w, 3]` uint8.
        """
        self._updates += 1
        step = self._updates if step is None else int(step)
        reward = float(reward)
        self._length += 1
        self._return += reward
        if self.recording:
            if self._current is None:
                facts = {"name": self.name, "episode": self.episode, "started_at_step": step}
                folder = self.folder / f"{self.episode:06d}{RUNNING}"
                self._current = Episode(
                    folder,
                    facts,
                    action_meanings=self.action_meanings,
                    region=self.region,
                    max_frames=self.max_frames,
                )
            action, moment = int(_array(action).item()), self._length - 1
            if self._current.wants(moment):
                observation = _array(observation)
                frame = _screen(frame() if callable(frame) else frame, observation)
                maps, value, hidden = self._look(observation, _array(memory), value, _array(hidden))
                kept = (moment, frame, action, reward, self._return, value, hidden, maps)
                self._current.keep(Moment(*kept))
            self._current.count(action, reward, value)
        if done:
            self.writer.add_scalar("episode/return", self._return, step)
            self.writer.add_scalar("episode/length", self._length, step)
            self._finish("finished")

    def interrupt(self, status: str = "interrupted") -> None:
        """Cut the episode off: what there is of it is written; its folder ends in the status."""
        if self._length:
            self._finish(status)

    def close(self) -> None:
        """Write what is left; an episode that is not over is marked as interrupted."""
        self.interrupt()
        self.writer.close()

    def _finish(self, status: str) -> None:
        """Write the episode, if it was recorded, and go on to the next."""
        if self._current is not None:
            self._current.close(status)
        self._current = None
        self.writer.flush()
        self.episode, self._length, self._return = self.episode + 1, 0, 0.0

    def _look(self, observation, memory, value, hidden):
        """Return maps, value and last hidden layer of one decision, as far as there are any."""
        value = None if value is None else float(value)
        if self.network is None or observation.ndim != 3:
            return None, value, hidden
        observation = observation.astype(np.float32)
        maps = perturbation_saliency(self.network, observation, memory, stride=self.stride)
        batch = as_batch(self.network, observation, memory)[:2]
        with untouched(self.network), torch.no_grad():
            batch = [tensor.to(device_of(self.network)) for tensor in batch]
            if value is None and (asked := self.network(*batch)[1]) is not None:
                value = float(asked.reshape(()))
            if hidden is None and hasattr(self.network, "features"):
                hidden = _array(self.network.features(*batch)[0])
        return maps, value, hidden


def _array(values) -> np.ndarray | None:
    """Return a numpy array of anything, also of a tensor on a GPU."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    return None if values is None else np.asarray(values)


def _screen(frame: np.ndarray | None, observation: np.ndarray) -> np.ndarray:
    """Return a copy of the frame, or the newest channel of the observation as grey levels."""
    if frame is None:
        if observation.ndim != 3:
            raise ValueError(f"observation has shape {observation.shape}: a frame is needed")
        newest = observation[-1].astype(np.float32)
        grey = newest if newest.max() > 1 else 255 * newest
        return np.rint(grey).astype(np.uint8)[..., None].repeat(3, axis=-1)
    frame = np.array(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(
            f"frame must be uint8 [h, w, 3], received {frame.dtype} {list(frame.shape)}"
        )
    return frame
