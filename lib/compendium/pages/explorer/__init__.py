"""The explorer without a kernel: a folder of recordings and weights that a browser runs.

A recording holds what the page shows at once: screens, outputs, maps with the usual settings, and
attention on objects. Every answer to a click, and every map with other settings, is computed by the
network itself, in `network.js`; its numbers equal those of the library (tested in a browser).
"""

import base64
import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atarilens.agents import Agent, load_agent
from atarilens.games import game, object_boxes
from atarilens.games.emulators import EnvironmentSettings, make_env
from atarilens.games.objects import to_observation
from atarilens.measures import attention_by_object
from atarilens.play.inference import read_episodes
from atarilens.play.trajectories import load_replay
from atarilens.saliency import SaliencyMaps, perturbation_saliency
from atarilens.views import common_gain, describe_gain
from atarilens.views.screens import ACTOR, CRITIC, DIMMED, HEADS, LUMA

HERE = Path(__file__).parent
USUAL = {"radius": 5.0, "blur": 3.0, "stride": 5}  # px, of the maps that are stored
LEVELS = 4095  # a stored score is a whole number of 4095ths of the largest of its step
SPACING = 16  # steps between two stored memories; the page computes those between
LARGEST = 10e6  # bytes of the whole folder


@dataclass(frozen=True)
class Recording:
    """A stretch of a replay that the page shows.

    Attributes:
        agent: a row of data/agents, of the paper's network with an LSTM.
        replay: its recording in data/replays.
        title: of the agent, for people.
        start: first step shown, counted from the beginning of the replay.
        steps: how many.
        opening: step at which the page opens; one that shows something.
    """

    agent: str
    replay: str
    title: str
    start: int
    steps: int
    opening: int


RECORDINGS = (
    Recording("breakout-strong", "breakout-strong", "Breakout", 1260, 240, 1300),
    Recording("pong-strong", "pong-strong", "Pong", 40, 240, 72),
    Recording("spaceinvaders-strong", "spaceinvaders-strong", "Space Invaders", 60, 240, 100),
)


