"""One recorded episode: its kept steps, and the summaries written from them."""

import io
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

from atarilens.paths import whole_file
from atarilens.saliency import SaliencyMaps
from atarilens.views import common_gain, movie_frames, overlay

FPS = 15  # agent steps per second of a game at frame skip 4
FIRST_MOVIE = 64  # steps after which the movies are written, and again at every doubling
FLUSH = 5  # seconds until a scalar is on disk
THUMBNAIL = 48  # px
MOVIE_WIDTH = 320  # px; room for the words below the screen
RUNNING = "-running"  # folder ending of an unfinished episode


@dataclass
class KeptStep:
    """One step. The reward FOLLOWED the action; `total` is the return including it."""

    t: int  # index of the decision in its episode
    frame: np.ndarray  # [h, w, 3] uint8, at the decision
    action: int
    reward: float
    total: float
    value: float | None
    hidden: np.ndarray | None  # [D]
    maps: SaliencyMaps | None


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
        """Write the kept screens as a movie, and once more with their saliency and a caption."""
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

    def write_gif(self, tag: str, frames: np.ndarray) -> None:
        """Write a movie as an image summary.

        `SummaryWriter.add_video` needs moviepy, and with moviepy 2 it writes nothing, silently.
        """
        height, width = frames.shape[1:3]
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=gif(frames)
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
        size = (THUMBNAIL, THUMBNAIL)
        thumbnails = [Image.fromarray(m.frame).resize(size, Image.BOX) for m in self.kept]
        thumbnails = np.stack(thumbnails).transpose(0, 3, 1, 2) / 255
        rows = [(m.t, self.meaning(m.action), m.total, m.value) for m in self.kept]
        self.writer.add_embedding(
            np.stack([step.hidden for step in self.kept]),
            rows,
            torch.from_numpy(thumbnails),
            tag="last_hidden_layer",
            metadata_header=["step", "action", "return", "value"],
        )


def gif(frames: np.ndarray, fps: int = FPS) -> bytes:
    """Encode `[T, h, w, 3]` uint8 as a looping GIF.

    Lossless where all frames together have at most 256 colours, as a game's screens have;
    otherwise with the best 256 of eight frames spread over the movie. A frame that equals the one
    before becomes a longer duration of that one.
    """
    red, green, blue = (frames[..., channel].astype(np.uint32) for channel in range(3))
    packed = red << 16 | green << 8 | blue
    present = np.zeros(1 << 24, bool)
    present[packed.reshape(-1)] = True
    colours = np.flatnonzero(present)
    if len(colours) <= 256:
        palette = np.stack((colours >> 16, colours >> 8 & 255, colours & 255), 1).astype(np.uint8)
        images = [Image.fromarray(np.searchsorted(colours, p).astype(np.uint8)) for p in packed]
        for image in images:
            image.putpalette(palette.tobytes())
    else:
        chosen = frames[np.linspace(0, len(frames) - 1, 8).astype(int)]
        palette = Image.fromarray(np.concatenate(chosen)).quantize(256)
        images = [Image.fromarray(f).quantize(palette=palette, dither=0) for f in frames]
    buffer = io.BytesIO()
    duration = round(1000 / fps, -1)  # ms; a GIF counts in hundredths of a second
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0
    )
    return buffer.getvalue()


def write_facts(folder: Path, facts: dict, status: str) -> None:
    """Write `metadata.json`."""
    with whole_file(folder / "metadata.json") as beside:
        beside.write_text(json.dumps({"status": status} | facts, indent=1))


def end_folder(folder: Path, facts: dict, status: str) -> None:
    """Write the status of an ended episode, and give its folder the final name."""
    write_facts(folder, facts | {"ended": time.time()}, status)
    ending = "" if status == "finished" else f"-{status}"
    folder.rename(folder.with_name(folder.name.removesuffix(RUNNING) + ending))
