"""How fast this machine plays and explains, written to `data/benchmarks/<machine>.json`."""

import json
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch

from atarilens.agents import load_agent
from atarilens.envs import make_env
from atarilens.paths import BENCHMARKS
from atarilens.saliency import jacobian_saliency, perturbation_saliency
from atarilens.trajectories import rollout

FRAMES = 8  # explained per measurement: one chunk of `perturbation_saliency`
REPEATS = 5  # the fastest counts: other programs only ever slow a measurement down


def machine() -> str:
    """Name this machine by its processor and the number of its cores, fit for a file name."""
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.is_file() and re.search(r"model name\s*: (.+)", cpuinfo.read_text())
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{os.cpu_count()}-cores"


def fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of `REPEATS` runs; a run before them warms up."""
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def measure() -> dict:
    """Measure the paper's network on Pong screens.

    Returns:
        name -> number, the unit in the name. Perturbation saliency is of both heads.
    """
    agent = load_agent("untrained-pong")
    trajectory = rollout(agent, seed=0, max_steps=FRAMES)
    explained = (agent.network, trajectory.observations, trajectory.memory)
    env = make_env(agent.settings)
    env.reset(seed=0)

    def play_emulator():
        for _ in range(100):
            env.step(0)

    numbers = {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "emulator_steps_per_second": 100 / fastest(play_emulator),
        "jacobian_ms_per_frame": 1e3 / FRAMES * fastest(lambda: jacobian_saliency(*explained)),
    }
    for stride in (5, 2):
        seconds = fastest(lambda stride=stride: perturbation_saliency(*explained, stride=stride))
        numbers[f"perturbation_stride_{stride}_ms_per_frame"] = 1e3 / FRAMES * seconds
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in numbers.items()}


def write() -> Path:
    """Measure this machine; write and return `data/benchmarks/<machine>.json`."""
    path = BENCHMARKS / f"{machine()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(measure(), indent=1) + "\n")
    return path
