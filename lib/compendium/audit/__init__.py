"""Audit any agent: what it scores, attends to, answers, by which shortcuts, and which map to trust.

One unit of work is one game, one set of scores, or the patches that fell under suspicion. Finished
units are kept in `parts/`, so that an interrupted audit goes on. The page and its JSON appear last.
"""

import hashlib
import json
import math
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from atarilens import games, measures, paths, play
from atarilens.agents import Agent
from atarilens.games.emulators import STICKINESS
from atarilens.views.files import rounded
from compendium.audit import answers, moments, page, patches, statements

CUT = 12_000  # emulator frames after which a game that is scored ends: 200 s of play
CUT_OF_PATCHES = 6_000
CHECKED = 40  # moments of a game at which a suspect patch is swapped
SEEDS_OF_PATCHES = 4
PARTS = "parts"


def audit(
    agent: Agent,
    out: Path | None = None,
    *,
    loaded_as: str = "",
    episodes: int = 8,
    recorded: int = 6,
    steps: int = 800,
    decisions: int = 16,
    progress: bool = True,
) -> Path:
    """Measure an agent and write one page about it, with its numbers and replays beside it.

    Units go through `joblib.Parallel`; inside of `joblib.parallel_config` they go to that backend.

    Args:
        agent: any agent; in games without a table of objects and changes, less can be asked.
        out: folder of the page; default `build/audit-<agent>`.
        loaded_as: Python that loads the agent again, for the page.
        episodes: games per way of playing, for the scores.
        recorded: games that are kept as replays and measured; two at least.
        steps: agent steps of each of them, at most.
        decisions: that are measured in each of them.
        progress: show a bar.

    Returns:
        The path of the page.

    Raises:
        ValueError: if fewer than two games are recorded.
    """
    if recorded < 2:
        raise ValueError(f"recorded is {recorded}, expected 2 or more: patches are checked anew")
    out = out or paths.BUILD / f"audit-{agent.name}"
    digest = _digest(agent, episodes, recorded, steps, decisions)
    work: dict[str, tuple] = {
        f"game-{seed}": (
            moments.measure_game,
            agent,
            seed,
            steps,
            decisions,
            out / f"game-{seed}.npz",
        )
        for seed in range(recorded)
    }
    work |= {name: (_scores, agent, name, episodes) for name in ("sampled", "greedy", "sticky")}
    files = {name: out / PARTS / f"{name}--{digest}.json" for name in (*work, "suspects")}
    _forget_others(out / PARTS, set(files.values()))
    with tqdm(total=len(files), desc=f"audit of {agent.name}", disable=not progress) as bar:
        missing = [name for name in work if not files[name].is_file()]
        bar.update(len(work) - len(missing))
        jobs = (joblib.delayed(_measure)(files[name], *work[name]) for name in missing)
        for _ in joblib.Parallel(return_as="generator_unordered", pre_dispatch="n_jobs")(jobs):
            bar.update(1)
        parts = {name: json.loads(files[name].read_text()) for name in work}
        found = [parts[f"game-{seed}"] for seed in range(recorded)]
        if not files["suspects"].is_file():
            _measure(files["suspects"], _suspects, agent, found, out)
        suspects = json.loads(files["suspects"].read_text())
        bar.update(1)
    scores = {name: parts[name] for name in ("sampled", "greedy", "sticky")}
    again = f'audit.moments.measure_game(agent, 0, {steps}, {decisions}, Path("again.npz"))'
    said = [
        *statements.about_scores(scores, agent.game, agent.network.q_values),
        *statements.about_attention(found, agent.game, again),
        *(statements.about_answers(found, agent.game) if "changes" in found[0] else ()),
        *statements.about_shortcuts(found, scores, suspects, agent.game, again),
        *(statements.about_maps(found, list(moments.MAPS), again) if "objects" in found[0] else ()),
    ]
    facts = facts_of(agent, found, loaded_as)
    content = {"facts": facts, "short": dict(statements.in_short(said))}
    content["statements"] = [asdict(each) for each in said]
    text = json.dumps(rounded(content), indent=1, ensure_ascii=False, allow_nan=False)
    for path, words in (
        (out / "audit.json", text + "\n"),
        (out / "audit.html", page.write(facts, said, found, suspects, out)),
    ):
        with paths.whole_file(path) as beside:
            beside.write_text(words, encoding="utf-8")
    return out / "audit.html"


