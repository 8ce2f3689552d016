"""Play an agent, and re-create its play exactly."""

from collections.abc import Callable
from pathlib import Path

import ale_py
import numpy as np
from tqdm import tqdm

from atarilens.agents import Agent, load_agent, untrained_control
from atarilens.games.emulators import AtariEnv, EnvironmentSettings, make_env
from atarilens.play.inference import Stream, read_episodes, run_network, seen_by
from atarilens.play.trajectories import DTYPES, Trajectory, hashes, load_replay


def episode_generator(seed: int) -> np.random.Generator:
    """Return the generator that draws the actions of one episode.

    Its stream differs from the environment's, which is seeded with the integer alone.
    """
    return np.random.default_rng([seed, 1])


def draw_action(action_logits: np.ndarray, generator: np.random.Generator | None) -> int:
    """Draw an action from softmax(action_logits) `[A]` in float64; greedily without a generator."""
    if generator is None:
        return int(action_logits.argmax())
    weights = np.exp(action_logits.astype(np.float64) - action_logits.max())
    cumulative = weights.cumsum()
    drawn = np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")
    return min(int(drawn), len(weights) - 1)


def plays_greedily(agent: Agent, greedy: bool | None) -> bool:
    """Return `greedy`; if it is None, whether the agent's network gives Q-values."""
    return agent.network.q_values if greedy is None else greedy


def action_chooser(seed: int, greedy: bool, epsilon: float = 0.0) -> Callable[[np.ndarray], int]:
    """Return the function from action logits `[A]` to an action, for the episode of this seed.

    Raises:
        ValueError: if epsilon is not in [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}, expected a probability from 0 to 1")
    generator = episode_generator(seed)

    def choose(action_logits: np.ndarray) -> int:
        if epsilon and generator.random() < epsilon:
            return int(generator.integers(len(action_logits)))
        return draw_action(action_logits, None if greedy else generator)

    return choose


def make_agent_env(agent: Agent, settings: EnvironmentSettings | None = None) -> AtariEnv:
    """Make the environment that an agent plays in, with the expert whose actions are hinted.

    Args:
        agent: who plays.
        settings: of the environment; by default the agent's own.

    Raises:
        ValueError: if the settings, or the expert, have another game or other actions.
    """
    settings = settings or agent.settings
    if settings.game != agent.game:
        raise ValueError(f"agent {agent.name!r} plays {agent.game}, not {settings.game}")
    name = settings.hint.partition(":")[2]
    env = make_env(settings, expert=_expert(load_agent(name, agent.game)) if name else None)
    if env.action_meanings != list(agent.action_meanings):
        raise ValueError(
            f"agent {agent.name!r} has the actions {', '.join(agent.action_meanings)}, "
            f"the environment {', '.join(env.action_meanings)}"
        )
    return env


def _expert(agent: Agent) -> Callable[[np.ndarray, bool], int]:
    """Return a function that gives an expert's likeliest action for each screen."""
    stream = Stream(agent)

    def act(screen: np.ndarray, start: bool) -> int:
        stream.read(screen, start)
        return draw_action(run_network([stream])[0][0], None)

    return act


