"""A run of training: a folder that survives being killed, whatever it is that is trained.

The folder holds `settings.json` (what the run is), `curve.csv` (one row per update),
`checkpoints/<step>.safetensors` (float16, on a geometric schedule from the untrained network on),
`best/<step>.safetensors` (of the highest running mean return so far, one file) and `state.pt` (all
that is needed to go on; tensors and numbers only). Its `lock` is held by the process that trains.
"""

import csv
import fcntl
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

FIRST_CHECKPOINT = 31_250  # agent steps; then every doubling, and the end
RETURNS_KEPT = 100  # complete episodes that the running mean return is taken over
SAVE_EVERY = 120.0  # seconds between saves of the state
PARTS = ("curve.csv", "checkpoints", "best", "state.pt")  # of a run, beside its settings


class Settings(Protocol):
    """What every kind of training has to say of itself."""

    total_steps: int
    num_envs: int
    rollout_steps: int
    learning_rate: float


Callback = Callable[[int, nn.Module, dict], None]  # step, network, metrics of the update


def check_numbers(settings: Settings, **ranges: tuple[float, float]) -> None:
    """Refuse settings with a number that is not finite or lies outside its range.

    Args:
        settings: a dataclass; the defaults tell which numbers are whole.
        **ranges: (lowest, highest) of a field; else whole numbers start at 1, others at 0.
    """
    for field in fields(settings):
        number, kind = getattr(settings, field.name), type(field.default)
        if kind is bool:
            continue
        low, high = ranges.get(field.name, (1 if kind is int else 0, math.inf))
        finite = isinstance(number, int if kind is int else int | float) and abs(number) < math.inf
        if not (finite and low <= number <= high):
            raise ValueError(
                f"{field.name} must be a {'whole' if kind is int else 'finite'} number from {low} "
                f"to {high}, received {number!r}"
            )


def check_seed(seed: int) -> None:
    """Refuse what is no seed of all generators."""
    if not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, received {seed!r}")


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

    Ctrl-C takes effect after the update that is under way, and its state is saved.

    Args:
        run_dir: made if missing; a state in it is resumed. Without one, curve and checkpoints that
            are there are removed, and the run starts anew.
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
        ValueError: if the folder holds another run or damaged files, or another process trains in
            it.
    """
    torch.set_flush_denormal(True)  # gradients of an untrained agent are full of them: 10x slower
    run_dir = Path(run_dir)
    curve, state_path = run_dir / "curve.csv", run_dir / "state.pt"
    checkpoints, best_folder = run_dir / "checkpoints", run_dir / "best"
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate, eps=1e-5)
    generator = torch.Generator(device).manual_seed(facts["seed"])
    step, seconds, episodes, best = 0, 0.0, 0, -math.inf
    metrics = {"episodes": 0}

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

    with _held(run_dir):
        _check_facts(run_dir, facts)
        if state_path.exists():
            with _reading(state_path):
                state = torch.load(state_path, weights_only=True, map_location="cpu")
                network.load_state_dict(state["network"])
                optimizer.load_state_dict(state["optimizer"])
                drawn, best = state["generator"], state.get("best", best)
                step, seconds, episodes = state["step"], state["seconds"], state["episodes"]
            if drawn.shape != generator.get_state().shape:
                raise ValueError(f"{state_path} is of another device, asked for {device.type}")
            generator.set_state(drawn)
        update = make_update(step, optimizer, generator)
        if step:
            _forget_rows_after(curve, step)
        else:
            curve.unlink(missing_ok=True)
            for folder in (checkpoints, best_folder):
                folder.mkdir(exist_ok=True)
                for path in folder.glob("*.safetensors*"):
                    path.unlink()
            text = json.dumps(facts, indent=1)
            _write(run_dir / "settings.json", lambda path: path.write_text(text))
            _save_checkpoint(network, checkpoints, 0)
            save_state()
        total_steps = settings.total_steps
        schedule = checkpoint_steps(total_steps)
        steps_per_update = settings.num_envs * settings.rollout_steps
        began = saved = last = time.monotonic()
        bar = tqdm(
            total=total_steps, initial=step, unit="step", disable=not progress, desc=facts["game"]
        )
        try:
            while step < total_steps and time.monotonic() - began < max_seconds:
                rate = settings.learning_rate * (1 - step / total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with _undivided():
                    metrics = update()
                    previous, step = step, step + steps_per_update
                    now = time.monotonic()
                    seconds, last = seconds + now - last, now
                    row = {"step": step, "hours": seconds / 3600, "learning_rate": rate} | metrics
                    row["episodes"] += episodes
                    _append_row(curve, row)
                    if any(previous < due <= step for due in schedule):
                        _save_checkpoint(network, checkpoints, step)
                    if metrics["mean_return"] is not None and metrics["mean_return"] > best:
                        best = metrics["mean_return"]
                        _save_checkpoint(network, best_folder, step)
                        for path in best_folder.glob("*.safetensors*"):
                            if int(path.name.split(".")[0]) != step:
                                path.unlink()
                for callback in callbacks:
                    callback(step, network, row)
                if now - saved > SAVE_EVERY:
                    save_state()
                    saved = now
                bar.update(steps_per_update)
                bar.set_postfix(mean_return=metrics["mean_return"], refresh=False)
            save_state()
        except KeyboardInterrupt:
            save_state()
            raise
        finally:
            bar.close()
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


@contextmanager
def _held(run_dir: Path) -> Iterator[None]:
    """Keep other processes out of a folder, made if missing; the lock dies with its process."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is training in {run_dir}: stop it, or choose another folder"
            ) from None
        yield


@contextmanager
def _undivided() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block; other threads are never interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = []
    usual = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of a run's file that it is damaged, whatever it is that cannot be understood."""
    try:
        yield
    except Exception as error:
        if getattr(error, "filename", None):  # it cannot be opened, and the error names it
            raise
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}): remove {path.parent} to start anew"
        ) from error


def _check_facts(run_dir: Path, facts: dict) -> None:
    """Compare a run with the one that the folder holds, if any."""
    path = run_dir / "settings.json"
    if not path.exists():
        if left := sorted({file.name for file in run_dir.iterdir()} & set(PARTS)):
            raise ValueError(
                f"{run_dir} holds {', '.join(left)} but no {path.name}: remove the folder to start "
                "anew"
            )
        return
    with _reading(path):
        there = dict(json.loads(path.read_text()))
    for key, entry in json.loads(json.dumps(facts)).items():
        if there.get(key) != entry:
            raise ValueError(
                f"{run_dir} holds a run with {key} = {there.get(key)}, asked for {entry}; "
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
    with _reading(path):
        lines = path.read_text().splitlines(keepends=True)
        header, *rows = [line for line in lines if line.endswith("\n")]
        column = header.strip().split(",").index("step")
        kept = [row for row in rows if int(row.split(",")[column]) <= step]
    _write(path, lambda part: part.write_text("".join([header, *kept])))