def facts_of(agent: Agent, found: list[dict], loaded_as: str) -> dict:
    """Return who was audited, in what, with what: plain data."""
    record = games.game(agent.game)
    network = agent.network.architecture or type(agent.network).__name__
    fixed = not isinstance(agent.settings.frame_skip, int)
    return {
        "agent": agent.name,
        "title": record.title,
        "game": agent.game,
        "network": agent.facts.get("architecture") or network,
        "sha256": _sha256(agent),
        "preprocessing": agent.preprocessing.name,
        "region": list(agent.region),
        "settings": agent.settings.as_dict(),
        "q_values": agent.network.q_values,
        "has_objects": record.boxes is not None,
        "has_changes": bool(record.changes),
        "fixed_skip": fixed,
        "loaded_as": loaded_as or f'load_agent("{agent.name}")',
        "replays": {f"game-{part['seed']}.npz": part["sha256"] for part in found},
        "made_with": {name: version(name) for name in ("ale-py", "torch", "numpy")}
        | {"python": platform.python_version()},
    }


def _sha256(agent: Agent) -> str:
    """Return the sha256 of the agent's file, or of its parameters if it has none."""
    if agent.facts.get("sha256"):
        return agent.facts["sha256"]
    digest = hashlib.sha256()
    for name, value in sorted(agent.network.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()


def _digest(agent: Agent, *numbers: int) -> str:
    """Name what the parts depend on: the agent, its settings, the numbers, and what measures."""
    code = [Path(module.__file__).read_text() for module in (moments, answers, patches)]
    constants = [CUT, CUT_OF_PATCHES, CHECKED, SEEDS_OF_PATCHES]
    facts = [_sha256(agent), agent.settings.as_dict(), agent.preprocessing.name, numbers]
    text = json.dumps([*facts, constants, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _forget_others(folder: Path, kept: set[Path]) -> None:
    """Remove parts of other settings: nobody reads them again."""
    for path in folder.glob("*.json") if folder.is_dir() else ():
        if path not in kept:
            path.unlink()


def _measure(path: Path, work: Callable, *arguments) -> None:
    """Do one unit of work, and write what it gives: one unit for joblib."""
    with paths.whole_file(path) as beside:
        beside.write_text(json.dumps(_plain(work(*arguments))), encoding="utf-8")


def _plain(value):
    """Turn what is not a finite number into None, which JSON holds."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scores(agent: Agent, name: str, episodes: int) -> dict:
    """Play whole games in one of the three ways."""
    frames = min(agent.settings.max_frames, CUT)
    settings = replace(agent.settings, max_frames=frames)
    if name == "sticky":
        settings = replace(settings, repeat_action_probability=STICKINESS)
    greedy = True if name == "greedy" else None
    found = play.evaluate(agent, episodes, 0, greedy, settings)
    return {
        "frames": frames,
        "returns": found.returns.tolist(),
        "lengths": found.lengths.tolist(),
        "truncated": found.truncated.tolist(),
    }


def _suspects(agent: Agent, found: list[dict], out: Path) -> list[dict]:
    """Check the patches that every second game put under suspicion, in the other games."""
    result = []
    boxes = patches.suspects(agent, [part["patches"] for part in found[::2]])
    trajectories = [
        play.replay(out / f"game-{part['seed']}.npz", agent)
        for part in (found[1::2] if boxes else ())
    ]
    for box in boxes:
        beside = patches.beside(box, agent.region)
        asked = {
            place: [
                patches.question(
                    agent, each, measures.spread_steps(each.episode, CHECKED)[1:], place
                )
                for each in trajectories
            ]
            for place in (box, beside)
        }
        entry = {
            "box": box,
            "games": asked[box],
            "beside": {"box": beside, "games": asked[beside]},
        }
        followed = [each["followed"] for each in asked[box] if each["followed"] is not None]
        if followed and np.mean(followed) > statements.SHARE:
            settings = replace(agent.settings, max_frames=CUT_OF_PATCHES)
            seeds = range(SEEDS_OF_PATCHES)
            entry["scores"] = patches.paint_to_play(agent, box, seeds, settings)
            usual = play.evaluate(agent, len(seeds), 0, settings=settings)
            entry["scores"]["usual"] = usual.returns.tolist()
        result.append(entry)
    return result
