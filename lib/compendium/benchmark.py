"""How fast this machine explains and trains, written to `data/benchmarks/<machine>.json`.

Everything that is compared is measured in the same run, in turns, and the fastest turn counts:
other programs only ever slow a measurement down. Times are of both heads, actor and critic.
"""

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from atarilens.agents import Agent, list_agents, load_agent
from atarilens.agents.preprocessing import preprocessing
from atarilens.apps.explorer import explain
from atarilens.apps.explorer.drawing import png
from atarilens.games.emulators import EnvironmentSettings, ObservationEnv, make_env
from atarilens.paths import BENCHMARKS
from atarilens.play.rollouts import rollout
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import gaussian_mask, jacobian_saliency, perturbation_saliency
from atarilens.saliency.masks import mask_factors
from atarilens.views import save_figure
from atarilens.views.layouts import house_style, new_figure
from compendium.training.ppo import PPOSettings, train

FRAMES = 8  # explained per measurement: one chunk of `perturbation_saliency`
LONG = 64  # frames of the longest stretch
REPEATS = 5
PATIENCE = 1.0  # seconds
STRIDES = (5, 2, 1)  # px; at the first, everything is compared
GAMES = ("breakout", "pong")  # Pong's screens are mostly empty, which the fast path makes use of
COMPARED = ("original", "prepared once", "captum occlusion", "torch", "fast")
THREADS = {1: "1 thread", 2: "2 threads"}
EPOCHS = 4  # of every trainer that is compared
GIGA = 1e9


def machine() -> str:
    """Name this machine by its processor and the number of its cores, fit for a file name."""
    name = processor()
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{os.cpu_count()}-cores"


def processor() -> str:
    """Return the processor's own name."""
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.is_file() and re.search(r"model name\s*: (.+)", cpuinfo.read_text())
    return found[1] if found else platform.processor() or platform.machine()


def fastest(works: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the seconds of each work's fastest turn.

    Every work has a turn to warm up and then up to `REPEATS`, in turns with the others, but at
    most two if the first took `PATIENCE` seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(REPEATS + 1):
        for name, work in works.items():
            if turn > 2 and seconds[name][0] > PATIENCE:
                continue
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: min(turns[1:]) for name, turns in seconds.items()}


def original_saliency(agent: Agent, screen: np.ndarray, memory: np.ndarray, stride: int):
    """Score a screen as the original code does: everything anew for every mask and head.

    Preprocessing, blur and mask are redone for each of the passes, one observation at a time, and
    actor and critic are passed separately. Written from the paper and from measurements of the
    code, for this comparison alone; its results are tested to be `perturbation_saliency`'s.

    Returns:
        Grids `[2, n, m]` float64 of actor and critic.
    """
    memory = torch.as_tensor(memory)[None]
    rows, columns = (range(0, size, stride) for size in agent.preprocessing.shape[1:])
    grids = np.zeros((2, len(rows), len(columns)))

    def forward(head: int, centre: tuple[int, int] | None) -> torch.Tensor:
        image = agent.preprocess(screen)[0]
        if centre is not None:
            mask = gaussian_mask(centre, image.shape, 5.0)
            image = image * (1 - mask) + gaussian_filter(image, 3.0) * mask
        return agent.network(torch.as_tensor(image, dtype=torch.float32)[None, None], memory)[head]

    with torch.no_grad():
        for head in (0, 1):
            plain = forward(head, None)
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    change = forward(head, (row, column)) - plain
                    grids[head, i, j] = 0.5 * change.square().sum()
    return grids


def prepared_saliency(agent: Agent, observation: np.ndarray, memory: np.ndarray, stride: int):
    """Score as `original_saliency`, but with observation and blur prepared once."""
    image, memory = observation[0], torch.as_tensor(memory)[None]
    blurred = gaussian_filter(image, 3.0)
    rows, columns = (range(0, size, stride) for size in image.shape)
    grids = np.zeros((2, len(rows), len(columns)))
    with torch.no_grad():
        for head in (0, 1):
            plain = agent.network(torch.as_tensor(image)[None, None], memory)[head]
            for i, j in np.ndindex(grids[head].shape):
                mask = gaussian_mask((rows[i], columns[j]), image.shape, 5.0)
                changed = torch.as_tensor(image * (1 - mask) + blurred * mask, dtype=torch.float32)
                change = agent.network(changed[None, None], memory)[head] - plain
                grids[head, i, j] = 0.5 * change.square().sum()
    return grids


