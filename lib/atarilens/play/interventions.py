"""Change the game, and not the picture: what does the agent decide then?

A saliency map says that a spot matters. Here the same decision is taken twice: in the game as it
was, and in the game with one object moved, removed or repainted for the last frames before the
decision, with the same actions until then and the same memory. The branch without change must be
the trajectory, bit for bit; a change that did not hold is skipped and never approximated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from atarilens.agents import Agent
from atarilens.games.emulators import make_env
from atarilens.games.hints import draw_hint
from atarilens.games.interventions import (
    Brancher,
    Course,
    Named,
    held,
    outside,
    parse,
    places,
    why_not,
)
from atarilens.games.objects import has_objects, object_boxes
from atarilens.play.inference import Stream, run_network
from atarilens.play.rollouts import draw_action
from atarilens.play.trajectories import Trajectory

UNCHANGED = "unchanged"
REPEATED = 3  # agent steps over which a sticky action may last: 0.25 ** 12
SAME_LOGITS = 1e-3  # of the agent whose memory the trajectory holds, up to rounding
Player = Callable[[np.ndarray, np.random.Generator | None], int]


@dataclass(frozen=True)
class Future:
    """What n branches played after the decision, in H steps at most.

    Attributes:
        actions: `[n, H]` int64; -1 after the end of the game.
        rewards: `[n, H]` float64; 0 after the end of the game.
        over: `[n]` bool: the game ended.
        ram: `[n, H, 128]` uint8 after each action; zeros after the end.
        screens: `[n, H, 210, 160, 3]` uint8 after each action, or None if nobody asked for them.
    """

    actions: np.ndarray
    rewards: np.ndarray
    over: np.ndarray
    ram: np.ndarray
    screens: np.ndarray | None


@dataclass(frozen=True)
class Branches:
    """One decision in n versions of its game; the first one is the original.

    Attributes:
        t: step of the trajectory.
        names: n: "unchanged", then the changes that held, as they were spelt.
        screens: `[n, 210, 160, 3]` uint8.
        ram: `[n, 128]` uint8.
        observations: `[n, C, H, W]` float32.
        action_logits: `[n, A]` float32.
        values: `[n]` float32, or None.
        boxes: n times object -> `[m, 4]`, in px of the screen.
        changed_px: `[n]` int, pixels that differ from the original's on the first screen after the
            change (the screen of step t, if there is no history).
        outside_px: `[n]` int, those of them that lie outside of the old and the new boxes of the
            object; 0, as any other change is skipped.
        reward_difference: `[n]`, points that the change itself made.
        skipped: name -> why this change could not be made at this step, or did not hold.
        named: n - 1 parsed changes, in the order of names[1:].
        action_meanings: A names.
        future: if there is a horizon.
    """

    t: int
    names: list[str]
    screens: np.ndarray
    ram: np.ndarray
    observations: np.ndarray
    action_logits: np.ndarray
    values: np.ndarray | None
    boxes: list[dict[str, np.ndarray]]
    changed_px: np.ndarray
    outside_px: np.ndarray
    reward_difference: np.ndarray
    skipped: dict[str, str]
    named: list[Named]
    action_meanings: list[str]
    future: Future | None = None


def intervene(
    trajectory: Trajectory,
    agent: Agent,
    steps: Sequence[int],
    changes: Sequence[str],
    *,
    history: int = 0,
    horizon: int = 0,
    player: Player | None = None,
    film: bool = False,
) -> list[Branches]:
    """Let an agent decide in a changed game.

    The game is played again up to each step. Hints, if there are any, stay those of the original.

    Args:
        trajectory: from the first screen of an episode on, with a fixed frame skip.
        agent: whose memory the trajectory holds: the one that played, or that watched.
        steps: of the trajectory, in any order; not the first of an episode.
        changes: names in the game's table of changes, such as `ball_y-8` (px; right and down are
            positive), `brick_gone:2,7` (row, column), `alien_gone:target` (the one that is hit
            next), `null`.
        history: make the change so many steps earlier. The actions until `steps` stay those of the
            original; the agent sees the changed screens, and its memory is its own.
        horizon: after the decision, let the agent play on for so many steps as it did in the
            trajectory: greedily, or drawing with the same random numbers in each branch.
        player: who plays on in place of the agent: `(ram [128], generator) -> action`.
        film: keep the screens of the horizon.

    Returns:
        One `Branches` per step, in the order of `steps`.

    Raises:
        ValueError: for an unknown change, a step out of range, another agent's trajectory, or a
            game that does not come out as it was recorded.
    """
    settings = trajectory.settings
    if agent.game != settings.game:
        raise ValueError(f"agent {agent.name!r} plays {agent.game}, the trajectory {settings.game}")
    if not isinstance(settings.frame_skip, int):
        raise ValueError(f"a fixed frame skip is needed, the trajectory has {settings.frame_skip}")
    if history < 0 or horizon < 0:
        raise ValueError(f"history and horizon are 0 or more, received {history} and {horizon}")
    asked = [parse(name, settings.game) for name in dict.fromkeys(changes)]
    steps = [int(t) for t in steps]
    for t in steps:
        if not 0 <= t < len(trajectory):
            raise ValueError(f"step is {t}, expected 0 to {len(trajectory) - 1}")
        if t <= history or trajectory.episode[t - history - 1] != trajectory.episode[t]:
            raise ValueError(f"the episode of step {t} is too young for a change {history} earlier")
    brancher, found = Brancher(settings), {}
    for first, state in _states(trajectory, sorted({t - history - 1 for t in steps})):
        t = first + history + 1
        moment = _Moment(trajectory, agent, brancher, first, t, state)
        found[t] = moment.decide(asked, horizon, player, film)
    return [found[t] for t in steps]


def _states(trajectory: Trajectory, firsts: list[int]):
    """Play the trajectory again; yield each given step with the emulator's state before it."""
    env = make_env(replace(trajectory.settings, hint="none"))
    origin, episode = trajectory.origin, None
    last = {int(trajectory.episode[t]): t for t in firsts}  # of each episode that is needed
    wanted = set(firsts)
    for t in range(max(firsts, default=-1) + 1):
        if t > last.get(int(trajectory.episode[t]), -1):
            continue
        if trajectory.episode[t] != episode:
            episode = int(trajectory.episode[t])
            options = {"noops": origin["noops"][episode]}
            screen, info = env.reset(seed=origin["seed"] + episode, options=options)
        _require_same(trajectory, t, screen, info["ram"])
        if t in wanted:
            yield t, env.ale.cloneState(include_rng=True)
        screen, *_, info = env.step(int(trajectory.actions[t]))


