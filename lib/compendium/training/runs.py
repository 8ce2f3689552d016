"""A run of training: a folder from which any learner goes on after it was killed.

The folder holds `settings.json` (what the run is), `curve.csv` (one row per update),
`checkpoints/<step>.safetensors` (float16, on a geometric schedule from the untrained network on),
`best/<step>.safetensors` (of the highest running mean return so far, one file) and `state.pt` (all
that is needed to go on; tensors and numbers only). Its `lock` is held by the process that trains.
"""

import csv
import fcntl
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from atarilens.paths import whole_file
from compendium.training.learner import AnotherDeviceError, Learner
from compendium.training.settings import defaults

FIRST_CHECKPOINT = 31_250  # agent steps; then every doubling, and the end
SAVE_EVERY = 60.0  # seconds between saves of the state; an update of evolution takes 40 more
PARTS = ("curve.csv", "checkpoints", "best", "state.pt")  # of a run, beside its settings


Callback = Callable[[int, nn.Module, dict], None]  # step, network, metrics of the update


def checkpoint_steps(total_steps: int, every: int = 0) -> list[int]:
    """Return the declared schedule, in agent steps, from 0 to the end.

    Between them it has 31,250 and every doubling, or with `every` each multiple of it.
    """
    if every:
        return [*range(0, total_steps, every), total_steps]
    steps, step = [0], FIRST_CHECKPOINT
    while step < total_steps:
        steps.append(step)
        step *= 2
    return [*steps, total_steps]


def drive(
    run_dir: str | Path,
    facts: dict,
    learner: Learner,
    *,
    checkpoint_every: int = 0,
    max_seconds: float = float("inf"),
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> Path:
    """Train a learner, or go on with the run that the folder holds.

    Ctrl-C takes effect after the update that is under way, and its state is saved.

    Args:
        run_dir: made if missing; a state in it is resumed. Without one, curve and checkpoints that
            are there are removed, and the run starts anew.
        facts: what the run is; must equal those of the run that is resumed. Settings are
            dataclasses; one that the resumed run did not know counts as its default there.
            "game" names the bar.
        learner: as the run starts from it.
        checkpoint_every: agent steps between checkpoints; 0 for `checkpoint_steps`.
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
    step, seconds, cpu_seconds, episodes, best = 0, 0.0, 0.0, 0, -math.inf
    metrics = {"episodes": 0}

    def save_state():
        state = learner.state_dict() | {
            "step": step,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "episodes": episodes + metrics["episodes"],
            "best": best,
        }
        with whole_file(state_path) as path:
            torch.save(state, path)

    with _held(run_dir):
        _check_facts(run_dir, facts)
        if state_path.exists():
            with _reading(state_path):
                state = torch.load(state_path, weights_only=True, map_location="cpu")
                learner.load_state_dict(state)
                step, seconds, episodes = state["step"], state["seconds"], state["episodes"]
                cpu_seconds, best = state.get("cpu_seconds", 0.0), state.get("best", best)
        learner.start(step)
        for path in run_dir.rglob(".*.part"):  # of a process that was killed while it wrote
            path.unlink()
        if step:
            _forget_rows_after(curve, step)
        else:
            curve.unlink(missing_ok=True)
            for folder in (checkpoints, best_folder):
                folder.mkdir(exist_ok=True)
                for path in folder.glob("*.safetensors"):
                    path.unlink()
            with whole_file(run_dir / "settings.json") as path:
                path.write_text(json.dumps(_plain(facts), indent=1))
            _save_checkpoint(learner.network, checkpoints, 0)
            save_state()
        total_steps = learner.total_steps
        schedule = checkpoint_steps(total_steps, checkpoint_every)
        began = saved = last = time.monotonic()
        last_cpu = time.process_time()
        bar = tqdm(
            total=total_steps, initial=step, unit="step", disable=not progress, desc=facts["game"]
        )
        try:
            while step < total_steps and time.monotonic() - began < max_seconds:
                with _undivided():
                    metrics = learner.update(step)
                    previous, step = step, step + learner.steps_per_update
                    now, cpu = time.monotonic(), time.process_time()
                    seconds, last = seconds + now - last, now
                    cpu_seconds, last_cpu = cpu_seconds + cpu - last_cpu, cpu
                    row = {"step": step, "hours": seconds / 3600} | metrics
                    row |= {"cpu_hours": cpu_seconds / 3600}
                    row["episodes"] += episodes
                    _append_row(curve, row)
                    if any(previous < due <= step for due in schedule):
                        _save_checkpoint(learner.network, checkpoints, step)
                    if metrics["mean_return"] is not None and metrics["mean_return"] > best:
                        best = metrics["mean_return"]
                        _save_checkpoint(learner.network, best_folder, step)
                        for path in best_folder.glob("*.safetensors"):
                            if int(path.stem) != step:
                                path.unlink()
                for callback in callbacks:
                    callback(step, learner.network, row)
                if now - saved > SAVE_EVERY:
                    save_state()
                    saved = now
                bar.update(learner.steps_per_update)
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


def _save_checkpoint(network: nn.Module, folder: Path, step: int) -> None:
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(folder / f"{step:09d}.safetensors") as path:
        save_file(weights, path)


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
    """Turn every error in reading a run's file into one that says that the file is damaged."""
    try:
        yield
    except AnotherDeviceError as error:
        raise ValueError(f"{path} {error}") from None
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
    for key, entry in _plain(facts).items():
        was = there.get(key)
        if is_dataclass(facts[key]) and isinstance(was, dict):
            default = _plain({key: defaults(facts[key])})[key]
            was, entry = default | was, default | entry
            names = [name for name in {**was, **entry} if was.get(name) != entry.get(name)]
            for name in names[:1]:
                _refuse(run_dir, f"{key} {name}", was.get(name), entry.get(name))
        elif was != entry:
            _refuse(run_dir, key, was, entry)


def _refuse(run_dir: Path, name: str, there, asked) -> None:
    raise ValueError(
        f"{run_dir} holds a run with {name} = {there}, asked for {asked}; "
        "choose another folder or the same settings"
    )


def _plain(facts: dict) -> dict:
    """Return facts as JSON holds them; a run may become longer, so `total_steps` is left out."""
    plain = {
        key: x.as_dict() if hasattr(x, "as_dict") else asdict(x) if is_dataclass(x) else x
        for key, x in facts.items()
    }
    for entry in plain.values():
        if isinstance(entry, dict):
            entry.pop("total_steps", None)
    return json.loads(json.dumps(plain))


def _append_row(path: Path, row: dict) -> None:
    """Append one row to a CSV file; a new file gets a header, an old one keeps its columns."""
    names = list(row)
    if old := path.exists():
        with path.open(newline="") as file:
            names = next(csv.reader(file))
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        if not old:
            writer.writeheader()
        writer.writerow({key: f"{x:.6g}" if isinstance(x, float) else x for key, x in row.items()})


def _forget_rows_after(path: Path, step: int) -> None:
    """Drop the rows of updates after the saved state: these updates are made again."""
    if not path.exists():
        return
    with _reading(path):
        lines = path.read_text().splitlines(keepends=True)
        header, *rows = [line for line in lines if line.endswith("\n")]
        column = header.strip().split(",").index("step")
        kept = [row for row in rows if int(row.split(",")[column]) <= step]
    with whole_file(path) as part:
        part.write_text("".join([header, *kept]))