def occlusion(agent: Agent, observation: np.ndarray, memory: np.ndarray, stride: int):
    """Occlude as many places with Captum's squares, both heads in one pass, batches of 16."""
    from captum.attr import Occlusion

    def forward(observations):
        repeated = torch.as_tensor(memory)[None].expand(len(observations), -1, -1)
        logits, value, _ = agent.network(observations, repeated)
        return torch.cat((logits, value[:, None]), 1)

    with torch.no_grad():
        return Occlusion(forward).attribute(
            torch.as_tensor(observation)[None],
            sliding_window_shapes=(1, stride, stride),
            strides=(1, stride, stride),
            perturbations_per_eval=16,
        )


def explaining(agent: Agent, trajectory: Trajectory) -> dict[str, float]:
    """Measure every way to explain, in milliseconds per frame, with torch's threads."""
    screen, observation, memory = (
        array[-1] for array in (trajectory.frames, trajectory.observations, trajectory.memory)
    )
    first = STRIDES[0]
    works: dict[str, tuple[int, Callable]] = {
        "original": (1, lambda: original_saliency(agent, screen, memory, first)),
        "prepared once": (1, lambda: prepared_saliency(agent, observation, memory, first)),
        "captum occlusion": (1, lambda: occlusion(agent, observation, memory, first)),
        "jacobian": (1, lambda: jacobian_saliency(agent.network, observation, memory)),
        "explorer step": (1, lambda: explorer_step(agent, trajectory)),
    }

    def explain(frames: int, **settings) -> tuple[int, Callable]:
        episode = trajectory.observations[-frames:], trajectory.memory[-frames:]
        return frames, lambda: perturbation_saliency(agent.network, *episode, **settings)

    for method in ("torch", "fast"):
        works[method] = explain(FRAMES, method=method, stride=first)
        for stride in STRIDES[1:]:
            works[f"{method} stride {stride}"] = explain(1, method=method, stride=stride)
    for frames in (1, LONG):
        works[f"fast, {frames} frames"] = explain(frames, method="fast", stride=first)
    seconds = fastest({name: work for name, (_, work) in works.items()})
    return {name: 1e3 * seconds[name] / frames for name, (frames, _) in works.items()}


def explorer_step(agent: Agent, trajectory: Trajectory) -> bytes:
    """Do what a new screen of the explorer costs: explain it, and encode the picture."""
    step = len(trajectory) - 1
    return png(explain(agent, trajectory, step, gain=(100.0, 100.0)).image)


