"""One recorded episode: its kept steps, and the summaries written from them."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from atarilens.apps.activations import Activations, activation_movie, memory_channels
from atarilens.paths import whole_file
from atarilens.saliency import SaliencyMaps
from atarilens.views import common_gain, gif, movie_frames, overlay

FPS = 15  # agent steps per second of a game at frame skip 4
FIRST_MOVIE = 64  # steps after which the movies are written, and again at every doubling
FLUSH = 5  # seconds until a scalar is on disk
THUMBNAIL = 48  # px
ENLARGED = 4  # px of a movie per activation
MOVIE_WIDTH = 320  # px; room for the words below the screen
RUNNING = "-running"  # folder ending of an unfinished episode


@dataclass
class KeptStep:
    """One step. The reward FOLLOWED the action; `total` is the return including it."""

    t: int  # index of the decision in its episode
    frame: np.ndarray | None  # [h, w, 3] uint8, at the decision
    action: int
    reward: float
    total: float
    value: float | None
    hidden: np.ndarray | None  # [D]
    maps: SaliencyMaps | None
    inside: Activations | None
    images: dict[str, np.ndarray]  # of the user's visualisations, [h, w, 3] uint8


class Episode:
    """One recorded episode: its folder, its writer and its kept steps."""

    def __init__(
        self,
        folder: Path,
        facts: dict,
        *,
        action_meanings: list[str],
        region: Sequence[int] | None,
        max_frames: int,
    ):
        self.folder, self.region, self.max_frames = folder, region, max_frames
        self.action_meanings = action_meanings
        self.kept: list[KeptStep] = []
        self.interval, self.length, self.total = 1, 0, 0.0
        self.actions: dict[int, int] = {}
        self.facts = facts | {"started": time.time()}
        self.writer = SummaryWriter(str(folder), flush_secs=FLUSH)
        write_facts(folder, self.facts, "running")

    def wants(self, step: int) -> bool:
        """Whether this step of the episode is kept."""
        return step % self.interval == 0

    def keep(self, step: KeptStep) -> None:
        """Keep a step; if there are too many, drop every second one."""
        self.kept.append(step)
        if len(self.kept) > self.max_frames:
            self.interval *= 2
            self.kept = [step for step in self.kept if self.wants(step.t)]

    def count(self, action: int, reward: float, value: float | None) -> None:
        """Write the numbers of a step, kept or not; at powers of two, write the movies so far."""
        self.writer.add_scalar("reward", reward, self.length)
        if value is not None:
            self.writer.add_scalar("value", float(value), self.length)
        self.actions[action] = self.actions.get(action, 0) + 1
        self.length, self.total = self.length + 1, self.total + reward
        if self.length >= FIRST_MOVIE and self.length & (self.length - 1) == 0:
            self.write_movies()
            self.writer.flush()

    def close(self, status: str) -> None:
        """Write the whole episode and rename its folder after its status."""
        self.write_movies()
        self.write_actions()
        self.write_embedding()
        self.writer.close()
        kept = {
            "step": [step.t for step in self.kept],
            "action": [self.meaning(step.action) for step in self.kept],
            "return": [step.total for step in self.kept],
            "value": [step.value for step in self.kept],
        }
        counts = {self.meaning(action): self.actions[action] for action in sorted(self.actions)}
        summary = {"return": self.total, "length": self.length, "actions": counts, "kept": kept}
        end_folder(self.folder, self.facts | summary, status)

    def meaning(self, action: int) -> str:
        """Return the name of an action, or its number."""
        names = self.action_meanings
        return names[action] if action < len(names) else str(action)

    def write_movies(self) -> None:
        """Write the kept screens as a movie, with their saliency, and all other pictures."""
        for tag in self.kept[0].images:
            self.write_gif(f"yours/{tag}", np.stack([step.images[tag] for step in self.kept]))
        self.write_activations()
        if self.kept[0].frame is None:
            return
        frames = np.stack([step.frame for step in self.kept])
        self.write_gif("game", frames)
        if self.kept[0].maps is None:
            return
        gain = common_gain([step.maps for step in self.kept])
        region = self.region or (0, frames.shape[1], 0, frames.shape[2])
        drawn = np.stack([overlay(step.frame, step.maps, region, gain) for step in self.kept])
        captions = []
        for step in self.kept:
            value = "" if step.value is None else f"   value {step.value:.2f}"
            words = f"{step.t}  {self.meaning(step.action)}   return {step.total:g}"
            captions.append(words + value)
        title = f"{self.facts['name']}, episode {self.facts['episode']}"
        factor = max(1, round(MOVIE_WIDTH / frames.shape[2]))
        self.write_gif("saliency", movie_frames({title: drawn}, captions, factor=factor))

    def write_activations(self) -> None:
        """Write the hidden activations of the kept steps, as far as they were recorded."""
        inside = [step.inside for step in self.kept if step.inside is not None]
        if inside and inside[0].channels is not None:
            channels = [each.channels for each in inside]
            self.write_gif("within/last_convolution", activation_movie(channels, ENLARGED))
        if inside and inside[0].memory is not None:
            states = [memory_channels(each.memory) for each in inside]
            self.write_gif("within/memory", activation_movie(states, ENLARGED))

    def write_gif(self, tag: str, frames: np.ndarray) -> None:
        """Write a movie as an image summary.

        `SummaryWriter.add_video` needs moviepy, and with moviepy 2 it writes nothing, silently.
        """
        height, width = frames.shape[1:3]
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=gif(frames, FPS)
        )
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self.writer._get_file_writer().add_summary(summary, self.length)

    def write_actions(self) -> None:
        """Write how often each action was taken, as a histogram and as a table."""
        actions = np.repeat(list(self.actions), list(self.actions.values()))
        edges = np.arange(max(actions.max() + 1, len(self.action_meanings)) + 1) - 0.5
        self.writer.add_histogram("actions", actions, bins=edges)
        rows = [
            f"| {self.meaning(action)} | {count} | {count / self.length:.1%} |"
            for action, count in sorted(self.actions.items(), key=lambda item: -item[1])
        ]
        table = "\n".join(["| action | times | share |", "|---|---|---|", *rows])
        self.writer.add_text("actions", table)

    def write_embedding(self) -> None:
        """Write the last hidden layer of the kept steps, with their screens, for the projector."""
        if any(step.hidden is None for step in self.kept):
            return
        thumbnails = None
        if self.kept[0].frame is not None:
            size = (THUMBNAIL, THUMBNAIL)
            small = [Image.fromarray(m.frame).resize(size, Image.BOX) for m in self.kept]
            thumbnails = torch.from_numpy(np.stack(small).transpose(0, 3, 1, 2) / 255)
        rows = [(m.t, self.meaning(m.action), m.total, m.value) for m in self.kept]
        self.writer.add_embedding(
            np.stack([step.hidden for step in self.kept]),
            rows,
            thumbnails,
            tag="last_hidden_layer",
            metadata_header=["step", "action", "return", "value"],
        )


def write_facts(folder: Path, facts: dict, status: str) -> None:
    """Write `metadata.json`."""
    with whole_file(folder / "metadata.json") as beside:
        beside.write_text(json.dumps({"status": status} | facts, indent=1))


def end_folder(folder: Path, facts: dict, status: str) -> None:
    """Write the status of an ended episode, and give its folder the final name."""
    write_facts(folder, facts | {"ended": time.time()}, status)
    ending = "" if status == "finished" else f"-{status}"
    folder.rename(folder.with_name(folder.name.removesuffix(RUNNING) + ending))