def write_explorer(folder: Path, recordings: tuple[Recording, ...] = RECORDINGS) -> int:
    """Write the page with its data; return the bytes of the folder.

    Args:
        folder: gets `index.html` and what belongs to it.
        recordings: the first one is shown first.

    Raises:
        ValueError: if an agent's network is not the paper's with an LSTM, or all files together
            are larger than `LARGEST`.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name in ("network.js", "worker.js", "page.js"):
        shutil.copy(HERE / name, folder)
    shutil.copy(HERE / "page.html", folder / "index.html")
    colours = f":root {{ --actor: {ACTOR}; --critic: {CRITIC}; }}\n"
    styles = [path.read_text() for path in (HERE.parent / "site.css", HERE / "page.css")]
    (folder / "style.css").write_text(colours + "".join(styles))
    rows = []
    for recording in recordings:
        agent = load_agent(recording.agent)
        write_data(folder, f"{agent.name}.weights", weights(agent))
        file = f"{agent.name}.{recording.start}"
        write_data(folder, file, episode(agent, recording))
        shown = {"name": recording.replay, "file": file, "start": recording.start}
        shown |= {"steps": recording.steps, "opening": recording.opening}
        rows.append({"name": agent.name, "title": recording.title, "episodes": [shown]})
    picture = {"heads": HEADS.tolist(), "dimmed": DIMMED, "luma": LUMA.tolist()}
    catalogue = {"agents": rows, "usual": USUAL, "levels": LEVELS, "picture": picture}
    text = f"const atarilensCatalogue = {json.dumps(catalogue)};\n"
    (folder / "data" / "catalogue.js").write_text(text)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LARGEST:
        raise ValueError(f"the explorer is {size / 1e6:.1f} MB, expected at most {LARGEST / 1e6}")
    return size


def write_data(folder: Path, name: str, content: Mapping) -> None:
    """Write data as a script, which a page may read from a folder, where it may fetch nothing."""
    (folder / "data" / f"{name}.js").write_text(
        f"atarilensData({json.dumps(name)}, {json.dumps(content)});\n"
    )


def pack(array: np.ndarray) -> dict:
    """Return an array as text: base64 of its deflated bytes, all first bytes first."""
    array = np.ascontiguousarray(array)
    planes = array.reshape(-1).view(np.uint8).reshape(array.size, -1).T
    data = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
    return {"type": str(array.dtype), "shape": list(array.shape), "data": data}


def weights(agent: Agent) -> dict:
    """Return the weights of an agent, packed, by PyTorch's names.

    Raises:
        ValueError: if the network is another than `network.js` computes.
    """
    if agent.facts["architecture"] != "lstm":
        raise ValueError(f"{agent.name} is {agent.facts['architecture']!r}, expected 'lstm'")
    state = agent.network.state_dict()
    return {name: pack(tensor.numpy().astype(np.float16)) for name, tensor in state.items()}


def opening_of(replay: str, steps: int) -> tuple[dict[str, np.ndarray], dict]:
    """Play the first steps of a replay.

    Returns:
        frames `[T, 210, 160, 3]`, ram `[T, 128]`, rewards, actions and episode `[T]`; and the
        replay's facts.
    """
    facts, actions, _ = load_replay(replay)
    seed, noops = facts["origin"]["seed"], facts["origin"]["noops"]
    played: dict[str, list] = {name: [] for name in ("frames", "ram", "rewards", "episode")}
    over, number = True, -1
    with make_env(EnvironmentSettings(**facts["settings"])) as env:
        for action in actions[:steps]:
            if over:
                number += 1
                screen, info = env.reset(seed=seed + number, options={"noops": noops[number]})
            played["frames"].append(screen)
            played["ram"].append(info["ram"])
            played["episode"].append(number)
            screen, reward, terminated, truncated, info = env.step(int(action))
            played["rewards"].append(reward)
            over = terminated or truncated
    return {name: np.stack(values) for name, values in played.items()} | {
        "actions": actions[:steps]
    }, facts


def episode(agent: Agent, recording: Recording) -> dict:
    """Return everything that the page shows of a recording, packed."""
    played, _ = opening_of(recording.replay, recording.start + recording.steps)
    played |= read_episodes(agent, played["frames"], played["episode"])
    shown = slice(recording.start, recording.start + recording.steps)
    played = {name: values[shown] for name, values in played.items()}
    maps = perturbation_saliency(
        agent.network,
        played["observations"],
        played["memory"],
        stride=USUAL["stride"],
        mask_sigma=USUAL["radius"],
        blur_sigma=USUAL["blur"],
    )
    gain = common_gain([maps])
    palette, screens = colours_of(played["frames"])
    screens[1:] ^= screens[:-1].copy()
    names, attention = attention_on(agent, maps, played["ram"])
    arrays = {
        "screens": screens,
        "logits": played["action_logits"],
        "values": played["values"],
        "chosen": played["actions"].astype(np.uint8),
        "rewards": played["rewards"].astype(np.float32),
        "attention": attention,
        "memory": played["memory"][::SPACING],
    }
    for head, grid in (("actor", maps.actor_grid), ("critic", maps.critic_grid)):
        peaks = grid.max((1, 2))
        scaled = np.rint(grid * (LEVELS / np.where(peaks > 0, peaks, 1))[:, None, None])
        arrays |= {head: scaled.astype(np.uint16), f"{head}Peaks": peaks}
    return {
        "name": recording.replay,
        "game": game(agent.game).title,
        "start": recording.start,
        "steps": recording.steps,
        "shape": list(played["frames"].shape[1:3]),
        "region": list(agent.region),
        "side": maps.actor_grid.shape[-1],
        "spacing": SPACING,
        "gain": gain,
        "gainWords": describe_gain(gain).removeprefix("Gain: ").removesuffix("."),
        "palette": palette.tolist(),
        "actionNames": list(agent.action_meanings),
        "objects": names,
        "arrays": {name: pack(array) for name, array in arrays.items()},
    }


def colours_of(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours `[n, 3]` of screens `[T, H, W, 3]`, and each pixel's `[T, H, W]` uint8."""
    codes = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, index = np.unique(codes, return_inverse=True)
    if len(found) > 256:
        raise ValueError(f"the screens have {len(found)} colours, expected at most 256")
    palette = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    return palette, index.reshape(codes.shape).astype(np.uint8)


def attention_on(agent: Agent, maps: SaliencyMaps, ram: np.ndarray) -> tuple[list, np.ndarray]:
    """Return the objects' names, and `[2, K, T]` float32: actor's and critic's NSS on each."""
    shape = maps.actor.shape[-2:]
    boxes = [to_observation(object_boxes(agent.game, r), agent.region, shape) for r in ram]
    found = attention_by_object(maps, boxes)
    heads = [
        [getattr(each, f"{head}_nss") for each in found.values()] for head in ("actor", "critic")
    ]
    return list(found), np.array(heads, np.float32)