def rollout(
    agent: Agent,
    seed: int = 0,
    max_steps: int = 500,
    greedy: bool | None = None,
    *,
    epsilon: float = 0.0,
    episodes: int | None = None,
    settings: EnvironmentSettings | None = None,
    progress: bool = False,
) -> Trajectory:
    """Play an agent and keep every screen, observation, memory and decision.

    The seed of episode e is seed + e, for the emulator, the no-ops and the draws of actions alike:
    it is the same episode in every rollout and in `evaluate`.

    Args:
        agent: who plays.
        seed: of the first episode, 0 or more.
        max_steps: number of decisions T; if an episode ends earlier, the next one begins.
        greedy: take the likeliest action; otherwise actions are drawn from the policy. By default
            only Q-values are played greedily: their softmax is not the policy that was trained.
        epsilon: probability of an action drawn evenly from all instead, in [0, 1].
        episodes: play this many whole episodes and ignore `max_steps`. A step takes 100 kB of
            memory.
        settings: of the environment; by default the agent's own.
        progress: show a bar.

    Returns:
        The trajectory. Replay invariant: `network(observations[t], memory[t])` gives
        action_logits[t] and values[t] to 1e-5, whatever the batch.

    Raises:
        ValueError: if the seed is negative, there are no steps, or the settings do not fit.
    """
    length = None if episodes is not None else max_steps
    if seed < 0 or (episodes if length is None else length) < 1:
        raise ValueError(
            f"seed must be 0 or more, max_steps and episodes 1 or more: received seed {seed}, "
            f"max_steps {max_steps}, episodes {episodes}"
        )
    greedy = plays_greedily(agent, greedy)
    env = make_agent_env(agent, settings)
    stream, choose = Stream(agent), None

    def decide(screen: np.ndarray, step: int, episode: int, start: bool) -> tuple[int, dict]:
        nonlocal choose
        if start:
            choose = action_chooser(seed + episode, greedy, epsilon)
        stream.read(screen, start)
        read = {"observations": stream.observation, "memory": stream.memory}
        action_logits, values = run_network([stream])
        read["action_logits"] = action_logits[0]
        read["values"] = None if values is None else values[0]
        return choose(action_logits[0]), read

    origin = {
        "agent": agent.name,
        "agent_sha256": agent.facts.get("sha256"),
        "seed": seed,
        "greedy": greedy,
        **({"epsilon": epsilon} if epsilon else {}),
    }
    arrays, noops = _run(env, decide, origin, length, episodes, progress)
    return Trajectory(**arrays, settings=env.settings, origin=origin | {"noops": noops})


def _run(
    env: AtariEnv,
    decide: Callable[[np.ndarray, int, int, bool], tuple[int, dict]],
    origin: dict,
    length: int | None,
    episodes: int | None,
    progress: bool,
) -> tuple[dict, list[int]]:
    """Play until `length` steps or `episodes` episodes are complete, with the origin's no-ops.

    Args:
        env: the environment.
        decide: gives the action for (screen, step, episode, whether it starts one), and further
            arrays to keep of the step.
        origin: its seed, and its no-ops if they were recorded.
        length: steps to play, or None.
        episodes: episodes to play, or None.
        progress: show a bar.

    Returns:
        The arrays of a trajectory, and the no-ops of each episode.
    """
    seed, recorded, noops = origin["seed"], origin.get("noops"), []
    kept, large = {}, {}
    if length is not None:  # most of the memory: written once to where it stays
        large["frames"] = np.empty((length, 210, 160, 3), np.uint8)
    step = episode = 0
    over = True
    with tqdm(total=length, unit="step", disable=not progress) as bar:
        while step != length:
            start = over
            if start:
                options = {"noops": recorded[episode]} if recorded else None
                screen, info = env.reset(seed=seed + episode, options=options)
                noops.append(info["noops"])
            moment = {
                "frames": screen,
                "episode": episode,
                "ram": info["ram"],
                "hints": info.get("hint"),
            }
            action, read = decide(screen, step, episode, start)
            screen, reward, terminated, truncated, info = env.step(action)
            moment |= read | {
                "actions": action,
                "rewards": reward,
                "terminated": terminated,
                "truncated": truncated,
            }
            for name, array in large.items():
                array[step] = moment.pop(name)
            for name, value in moment.items():
                kept.setdefault(name, []).append(value)
            over = terminated or truncated
            step += 1
            episode += over
            bar.update()
            if episode == episodes:
                break
    joined = {name: _join(kept[name], DTYPES.get(name, np.float32)) for name in kept}
    return large | joined, noops


def _join(values: list, dtype: type) -> np.ndarray | None:
    """Stack a list, releasing its parts on the way: frames are large."""
    if values[0] is None:
        return None
    joined = np.empty((len(values), *np.shape(values[0])), dtype)
    for t in range(len(values)):
        joined[t], values[t] = values[t], None
    return joined


