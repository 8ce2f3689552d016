"""The recorder for any training loop."""

import inspect
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from atarilens.apps.activations import activations_of
from atarilens.apps.recorder.episode import FLUSH, RUNNING, Episode, KeptStep, end_folder
from atarilens.saliency import perturbation_saliency
from atarilens.saliency.calling import (
    arguments,
    call_network,
    device_of,
    untouched,
)


class AgentRecorder:
    """Write every n-th episode of a training loop for TensorBoard.

    It takes three lines; the other lines of the loop stay as they are:

        recorder = AgentRecorder("runs/mine", network, every=50)
        ...
        recorder.update(observation, action, reward, done, frame=screen)  # after every step
        ...
        recorder.close()

    The recorder keeps at most `max_frames` steps of an episode. Each time there are more, it drops
    every second one and then keeps every second step (later every fourth, ...), so that the movie
    always spans the whole episode. Modes, gradients and random states of the training stay as they
    were.

    Args:
        logdir: for `tensorboard --logdir`. Use one recorder at a time; a later one counts on from
            the last recorded episode, and marks an unfinished episode as interrupted.
        network: the network in training, `(observation [B, C, H, W], memory [B, k, M]) ->
            (action_logits, value or None, memory)`, or a plain module `observation -> logits` or
            `observation -> (logits, value)`. It reads [0, 1] or, if it gets observations above 1,
            grey levels. Its method `features`, with the same arguments, returns the hidden layer
            for the projector. None: no saliency.
        name: title of the movies.
        every: record episodes 0, n, 2n, ...
        action_meanings: names of the actions.
        region: (top, bottom, left, right) of the frame that the observation covers; default all.
        stride: px between perturbation centres. A kept step takes 100 forward passes at 8, and 256
            at 5 (of an 80 x 80 observation).
        max_frames: kept steps per episode.
        activations: also write the last convolution's channels and the memory, as the images
            `within/last_convolution` and `within/memory`.
        visualisations: tag -> your own function `(frame, network) -> image`, written beside `game`
            and `saliency` as `yours/<tag>`. Frame and image are `[h, w, 3]` uint8. A function with
            parameters named `observation` or `memory` gets these too, as `update` got them.

    Raises:
        ValueError: if `every` is below 1 or `max_frames` below 2.
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
        activations: bool = False,
        visualisations: Mapping[str, Callable] | None = None,
    ):
        if every < 1 or max_frames < 2:
            raise ValueError(
                f"every must be at least 1 and max_frames at least 2, received {every} and "
                f"{max_frames}"
            )
        self.network, self.name, self.every = network, name, every
        self.action_meanings, self.region = list(action_meanings), region
        self.stride, self.max_frames, self.activations = stride, max_frames, activations
        self.visualisations = dict(visualisations or {})
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
        """Whether the current episode is recorded."""
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
        """Record one step of the loop; call this after the environment's step.

        Arrays may be tensors on any device; the recorder copies what it keeps.

        Args:
            observation: `[C, H, W]` on which the agent chose the action, or `[D]`, which has no
                saliency.
            action: index of the action.
            reward: that followed the action.
            done: whether the episode ended with this step, terminated or truncated.
            frame: `[h, w, 3]` uint8, the screen at the decision, or a function that returns it and
                is called only if needed. Default: the newest channel of the observation; an
                observation that is no picture (CartPole's, say) then has no movie.
            memory: `[k, M]` entering the step; None for a network without memory.
            value: of the network; by default the recorder computes it.
            hidden: `[D]`, last hidden layer; by default the network's `features`.
            step: training step, the x axis over episodes; default: number of updates.

        Raises:
            ValueError: if a frame or an image is not `[h, w, 3]` uint8.
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
            action, t = int(_array(action).item()), self._length - 1
            if self._current.wants(t):
                observation, memory = _array(observation), _array(memory)
                frame = _screen(frame() if callable(frame) else frame, observation)
                explained = self._explain(observation, memory, value, _array(hidden))
                value = explained[0]
                images = self._images(frame, observation, memory)
                kept = (t, frame, action, reward, self._return, *explained, images)
                self._current.keep(KeptStep(*kept))
            self._current.count(action, reward, value)
        if done:
            self.writer.add_scalar("episode/return", self._return, step)
            self.writer.add_scalar("episode/length", self._length, step)
            self._finish("finished")

    def interrupt(self, status: str = "interrupted") -> None:
        """Write the unfinished episode; the name of its folder ends in the status."""
        if self._length:
            self._finish(status)

    def close(self) -> None:
        """Write everything; an unfinished episode is marked as interrupted."""
        self.interrupt()
        self.writer.close()

    def _finish(self, status: str) -> None:
        """Write the episode if it is recorded, and start the next."""
        if self._current is not None:
            self._current.close(status)
        self._current = None
        self.writer.flush()
        self.episode, self._length, self._return = self.episode + 1, 0, 0.0

    def _explain(self, observation, memory, value, hidden):
        """Return value, last hidden layer, maps and activations; None for those it lacks."""
        value, maps, inside = None if value is None else float(value), None, None
        network = self.network
        if network is None or observation is None or observation.ndim not in (1, 3):
            return value, hidden, maps, inside
        observation = observation.astype(np.float32)
        if memory is None:
            memory = np.zeros(getattr(network, "memory_shape", (0, 0)), np.float32)
        if observation.ndim == 3:
            scale = 255 if observation.max() > 1 else 1
            explained = network if scale == 1 else _GreyLevels(network)
            maps = perturbation_saliency(explained, observation / scale, memory, stride=self.stride)
        if self.activations:
            inside = activations_of(network, observation, memory)
        with untouched(network), torch.no_grad():
            device = device_of(network)
            batch = [torch.from_numpy(x)[None].to(device) for x in (observation, memory)]
            if value is None and (found := call_network(network, *batch)[1]) is not None:
                value = float(found)
            if hidden is None and hasattr(network, "features"):
                hidden = _array(network.features(*arguments(network.features, *batch)).flatten())
        return value, hidden, maps, inside

    def _images(self, frame, observation, memory) -> dict[str, np.ndarray]:
        """Return the pictures of the user's visualisations."""
        images = {}
        for tag, draw in self.visualisations.items():
            wanted = inspect.signature(draw).parameters
            known = {"observation": observation, "memory": memory}
            extra = {name: value for name, value in known.items() if name in wanted}
            images[tag] = _picture(draw(frame, self.network, **extra), f"visualisation {tag!r}")
        return images


class _GreyLevels(torch.nn.Module):
    """A network that reads 0 to 255, to be called with observations in [0, 1]."""

    def __init__(self, network: Callable):
        super().__init__()
        self.network = network

    def forward(self, observation, memory):
        """Call the network on grey levels."""
        return call_network(self.network, 255 * observation, memory)


def _array(values) -> np.ndarray | None:
    """Return a numpy array of any array-like, even of a tensor on a GPU."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    return None if values is None else np.asarray(values)


def _screen(frame: np.ndarray | None, observation: np.ndarray | None) -> np.ndarray | None:
    """Return the frame, or the newest channel of the observation; None if that is no picture."""
    if frame is not None:
        return _picture(frame, "frame")
    if observation is None or observation.ndim != 3:
        return None
    newest = observation[-1].astype(np.float32)
    grey = newest if newest.max() > 1 else 255 * newest
    return np.rint(grey).astype(np.uint8)[..., None].repeat(3, axis=-1)


def _picture(image, name: str) -> np.ndarray:
    """Return a copy of a picture, which must be `[h, w, 3]` uint8."""
    image = np.array(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{name} must be uint8 [h, w, 3], received {image.dtype} {list(image.shape)}"
        )
    return image


def tensorboard_command(logdir: str | Path) -> str:
    """Return the command that shows a log with all its images; it serves this machine only."""
    options = "--host 127.0.0.1 --samples_per_plugin images=1000"
    return f"python -m tensorboard.main {options} --logdir {shlex.quote(str(logdir))}"