def arithmetic() -> dict[str, float]:
    """Measure how fast this machine multiplies, in GFLOP/s, with torch's threads."""
    a, b = torch.rand(2, 2048, 2048)
    images = torch.rand(16, 512, 20, 20).to(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(512, 512, 3).to(memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = fastest({"product": lambda: a @ b, "convolution": lambda: layer(images)})
    return {
        "product_gflop_per_second": 2 * 2048**3 / seconds["product"] / GIGA,
        "convolution_gflop_per_second": 2 * 16 * 18**2 * 512**2 * 9 / seconds["convolution"] / GIGA,
    }


def multiplications(gates: int, exact: bool = True, stride: int = 5) -> float:
    """Return the multiply-adds of one frame's masks: of what a mask reaches, or of everything.

    Args:
        gates: outputs of the cell's input product: 1024 (LSTM) or 768 (GRU).
        exact: count only the pixels that a mask reaches, else all.
        stride: px.
    """
    rows, _, scale = mask_factors((80, 80), stride, 5.0)
    starts = (rows != 0).any(0).argmax(1)
    stops = 80 - (rows != 0).any(0)[:, ::-1].argmax(1)
    total, size = 0.0, 80
    for depth in (1, 32, 32, 32):
        size //= 2
        starts, stops = starts // 2, np.minimum(stops // 2 + 1, size)
        pixels = (stops - starts).mean() ** 2 if exact else size**2
        total += pixels * 9 * depth * 32
    return scale.size * (total + pixels * 32 * gates)


def training(game: str = "pong") -> dict[str, float]:
    """Measure trainers on the same emulator settings and epochs, in agent steps per second."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    settings = PPOSettings(total_steps=4 * 2048, epochs=EPOCHS)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        clock = [lambda *_: times.append(time.perf_counter())]
        train(game, folder, settings, callbacks=clock, progress=False)
    steps = settings.num_envs * settings.rollout_steps
    rates = {"atarilens": steps / min(after - before for before, after in pairwise(times))}

    def environment():
        return ObservationEnv(make_env(EnvironmentSettings(game)), preprocessing("luma80"))

    for name, trainer, policy in (
        ("stable-baselines3 PPO", PPO, "CnnPolicy"),
        ("sb3-contrib RecurrentPPO", RecurrentPPO, "CnnLstmPolicy"),
    ):
        model = trainer(
            policy,
            make_vec_env(environment, n_envs=8),
            n_steps=128,
            batch_size=256,
            n_epochs=EPOCHS,
            device="cpu",
            seed=0,
        )
        model.learn(1024)
        began = time.perf_counter()
        model.learn(2048)
        rates[name] = 2048 / (time.perf_counter() - began)
    return rates


SHORTENED = {  # so that a turn takes seconds; the work of an agent step stays the same
    "dqn": {"first_steps": 128, "memory_steps": 2048},
    "qr-dqn": {"first_steps": 128, "memory_steps": 2048},
    "ga": {"episode_steps": 100},
    "es": {"episode_steps": 100},
}


def zoo_training(game: str = "pong", turns: int = 4) -> dict[str, dict[str, float]]:
    """Measure each algorithm of the zoo beside Stable-Baselines3's, in agent steps per second.

    Both have one thread, as many emulators, the same observations, the same network, and the same
    number of samples to learn from per agent step. Stable-Baselines3 has no evolution.

    Args:
        game: that is played.
        turns: updates of each, two or more, that the means are over.

    Returns:
        algorithm -> {"atarilens": rate, "stable-baselines3": rate}.
    """
    from compendium.shipping.zoo import RECIPES, TRAINERS

    rates: dict[str, dict[str, float]] = {}
    for name, recipe in RECIPES.items():
        settings = replace(recipe, **SHORTENED.get(name, {}))
        evolved = name in ("ga", "es")
        side_by_side, length = (
            (settings.population, settings.episode_steps)
            if evolved
            else (settings.num_envs, settings.rollout_steps)
        )
        steps, first = side_by_side * length, getattr(settings, "first_steps", 0)
        settings = replace(settings, total_steps=first + turns * steps)
        times: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            clock = [lambda *_, times=times: times.append(time.perf_counter())]
            TRAINERS[type(settings)](game, folder, settings, callbacks=clock, progress=False)
        last = list(pairwise(times))[-turns + 1 :]  # without a Q-network's first steps
        elapsed = sum(after - before for before, after in last)
        rates[name] = {"atarilens": len(last) * steps / elapsed}
        if not evolved:
            model = counterpart(name, game, settings)
            model.learn(first + steps)
            began = time.perf_counter()
            model.learn(turns * steps, reset_num_timesteps=False)
            elapsed = time.perf_counter() - began
            rates[name]["stable-baselines3"] = turns * steps / elapsed
    return rates


def counterpart(name: str, game: str, settings):
    """Make Stable-Baselines3's learner of an algorithm by the numbers of our recipe."""
    from sb3_contrib import QRDQN
    from stable_baselines3 import A2C, DQN, PPO
    from stable_baselines3.common.env_util import make_vec_env

    def environment():
        return ObservationEnv(make_env(EnvironmentSettings(game)), preprocessing("area84-stack4"))

    style = {"features_extractor_kwargs": {"features_dim": settings.hidden_units}}
    steps, options = settings.rollout_steps, {}
    if name in ("ppo", "a2c"):
        options["n_steps"] = steps
    if name == "ppo":
        batch = settings.num_envs * steps // settings.minibatches
        options |= {"batch_size": batch, "n_epochs": settings.epochs}
    if name in ("dqn", "qr-dqn"):
        options |= {"train_freq": steps, "batch_size": settings.batch}
        options |= {"buffer_size": settings.memory_steps, "learning_starts": settings.first_steps}
    if name == "qr-dqn":
        style["n_quantiles"] = settings.quantiles
    trainer = {"ppo": PPO, "a2c": A2C, "dqn": DQN, "qr-dqn": QRDQN}[name]
    emulators = make_vec_env(environment, n_envs=settings.num_envs)
    return trainer("CnnPolicy", emulators, policy_kwargs=style, device="cpu", seed=0, **options)


def measure(trainers: bool = True) -> dict:
    """Measure this machine.

    Args:
        trainers: compare these too, which takes a few minutes more.

    Returns:
        Names -> numbers; the unit is in the name.
    """
    numbers: dict = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "versions": {name: version(name) for name in ("torch", "numba", "numpy", "captum")},
        "repeats": REPEATS,
        "frames": FRAMES,
        "stride": STRIDES[0],
    }
    before = torch.get_num_threads()
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            numbers[THREADS[threads]] = measured = {"arithmetic": arithmetic()}
            for game in GAMES:
                strong = f"{game}-strong"
                agent = load_agent(strong if strong in list_agents() else f"untrained-{game}")
                trajectory = rollout(agent, seed=0, max_steps=100 + LONG)
                times = explaining(agent, trajectory)
                measured[agent.name] = {
                    "ms_per_frame": times,
                    "times_faster_than": {
                        name: times[name] / times["fast"] for name in COMPARED[:-1]
                    },
                }
            rate = max(measured["arithmetic"].values()) * GIGA
            measured["floor_ms_per_frame"] = {
                f"{cell}, {'what masks reach' if exact else 'everything'}": (
                    2e3 * multiplications(gates, exact, STRIDES[0]) / rate
                )
                for cell, gates in (("LSTM", 1024), ("GRU", 768))
                for exact in (True, False)
            }
    finally:
        torch.set_num_threads(before)
    if trainers:
        numbers["agent_steps_per_second"] = training()
        torch.set_num_threads(1)  # as each run of the zoo has
        numbers["zoo_agent_steps_per_second"] = zoo_training()
        torch.set_num_threads(before)
    return numbers


def draw(numbers: Mapping) -> Figure:
    """Draw cost against method and against stride, from what `measure` returns."""
    runs = {name: numbers[name] for name in THREADS.values()}
    agent = next(key for key in runs["1 thread"] if GAMES[0] in key)
    caption = (
        f"Milliseconds per frame, actor and critic together, of {agent} on "
        f"{numbers['processor']} ({numbers['instructions']}); the fastest of "
        f"{numbers['repeats']} turns. Left: at stride {STRIDES[0]}. Right: against the stride."
    )
    with house_style():
        figure = new_figure(2.8, caption)
        bars, lines = figure.subplots(1, 2)
        for k, (threads, run) in enumerate(runs.items()):
            times = run[agent]["ms_per_frame"]
            places = np.arange(len(COMPARED)) + 0.4 * k
            drawn = bars.barh(places, [times[name] for name in COMPARED], 0.36, label=threads)
            bars.bar_label(drawn, fmt="{:,.0f}", padding=2, fontsize=7)
            for method, marker in (("torch", "s"), ("fast", "o")):
                cost = [times[method], *(times[f"{method} stride {s}"] for s in STRIDES[1:])]
                lines.plot(STRIDES, cost, marker=marker, label=f"{method}, {threads}")
        bars.set_yticks(np.arange(len(COMPARED)) + 0.2, COMPARED)
        bars.invert_yaxis()
        bars.margins(x=0.3)
        bars.set(xscale="log", xlabel="ms per frame", xlim=(1, None))
        lines.set(yscale="log", xlabel="stride (px)", ylabel="ms per frame", xticks=STRIDES)
        bars.legend(loc="lower right")
        lines.legend(loc="upper right", fontsize=7)
        lines.margins(y=0.3)
    return figure


def write(trainers: bool = True) -> Path:
    """Measure this machine; write `data/benchmarks/<machine>.json` and a figure, return the former.

    Args:
        trainers: see `measure`.
    """
    numbers = measure(trainers)
    return save_figure(draw(numbers), BENCHMARKS, machine(), numbers).with_suffix(".json")