def _require_same(trajectory: Trajectory, t: int, screen: np.ndarray, ram: np.ndarray) -> None:
    shown = _with_hint(trajectory, t, screen)
    if not (np.array_equal(shown, trajectory.frames[t]) and np.array_equal(ram, trajectory.ram[t])):
        raise ValueError(f"the game did not come out as it was recorded, at step {t}")


def _with_hint(trajectory: Trajectory, t: int, screen: np.ndarray) -> np.ndarray:
    if trajectory.hints is None:
        return screen
    return draw_hint(screen, int(trajectory.hints[t]), trajectory.action_logits.shape[1])


@dataclass
class _Branch:
    """One version of the game on its way."""

    name: str
    named: Named | None
    course: Course
    state: object
    changed_px: int = 0
    outside_px: int = 0


class _Moment:
    """All versions of one decision."""

    def __init__(self, trajectory, agent, brancher, first, t, state):
        self.trajectory, self.agent, self.brancher = trajectory, agent, brancher
        self.first, self.t, self.state = first, t, state
        self.settings, self.game = trajectory.settings, trajectory.settings.game
        self.skip = trajectory.settings.frame_skip
        played = trajectory.actions[first:t]
        self.actions = [int(action) for action in np.repeat(played, self.skip)]

    def decide(self, asked: list[Named], horizon: int, player, film: bool) -> Branches:
        """Make the branches, let the agent decide in each, and play on."""
        branches, skipped = self._branches(asked)
        streams = [self._stream(branch) for branch in branches]
        action_logits, values = run_network(streams)
        expected = self.trajectory.action_logits[self.t]
        if not np.allclose(action_logits[0], expected, atol=SAME_LOGITS, rtol=SAME_LOGITS):
            raise ValueError(
                f"agent {self.agent.name!r} does not decide as the trajectory says: "
                "use seen_by(trajectory, agent) first"
            )
        rams = [branch.course.rams[-1] for branch in branches]
        rewards = np.array([sum(branch.course.rewards) for branch in branches])
        known = has_objects(self.game)
        future = None
        if horizon:
            future = self._play_on(branches, streams, action_logits, horizon, player, film)
        return Branches(
            t=self.t,
            names=[branch.name for branch in branches],
            screens=np.stack([self._screen(branch.course, self.t) for branch in branches]),
            ram=np.stack(rams),
            observations=np.stack([stream.observation for stream in streams]),
            action_logits=action_logits,
            values=values,
            boxes=[object_boxes(self.game, ram) if known else {} for ram in rams],
            changed_px=np.array([branch.changed_px for branch in branches]),
            outside_px=np.array([branch.outside_px for branch in branches]),
            reward_difference=rewards - rewards[0],
            skipped=skipped,
            named=[branch.named for branch in branches[1:]],
            action_meanings=list(self.agent.action_meanings),
            future=future,
        )

    def _branches(self, asked: list[Named]) -> tuple[list[_Branch], dict[str, str]]:
        original, states = self._original()
        branches = [_Branch(UNCHANGED, None, original, self.brancher.state())]
        skipped, lasts = {}, {}
        for named in asked:
            resolved, reason = self._resolve(named, original)
            begin = self.skip - named.change.lead
            if not reason:
                if begin not in lasts:
                    lasts[begin] = self._last(original, states, begin)
                course = self.brancher.changed(
                    resolved, original, states[begin], self.actions, begin, lasts[begin]
                )
                branch = _Branch(named.name, resolved, course, self.brancher.state())
                reason = self._compare(original, branch)
            if reason:
                skipped[named.name] = reason
            else:
                branches.append(branch)
        return branches, skipped

    def _original(self) -> tuple[Course, list]:
        """Run the frames as they were played; return them, and the state before each frame."""
        for last in self._before():
            course = self.brancher.enter(self.state, last)
            states = [self.brancher.act(course, action) for action in self.actions]
            if all(self._is_original(course, t) for t in range(self.first + 1, self.t + 1)):
                return course, states
        raise ValueError(f"the branch without change is not the trajectory at step {self.t}")

    def _before(self) -> list[int]:
        """Return the actions that a sticky one may repeat in the first frame, the latest first."""
        played = self.trajectory.episode[: self.first] == self.trajectory.episode[self.first]
        actions = self.trajectory.actions[: self.first][played][: -REPEATED - 1 : -1]
        return list(dict.fromkeys([*map(int, actions), 0]))

    def _last(self, original: Course, states: list, begin: int) -> int:
        if begin:
            return self.brancher.last_action(original, states, self.actions, begin)
        return self._before()[0]

    def _is_original(self, original: Course, t: int) -> bool:
        ram = original.rams[(t - self.first) * self.skip]
        same = np.array_equal(ram, self.trajectory.ram[t])
        return same and np.array_equal(self._screen(original, t), self.trajectory.frames[t])

    def _resolve(self, named: Named, original: Course) -> tuple[Named, str]:
        """Name the unit, and check that the change can be made."""
        change, begin = named.change, self.skip - named.change.lead
        if begin < 0:
            return named, f"it needs a frame skip of {change.lead} or more"
        if isinstance(named.unit, str):
            if named.unit not in change.choose:
                known = ", ".join(change.choose) or "numbers"
                return named, f"{change.object}: none is called {named.unit!r}, but {known}"
            at = self.trajectory
            unit = change.choose[named.unit](at.ram, at.rewards, at.episode, self.first + 1)
            if unit is None:
                return named, f"{change.object}: none is the {named.unit} now"
            named = replace(named, unit=unit)
        return named, why_not(named, self.game, original, begin)

    def _compare(self, original: Course, branch: _Branch) -> str:
        """Return how a change failed to hold on the first screen after it; "" if it held."""
        named, course, end = branch.named, branch.course, self.skip
        if course.over:
            return "the game ends"
        if course.missed:
            return f"the console undoes it ({course.missed} off)"
        if reason := held(named, self.game, original.rams[end], course.rams[end]):
            return reason
        at = [course.screen(end, self.settings.max_pool) for course in (original, course)]
        changed = (at[0] != at[1]).any(-1)
        branch.changed_px = int(changed.sum())
        if named.change.kind == "null":
            return f"{branch.changed_px} px changed" if branch.changed_px else ""
        if not branch.changed_px:
            return "it does not show"
        rams = [*original.rams[end - 1 : end + 1], *course.rams[end - 1 : end + 1]]
        branch.outside_px = outside(changed, places(named, self.game, rams))
        if branch.outside_px:
            return f"{branch.outside_px} px changed elsewhere than on {named.change.object}"
        return ""

    def _screen(self, course: Course, t: int) -> np.ndarray:
        """Return what the agent is shown at step t of a branch."""
        screen = course.screen((t - self.first) * self.skip, self.settings.max_pool)
        return _with_hint(self.trajectory, t, screen)

    def _stream(self, branch: _Branch) -> Stream:
        """Show the screens of a branch to the agent, from the change on."""
        begin, stream = self.first + 1, Stream(self.agent)
        same_episode = np.flatnonzero(self.trajectory.episode == self.trajectory.episode[begin])
        earlier = np.arange(begin - self.agent.preprocessing.screens, begin)
        stream.remember(self.trajectory.frames[earlier.clip(same_episode[0])])
        stream.memory = self.trajectory.memory[begin]
        for t in range(begin, self.t + 1):
            stream.read(self._screen(branch.course, t), start=False)
            if t < self.t:
                run_network([stream])
        return stream

    def _play_on(self, branches, streams, action_logits, horizon, player, film) -> Future:
        """Let each branch go on by itself, all branches with the same random numbers."""
        count, origin = len(branches), self.trajectory.origin
        seeds = [origin["seed"], int(self.trajectory.episode[self.t]), self.t]
        future = Future(
            actions=np.full((count, horizon), -1),
            rewards=np.zeros((count, horizon)),
            over=np.zeros(count, bool),
            ram=np.zeros((count, horizon, 128), np.uint8),
            screens=np.zeros((count, horizon, 210, 160, 3), np.uint8) if film else None,
        )
        for i, (branch, stream) in enumerate(zip(branches, streams, strict=True)):
            generator = np.random.default_rng(seeds)
            drawn = None if origin["greedy"] else generator
            logits, ram = action_logits[i], branch.course.rams[-1]
            course = self.brancher.enter(branch.state, self.actions[-1])
            for h in range(horizon):
                action = player(ram, generator) if player else draw_action(logits, drawn)
                course = Course([ram])
                for _ in range(self.skip):
                    if not course.over:
                        self.brancher.act(course, action)
                ram, future.over[i] = course.rams[-1], course.over
                future.actions[i, h], future.rewards[i, h] = action, sum(course.rewards)
                future.ram[i, h] = ram
                screen = course.screen(len(course.frames), self.settings.max_pool)
                if film:
                    future.screens[i, h] = screen
                if course.over:
                    break
                if not player:
                    stream.read(screen, start=False)
                    logits = run_network([stream])[0][0]
        return future


