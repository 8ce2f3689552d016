"""An episode that is being explored, and everything that was computed about it so far."""

from collections import OrderedDict

import numpy as np

from atarilens.agents import Agent, load_agent
from atarilens.apps.explorer.decision import (
    Explanation,
    Knobs,
    Probe,
    explain,
    gain_steps,
    probe,
    saliency_of,
)
from atarilens.play.inference import watch
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import SaliencyMaps
from atarilens.saliency.calling import one_torch_thread
from atarilens.views import common_gain

KEPT = 4  # combinations of watcher and knobs whose maps are kept


class Exploration:
    """One episode, and what any agent attends to in it; nothing is computed twice.

    Args:
        player: who played it.
        trajectory: the episode, with the player's observations and memory.
        own: name -> agents that look on besides those of `list_agents()`.
    """

    def __init__(self, player: Agent, trajectory: Trajectory, own: dict[str, Agent] | None = None):
        self.player, self.trajectory, self._own = player, trajectory, own or {}
        self._watchers = {player.name: (player, trajectory)}
        self._known: OrderedDict[tuple, dict] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.trajectory)

    def watcher(self, name: str) -> tuple[Agent, Trajectory]:
        """Return an agent by name, and the episode as it sees it."""
        if name not in self._watchers:
            agent = self._own.get(name) or load_agent(name)
            with one_torch_thread():
                self._watchers[name] = agent, watch(self.trajectory, agent)
        return self._watchers[name]

    def _entry(self, name: str, knobs: Knobs) -> dict:
        """Return what is known for a watcher and knobs; the oldest combination is forgotten."""
        key = name, *knobs.map_key
        entry = self._known.setdefault(key, {"maps": {}, "attention": {}, "gain": None})
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return entry

    def maps(self, name: str, step: int, knobs: Knobs) -> SaliencyMaps:
        """Return the maps of one step as an agent sees it."""
        known = self._entry(name, knobs)["maps"]
        if step not in known:
            agent, seen = self.watcher(name)
            known[step] = saliency_of(agent, seen.observations[step], seen.memory[step], knobs)
        return known[step]

    def gain(self, name: str, knobs: Knobs) -> tuple[float, float]:
        """Return the gain (actor, critic) of the episode: grey levels per unit of saliency."""
        entry = self._entry(name, knobs)
        if entry["gain"] is None:
            steps = gain_steps(len(self))
            entry["gain"] = common_gain([self.maps(name, int(step), knobs) for step in steps])
        return entry["gain"]

    def explain(self, name: str, step: int, knobs: Knobs) -> Explanation:
        """Explain one step as an agent sees it."""
        agent, seen = self.watcher(name)
        gain, maps = self.gain(name, knobs), self.maps(name, step, knobs)
        explanation = explain(agent, seen, step, knobs, gain=gain, maps=maps)
        self._entry(name, knobs)["attention"][step, knobs.heads == "critic"] = explanation.attention
        return explanation

    def probe(self, name: str, step: int, centre: tuple[int, int], knobs: Knobs) -> Probe:
        """Perturb one pixel of what an agent sees."""
        agent, seen = self.watcher(name)
        return probe(agent, seen, step, centre, knobs.radius)

    def attention(self, name: str, knobs: Knobs) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the steps `[n]` whose attention is known, and object -> `[n]`, NaN if absent."""
        critic = knobs.heads == "critic"
        entry = self._entry(name, knobs)["attention"]
        steps = sorted(step for step, of_critic in entry if of_critic == critic)
        kinds = entry[steps[0], critic] if steps else ()
        curves = {kind: np.array([entry[t, critic][kind] for t in steps]) for kind in kinds}
        return np.array(steps, int), curves

    def next_unknown(self, name: str, knobs: Knobs, resolution: int = 1) -> int | None:
        """Return a step whose attention is not known, coarse before fine; None where all is.

        Args:
            name: of the watcher.
            knobs: how.
            resolution: every so many steps is enough.
        """
        known = self._entry(name, knobs)["attention"]
        critic = knobs.heads == "critic"
        for spacing in (32, 16, 8, 4, 2, 1):
            if spacing < resolution:
                break
            for step in range(0, len(self), spacing):
                if (step, critic) not in known:
                    return step
        return None
