"""Does a map notice random weights, and not notice what nobody would see? And what does it cost?

A row holds how alike the map of a moment and another map are: that of the network with some layers
randomised, of a screen with noise of one grey level, of a screen that is shifted by a pixel, or of
another moment. One episode of an agent is one part, kept in `build/sanity`.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from atarilens import measures, rollout, saliency
from atarilens.agents import initialise
from compendium.tables import faithfulness, parts

TABLE = "sanity"
EPISODES, FIRST_SEED = 12, 740  # per agent; no other data use these seeds
STEPS = 400  # of each episode, from its first screen on
FRESH = 2  # seed of the random weights; our agents' training started from those of seed 1
NOISY = 3  # screens with noise
KEYS = ("agent", "seed", "step", "method", "head", "test", "layer")
MEASURES = ("spearman", "ssim", "hog")  # of `measures.map_similarity`
HEADS = ("actor", "critic")


def columns() -> list[str]:
    """Return the names of the table's columns.

    `test` is "cascading" (`layer` and all layers above it are random), "independent" (`layer` alone
    is), "noise", "shift" or "other moment". A similarity is empty if the map itself is constant, 0
    if only the other one is. `seconds` is the processor time of one map of both heads; the first
    map of a run may hold the compilation of the fast path.
    """
    return [*KEYS, *MEASURES, "seconds"]


def sanity_table(
    agents: Sequence[str] = faithfulness.AGENTS,
    *,
    episodes: int = EPISODES,
    folder: Path | None = None,
    table: Path | None = None,
    progress: bool = True,
) -> Path:
    """Check all methods and controls; arguments as for `faithfulness_table`."""
    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    facts = [STEPS, FRESH, NOISY, faithfulness.METHODS]
    wanted = faithfulness.episode_parts(agents, seeds, facts)
    options = {"folder": folder, "table": table, "progress": progress}
    return parts.measure_table(TABLE, sanity_rows, wanted, columns(), **options)


def sanity_rows(name: str, seed: int) -> Iterator[dict]:
    """Yield the rows of one moment of an episode, all methods."""
    agent = faithfulness.single_screen_agent(name)
    trajectory = rollout(agent, seed, STEPS)
    steps = measures.spread_steps(trajectory.episode[trajectory.episode == 0], 2)
    observations, memories = trajectory.decision(steps)
    actions = trajectory.action_logits[steps].argmax(1)
    for method in faithfulness.METHODS:
        check = _Check(method, agent.network, memories[:1], actions[0])
        began = time.process_time()
        own = check.explain(agent.network, observations[:1])[0]
        seconds = time.process_time() - began
        other = _Check(method, agent.network, memories[1:], actions[1])
        found = check.randomised(observations[:1], own) | check.shaken(observations[0])
        found["other moment", ""] = _alike(own, other.explain(agent.network, observations[1:])[0])
        for (test, layer), heads in found.items():
            for head, numbers in zip(HEADS, heads, strict=True):
                if numbers:
                    keys = (name, seed, int(steps[0]), method, head, test, layer)
                    yield dict(zip(KEYS, keys, strict=True)) | numbers | {"seconds": seconds}


class _Check:
    """One method at one decision: its memory and action stay what they were."""

    def __init__(self, method: str, network, memory: np.ndarray, action: int):
        self.method, self.network, self.memory, self.action = method, network, memory, action

    def explain(self, network, observations: np.ndarray) -> list[tuple]:
        """Return (actor's map, critic's map or None) of each observation `[n, C, H, W]`."""
        entering = np.repeat(self.memory, len(observations), 0)
        action = None
        if saliency.METHODS[self.method].explains == "action":
            action = np.repeat(self.action, len(observations))
        options = faithfulness.METHODS[self.method]
        maps = saliency.saliency_maps(
            self.method, network, observations, entering, action=action, **options
        )
        critics = [None] * len(observations) if maps.critic is None else maps.critic
        return list(zip(maps.actor, critics, strict=True))

    def randomised(self, observations: np.ndarray, own: tuple) -> dict[tuple[str, str], list[dict]]:
        """Return (test, layer) -> how alike each head's map is, for both orders of randomising."""
        fresh = initialise(copy.deepcopy(self.network), FRESH)
        layers = measures.weight_layers(self.network)
        heads = [name for name in layers if name.endswith("_linear")]
        steps = [heads, *([name] for name in layers if name not in heads)]
        before, found = [], {}
        for layer in steps:
            before = [*before, *layer]
            name = "heads" if layer is heads else layer[0]
            for test, drawn in (("cascading", before), ("independent", layer)):
                if test == "independent" and layer is heads:
                    found[test, name] = found["cascading", name]
                    continue
                network = measures.randomised(self.network, fresh, drawn)
                found[test, name] = _alike(own, self.explain(network, observations)[0])
        return found

    def shaken(self, observation: np.ndarray) -> dict[tuple[str, str], list[dict]]:
        """Return ("noise" or "shift", "") -> the mean rank correlation of each head's maps."""
        maps: list = []

        def explain(observations, head):
            if not maps:  # the screens are the same for both heads
                maps.extend(self.explain(self.network, observations))
            return np.stack([pair[head] for pair in maps])

        found: dict = {("noise", ""): [{}, {}], ("shift", ""): [{}, {}]}
        for head in range(len(HEADS)):
            if not maps or maps[0][head] is not None:
                explain_head = partial(explain, head=head)
                values = measures.stability(explain_head, observation, repeats=NOISY)
                for test, each in values.items():
                    found[test, ""][head] = {"spearman": float(each.mean())}
        return found


def _alike(own: tuple, other: tuple) -> list[dict]:
    """Compare two moments' maps head by head; {} if the method has none for a head."""
    found = []
    for a, b in zip(own, other, strict=True):
        if a is None:
            found.append({})
            continue
        alike = measures.map_similarity(a, b, either_sign=False)
        gone = np.ptp(a) > 0 and np.ptp(b) == 0  # nothing is left of a map that was there
        found.append(dict.fromkeys(MEASURES, 0.0) if gone else alike)
    return found