def effects(branches: Sequence[Branches]) -> dict[str, np.ndarray]:
    """Measure how far each change moved the decision.

    Args:
        branches: of `intervene`.

    Returns:
        Columns with an entry per change that held, over all steps: `t`, `change` (as spelt),
        `kind`, `object`; `tv`, the total variation of the policy (0 to 1); `flip`, whether another
        action is the likeliest; `centred_logit`, half the squared change of the logits after their
        mean is taken off; `value`, the change of the value (NaN without one); `towards`, the
        change of P(actions that the change calls for) - P(actions against), NaN if the change
        calls for none.
    """
    rows = [row for each in branches for row in _effects(each)]
    names = ("t", "change", "kind", "object", *MEASURES)
    return {name: np.array([row[name] for row in rows]) for name in names}


MEASURES = ("tv", "flip", "centred_logit", "value", "towards")


def _effects(branches: Branches) -> list[dict]:
    logits = branches.action_logits.astype(np.float64)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    policy = weights / weights.sum(1, keepdims=True)
    centred = logits - logits.mean(1, keepdims=True)
    rows = []
    for i, named in enumerate(branches.named, 1):
        value = np.nan if branches.values is None else branches.values[i] - branches.values[0]
        rows.append(
            {
                "t": branches.t,
                "change": branches.names[i],
                "kind": named.change.kind,
                "object": named.change.object,
                "tv": 0.5 * np.abs(policy[i] - policy[0]).sum(),
                "flip": bool(logits[i].argmax() != logits[0].argmax()),
                "centred_logit": 0.5 * ((centred[i] - centred[0]) ** 2).sum(),
                "value": float(value),
                "towards": _towards(named, branches.action_meanings, policy[i] - policy[0]),
            }
        )
    return rows


def _towards(named: Named, meanings: list[str], moved: np.ndarray) -> float:
    """Return how far the policy moved to the actions that a change calls for."""
    called, against = (
        sum(moved[i] for i, name in enumerate(meanings) if any(part in name for part in parts))
        for parts in named.change.towards
    )
    sign = -1 if named.amount < 0 else 1
    return float(sign * (called - against)) if any(named.change.towards) else np.nan
