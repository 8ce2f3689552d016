"""One episode, with a cache of the maps that were computed for it."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from atarilens.agents import Agent, load_agent
from atarilens.apps.activations import Activations, activations_of
from atarilens.apps.explorer.decision import (
    Explanation,
    Knobs,
    Probe,
    explain,
    gain_steps,
    probe,
    saliency_of,
)
from atarilens.play.inference import seen_by
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import SaliencyMaps
from atarilens.saliency.calling import one_torch_thread
from atarilens.views import common_gain

KEPT = 8  # combinations of onlooker and knobs whose maps are kept


class Exploration:
    """One episode, and the maps of any agent on its screens; maps are computed once.

    An onlooker is an agent whose network runs over the screens: the player, or another agent with
    a memory of its own.

    Args:
        player: the agent that played it.
        trajectory: the episode, with the player's observations and memory.
        own: name -> agent, for onlookers that are not in `list_agents()`.
    """

    def __init__(self, player: Agent, trajectory: Trajectory, own: dict[str, Agent] | None = None):
        self.player, self.trajectory, self._own = player, trajectory, own or {}
        self._seen = {player.name: (player, trajectory)}
        self._known: OrderedDict[tuple, dict] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.trajectory)

    def seen_by(self, name: str) -> tuple[Agent, Trajectory]:
        """Return an onlooker by name, and the episode with its observations, memory and outputs."""
        if name not in self._seen:
            agent = self._own.get(name) or load_agent(name)
            with one_torch_thread():
                self._seen[name] = agent, seen_by(self.trajectory, agent)
        return self._seen[name]

    def _entry(self, name: str, knobs: Knobs) -> dict:
        """Return the cached results of an onlooker and knobs; drop the oldest combination."""
        key = name, *knobs.map_key
        entry = self._known.setdefault(key, {"maps": {}, "attention": {}, "gain": None})
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return entry

    def maps(self, name: str, step: int, knobs: Knobs) -> SaliencyMaps:
        """Return an onlooker's maps of one step."""
        known = self._entry(name, knobs)["maps"]
        if step not in known:
            agent, seen = self.seen_by(name)
            known[step] = saliency_of(agent, seen.observations[step], seen.memory[step], knobs)
        return known[step]

    def gain(self, name: str, knobs: Knobs) -> tuple[float, float]:
        """Return the gain (actor, critic) of the episode: grey levels per unit of saliency."""
        knobs = replace(knobs, repeats=1)  # repeats change the brightness little, and take time
        entry = self._entry(name, knobs)
        if entry["gain"] is None:
            steps = gain_steps(len(self))
            entry["gain"] = common_gain([self.maps(name, int(step), knobs) for step in steps])
        return entry["gain"]

    def explain(self, name: str, step: int, knobs: Knobs) -> Explanation:
        """Explain one step with an onlooker's network."""
        agent, seen = self.seen_by(name)
        gain, maps = self.gain(name, knobs), self.maps(name, step, knobs)
        explanation = explain(agent, seen, step, knobs, gain=gain, maps=maps)
        self._entry(name, knobs)["attention"][step, knobs.heads == "critic"] = explanation.attention
        return explanation

    def activations(self, name: str, step: int) -> Activations:
        """Return what is inside an onlooker's network at one step."""
        agent, seen = self.seen_by(name)
        return activations_of(agent.network, seen.observations[step], seen.memory[step])

    def probe(self, name: str, step: int, centre: tuple[int, int], knobs: Knobs) -> Probe:
        """Perturb an onlooker's observation around one pixel."""
        agent, seen = self.seen_by(name)
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
        """Return a step whose attention is unknown, coarse before fine; None if all are known.

        Args:
            name: of the onlooker.
            knobs: settings of the maps.
            resolution: steps between two points of the curve.
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
