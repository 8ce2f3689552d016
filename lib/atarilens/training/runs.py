"""A run of training: a folder that survives being killed, whatever it is that is trained.

The folder holds `settings.json` (what the run is), `curve.csv` (one row per update),
`checkpoints/<step>.safetensors` (float16, on a geometric schedule from the untrained network on),
`best/<step>.safetensors` (of the highest running mean return so far, one file) and `state.pt` (all
that is needed to go on; tensors and numbers only).
"""

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

FIRST_CHECKPOINT = 31_250  # agent steps; then every doubling, and the end
RETURNS_KEPT = 100  # complete episodes that the running mean return is taken over
SAVE_EVERY = 120.0  # seconds between saves of the state


class Settings(Protocol):
    """What every kind of training has to say of itself."""

    total_steps: int
    num_envs: int
    rollout_steps: int
    learning_rate: float


Callback = Callable[[int, nn.Module, dict], None]  # step, network, metrics of the update


def checkpoint_steps(total_steps: int) -> list[int]:
    """Return the declared schedule: 0, 31,250, then every doubling below the end, and the end."""
    steps, step = [0], FIRST_CHECKPOINT
    while step < total_steps:
        steps.append(step)
        step *= 2
    return [*steps, total_steps]


def drive(
    run_dir: str | Path,
    facts: dict,
    network: nn.Module,
    make_update: Callable[[int, torch.optim.Optimizer, torch.Generator], Callable[[], dict]],
    settings: Settings,
    *,
    max_seconds: float = float("inf"),
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> Path:
    """Train a network by updates of Adam, or go on with the run that the folder holds.

    Args:
        run_dir: made if missing; a state in it is resumed.
        facts: what the run is; must equal those of the run that is resumed. Has "game" and "seed".
        network: on its device, as the run starts from it.
        make_update: `(step, optimizer, generator) -> update`, called once; `update()` plays, learns
            and returns metrics, "episodes" finished and "mean_return" (or None) among them.
        settings: whose `num_envs` times `rollout_steps` agent steps are one update, and whose
            `learning_rate` falls linearly to 0 at `total_steps`.
        max_seconds: stop, resumable, after so much wall time.
        callbacks: called after every update.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        ValueError: if the folder holds another run.
    """
    torch.set_flush_denormal(True)  # gradients of an untrained agent are full of them: 10x slower
    run_dir = Path(run_dir)
    checkpoints, state_path = run_dir / "checkpoints", run_dir / "state.pt"
    for folder in (checkpoints, run_dir / "best"):
        folder.mkdir(parents=True, exist_ok=True)
    _check_facts(run_dir / "settings.json", facts)
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate, eps=1e-5)
    generator = torch.Generator(device).manual_seed(facts["seed"])
    step, seconds, episodes, best = 0, 0.0, 0, -math.inf
    if state_path.exists():
        state = torch.load(state_path, weights_only=True, map_location=device)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        step, seconds, episodes = state["step"], state["seconds"], state["episodes"]
        best = state.get("best", best)
        _forget_rows_after(run_dir / "curve.csv", step)
    else:
        _save_checkpoint(network, checkpoints, 0)
    update = make_update(step, optimizer, generator)
    total_steps, steps_per_update = settings.total_steps, settings.num_envs * settings.rollout_steps
    schedule, metrics = checkpoint_steps(total_steps), {"episodes": 0}

    def save_state():
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "step": step,
            "seconds": seconds,
            "episodes": episodes + metrics["episodes"],
            "best": best,
        }
        _write(state_path, lambda path: torch.save(state, path))

    began = saved = last = time.monotonic()
    bar = tqdm(
        total=total_steps, initial=step, unit="step", disable=not progress, desc=facts["game"]
    )
    while step < total_steps and time.monotonic() - began < max_seconds:
        rate = settings.learning_rate * (1 - step / total_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        metrics = update()
        previous, step = step, step + steps_per_update
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        row = {"step": step, "hours": seconds / 3600, "learning_rate": rate} | metrics
        row["episodes"] += episodes
        _append_row(run_dir / "curve.csv", row)
        for callback in callbacks:
            callback(step, network, row)
        if any(previous < due <= step for due in schedule):
            _save_checkpoint(network, checkpoints, step)
        if metrics["mean_return"] is not None and metrics["mean_return"] > best:
            best = metrics["mean_return"]
            _save_checkpoint(network, run_dir / "best", step)
            for path in (run_dir / "best").iterdir():
                if int(path.name.split(".")[0]) != step:
                    path.unlink()
        if now - saved > SAVE_EVERY:
            save_state()
            saved = now
        bar.update(steps_per_update)
        bar.set_postfix(mean_return=metrics["mean_return"], refresh=False)
    bar.close()
    save_state()
    return run_dir


def load_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the float32 state dict of a float16 checkpoint file."""
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside, then rename: a killed run leaves no half-written file."""
    beside = path.with_name(path.name + ".part")
    write(beside)
    os.replace(beside, path)


def _save_checkpoint(network: nn.Module, folder: Path, step: int) -> None:
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    _write(folder / f"{step:09d}.safetensors", lambda path: save_file(weights, path))


def _check_facts(path: Path, facts: dict) -> None:
    """Write the run's settings, or compare them with those that are there."""
    if not path.exists():
        _write(path, lambda part: part.write_text(json.dumps(facts, indent=1)))
        return
    there, asked = json.loads(path.read_text()), json.loads(json.dumps(facts))
    for key, entry in asked.items():
        if there.get(key) != entry:
            raise ValueError(
                f"{path.parent} holds a run with {key} = {there.get(key)}, asked for {entry}; "
                "choose another folder or the same settings"
            )


def _append_row(path: Path, row: dict) -> None:
    """Append one row to a CSV: under the header that it has, or with its own."""
    names = list(row)
    if old := path.exists():
        with path.open(newline="") as file:
            names = next(csv.reader(file))
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
        if not old:
            writer.writeheader()
        writer.writerow({key: f"{x:.6g}" if isinstance(x, float) else x for key, x in row.items()})


def _forget_rows_after(path: Path, step: int) -> None:
    """Drop the rows of updates that came after the saved state: they will be made again."""
    if not path.exists():
        return
    header, *lines = path.read_text().splitlines(keepends=True)
    column = header.strip().split(",").index("step")
    whole = [line for line in lines if line.endswith("\n")]
    kept = [line for line in whole if int(line.split(",")[column]) <= step]
    _write(path, lambda part: part.write_text("".join([header, *kept])))