def replay(
    name_or_path: str | Path,
    agent: Agent | str | None = None,
    *,
    max_steps: int | None = None,
    progress: bool = False,
) -> Trajectory:
    """Re-create a recorded rollout: screens, RAM and rewards bit for bit.

    Args:
        name_or_path: a name in `data/replays`, or a path.
        agent: whose network reads the screens, with its own memory (see `seen_by`); by default
            the player. The actions stay the player's.
        max_steps: stop after so many steps; the hashes of the whole then cannot be compared.
        progress: show a bar.

    Returns:
        The trajectory. Logits, values and memory are computed anew, episodes side by side: they
        equal those of the game up to rounding.

    Raises:
        FileNotFoundError: if there is no such replay, or no such agent.
        ValueError: if the file is damaged, the agent plays another game, or the game that comes
            out differs from the one recorded.
    """
    facts, actions, hints = load_replay(name_or_path)
    settings = EnvironmentSettings(**facts["settings"])
    origin = facts["origin"]
    if not isinstance(agent, Agent):
        agent = load_agent(agent or origin["agent"], game=settings.game)
    if agent.game != settings.game:
        raise ValueError(
            f"agent {agent.name!r} plays {agent.game}, replay {name_or_path} is of {settings.game}"
        )
    if agent.name != origin["agent"]:
        origin = origin | {"watched_by": agent.name}
    kind = settings.hint.partition(":")[0]
    expert = None
    if kind in ("expert", "shifted"):
        expert = _recorded_expert(hints.astype(int) - (kind == "shifted"))
    arrays, _ = _run(
        make_env(settings, expert=expert),
        lambda screen, step, episode, start: (int(actions[step]), {}),
        origin,
        length=len(actions) if max_steps is None else min(max_steps, len(actions)),
        episodes=None,
        progress=progress,
    )
    arrays |= read_episodes(agent, arrays["frames"], arrays["episode"])
    trajectory = Trajectory(**arrays, settings=settings, origin=origin)
    if len(trajectory) < len(actions):
        return trajectory
    found = hashes(trajectory)
    if differing := [name for name in found if found[name] != facts["sha256"][name]]:
        raise ValueError(
            f"replay {name_or_path} did not come out as recorded: {', '.join(differing)} differ "
            f"(recorded with ale-py {facts['ale_py']}, here is {ale_py.__version__})"
        )
    return trajectory


def games_of(
    agent: Agent, recording: str = "", *, seed: int = 0, max_steps: int = 500
) -> Trajectory:
    """Return an agent's recorded games, or play now if no recording is named.

    Args:
        agent: who plays.
        recording: a name in `data/replays`, or a path; "" plays now.
        seed: of the first episode played now.
        max_steps: agent steps played now.
    """
    return replay(recording, agent) if recording else rollout(agent, seed, max_steps)


def open_games(
    agent: str, recording: str = "", *, game: str | None = None, seed: int = 0, max_steps: int = 500
) -> tuple[Agent, Agent, Trajectory, Trajectory]:
    """Load an agent, its games and its control, an untrained network of its kind.

    Args:
        agent: a row of `data/agents`, or a checkpoint's path with its `game`.
        recording: a name in `data/replays`, or a path; "" plays now.
        game: of a checkpoint.
        seed: of the first episode played now.
        max_steps: agent steps played now.

    Returns:
        The agent, the untrained network, the agent's games, and the same games as the untrained
        network sees them, with a memory of its own.
    """
    player = load_agent(agent, game=game)
    control = untrained_control(player)
    trajectory = games_of(player, recording, seed=seed, max_steps=max_steps)
    seen = seen_by(trajectory, control, read_as=player.preprocessing)
    return player, control, trajectory, seen


def _recorded_expert(actions: np.ndarray) -> Callable[[np.ndarray, bool], int]:
    """Return an expert that repeats its recorded actions, one call per screen.

    The environment also calls it for an episode's last screen, of which no action was recorded.
    """
    step = 0

    def act(screen: np.ndarray, start: bool) -> int:
        nonlocal step
        step += not start  # the last screen of an episode and the next first one share a step
        return int(actions[min(step, len(actions) - 1)])

    return act
