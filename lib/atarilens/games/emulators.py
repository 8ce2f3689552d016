"""The one environment factory. Every setting is explicit and recorded; a step yields one screen."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache

import ale_py
import gymnasium
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv

from atarilens.games.catalogue import GAMES
from atarilens.games.catalogue import game as record_of
from atarilens.games.hints import draw_hint

STICKINESS = 0.25  # per emulator frame (Machado et al. 2018)
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


@dataclass(frozen=True)
class EnvironmentSettings:
    """Everything that decides what an agent is shown; recorded with agents, replays and scores.

    Attributes:
        game: in any usual spelling; kept as the name of its record, such as "spaceinvaders".
        frame_skip: emulator frames per agent step; (low, high) draws uniformly from [low, high).
        repeat_action_probability: stickiness per emulator frame (Machado et al. 2018: 0.25).
        noop_max: up to so many no-op steps of one emulator frame at reset, drawn from the seed.
        max_pool: the screen is the per-channel maximum of the last two emulator frames.
        max_frames: emulator frames after which an episode is truncated.
        hint: "none", "expert:<agent>", "random" or "shifted:<agent>" (see `draw_hint`).
        full_action_space: 18 actions in place of the game's minimal set.
        infinite: let the game go on where it would run out of targets, as its record says
            (`Game.endless`): Breakout's wall then comes back for ever. Rewards stay the player's.
    """

    game: str
    frame_skip: int | tuple[int, int] = 4
    repeat_action_probability: float = 0.0
    noop_max: int = 30
    max_pool: bool = True
    max_frames: int = 108_000
    hint: str = "none"
    full_action_space: bool = False
    infinite: bool = False

    def __post_init__(self):
        """Check the values; JSON and YAML give the pair of `frame_skip` as a list."""
        record = record_of(self.game)
        object.__setattr__(self, "game", record.name)
        if isinstance(self.frame_skip, list):
            object.__setattr__(self, "frame_skip", tuple(self.frame_skip))
        low, high = self.skip_range
        if not 1 <= low < high:
            raise ValueError(
                f"frame_skip must be at least 1, or a pair low < high: {self.frame_skip}"
            )
        if not 0 <= self.repeat_action_probability <= 1:
            raise ValueError(
                "repeat_action_probability must lie in [0, 1], received "
                f"{self.repeat_action_probability}"
            )
        kind, _, expert = self.hint.partition(":")
        if kind not in HINTS or bool(expert) != (kind in EXPERT_HINTS):
            raise ValueError(
                f"hint must be none, random, expert:<agent> or shifted:<agent>: {self.hint!r}"
            )
        if self.infinite and record.endless is None:
            endless = [name for name, other in GAMES.items() if other.endless]
            raise ValueError(
                f"{record.title} has no infinite variant; {', '.join(endless)} has one"
            )

    @property
    def skip_range(self) -> tuple[int, int]:
        """(low, high): an agent step lasts low <= n < high emulator frames."""
        skip = self.frame_skip
        return (skip, skip + 1) if isinstance(skip, int) else skip

    def as_dict(self) -> dict:
        """Return plain data for a YAML row or JSON.

        A setting that was added later is left out while it has its default: older files stay equal.
        """
        skip = self.frame_skip if isinstance(self.frame_skip, int) else list(self.frame_skip)
        plain = asdict(self) | {"frame_skip": skip}
        if not self.infinite:
            del plain["infinite"]
        return plain


HINTS = ("none", "random", "expert", "shifted")
EXPERT_HINTS = ("expert", "shifted")


class AtariEnv(gymnasium.Env):
    """One emulator under explicit settings; made by `make_env`.

    The observation is the screen `[210, 160, 3]` uint8, hint included. `info` holds "ram" `[128]`
    uint8 and "lives" at the moment of the screen, "hint" (the bright bar) if there are hints, and
    "noops" (steps done) at reset. Rewards are the game's own, unclipped. `reset(seed=s)` seeds the
    emulator with s itself, as `AtariVectorEnv` does; no-ops, drawn skips and random hints come
    from a generator of the same seed. `reset(options={"noops": n})` does exactly n.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 (gymnasium's own)
    render_mode = "rgb_array"

    def __init__(
        self,
        settings: EnvironmentSettings,
        expert: Callable[[np.ndarray, bool], int] | None = None,
    ):
        self.settings, self.expert = settings, expert
        self.hint_kind = settings.hint.partition(":")[0]
        if (expert is not None) != (self.hint_kind in EXPERT_HINTS):
            raise ValueError(
                f"hint {settings.hint!r} "
                + ("needs an expert" if expert is None else "takes no expert")
            )
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", settings.repeat_action_probability)
        self.ale.setInt("max_num_frames_per_episode", settings.max_frames)
        self.rom = roms.get_rom_path(record_of(settings.game).ale)
        self._has_game = False  # the first reset loads it
        self.actions = _action_sets(settings.game)[settings.full_action_space]
        self.action_meanings = [ale_py.Action(action).name for action in self.actions]
        self.action_space = gymnasium.spaces.Discrete(len(self.actions))
        self.observation_space = gymnasium.spaces.Box(0, 255, (210, 160, 3), np.uint8)
        self._frames = np.zeros((2, 210, 160, 3), np.uint8)  # the emulator's last two
        self._screen = self._frames[0]  # un-hinted
        self._endless = record_of(settings.game).endless if settings.infinite else None
        self._owed = 0  # points that a write has taken from the score, until the next frame

    def _load(self, seed: int) -> None:
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self.rom)  # the emulator takes its seed only here
        self._has_game = True

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start an episode; with a seed, the whole episode is a function of it and the actions."""
        super().reset(seed=seed)
        if seed is not None or not self._has_game:
            self._load(seed or 0)
        self._owed = 0
        self.ale.reset_game()
        noops = int(self.np_random.integers(self.settings.noop_max + 1))
        noops = (options or {}).get("noops", noops)
        self._frames[:] = self.ale.getScreenRGB()
        for _ in range(noops):
            self.ale.act(ale_py.Action.NOOP)
            if self.ale.game_over():
                self.ale.reset_game()
        self._frames[0] = 0  # as AtariVectorEnv: the first screen is one frame alone
        self._frames[1] = self.ale.getScreenRGB()
        return self._observe(start=True, noops=noops)

    def step(self, action: int):
        """Act for the frames of one agent step; return Gymnasium's five."""
        low, high = self.settings.skip_range
        frames = low if high == low + 1 else int(self.np_random.integers(low, high))
        reward = 0.0
        self._frames[0] = self._frames[1]  # what counts where an agent step is one frame
        for remaining in range(frames - 1, -1, -1):
            reward += self.ale.act(self.actions[action]) + self._owed
            self._owed = 0 if self._endless is None else self._go_on()
            over = self.ale.game_over()
            if remaining < 2 or over:
                self.ale.getScreenRGB(self._frames[0 if remaining == 1 and not over else 1])
            if over:
                break
        terminated, truncated = self.ale.game_over(with_truncation=False), self.ale.game_truncated()
        screen, info = self._observe(start=False)
        return screen, reward, terminated, truncated, info

    def _go_on(self) -> int:
        """Write what keeps the game going; the emulator's next reward lacks so many points."""
        writes, points = self._endless(self.ale.getRAM())
        for address, value in writes.items():
            self.ale.setRAM(address, value)
        return points

    def _observe(self, start: bool, **info):
        self._screen = self._frames.max(0) if self.settings.max_pool else self._frames[1].copy()
        info |= {"ram": self.ale.getRAM(), "lives": self.ale.lives()}
        if self.hint_kind == "none":
            return self._screen, info
        num_actions = len(self.actions)
        if self.hint_kind == "random":
            info["hint"] = int(self.np_random.integers(num_actions))
        else:
            shift = self.hint_kind == "shifted"
            info["hint"] = (self.expert(self._screen, start) + shift) % num_actions
        return draw_hint(self._screen, info["hint"], num_actions), info

    @property
    def unhinted_screen(self) -> np.ndarray:
        """`[210, 160, 3]` uint8: the last screen without hint bars."""
        return self._screen

    def render(self) -> np.ndarray:
        """Return the last screen `[210, 160, 3]` uint8, without hint."""
        return self._screen.copy()


def make_env(
    game: str | EnvironmentSettings,
    *,
    expert: Callable[[np.ndarray, bool], int] | None = None,
    **settings,
) -> AtariEnv:
    """Make one environment.

    Args:
        game: name of a game, or whole settings.
        expert: `(un-hinted screen, first of its episode) -> action index`, for expert and shifted
            hints. It keeps a memory of its own.
        **settings: fields of `EnvironmentSettings`, here or on top of the given ones.

    Raises:
        ValueError: for an unknown game, setting or value.
    """
    known = set(EnvironmentSettings.__dataclass_fields__)
    if unknown := set(settings) - known:
        raise ValueError(
            f"unknown environment setting(s) {sorted(unknown)}; known: {sorted(known)}"
        )
    base = game if isinstance(game, EnvironmentSettings) else EnvironmentSettings(game)
    return AtariEnv(replace(base, **settings), expert)


class ObservationEnv(gymnasium.Wrapper):
    """Show a learner what its network reads in place of the screen, for training code of others.

    As in a rollout, the first screen of an episode also stands for those before it. Observations
    are `[C, H, W]` uint8, 255 times those of `rollout`: exactly, in the area84 styles.

    Args:
        env: from `make_env`.
        style: a `preprocessing.Preprocessing`, for example `preprocessing("area84-stack4")`.
    """

    def __init__(self, env: AtariEnv, style):
        super().__init__(env)
        self.style = style
        self.observation_space = gymnasium.spaces.Box(0, 255, style.shape, np.uint8)
        self._recent = deque(maxlen=style.screens)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start an episode."""
        screen, info = self.env.reset(seed=seed, options=options)
        self._recent.extend([self._read(screen)] * self.style.screens)
        return np.concatenate(self._recent), info

    def step(self, action):
        """Act; return Gymnasium's five."""
        screen, *others = self.env.step(action)
        self._recent.append(self._read(screen))
        return np.concatenate(self._recent), *others

    def _read(self, screen: np.ndarray) -> np.ndarray:
        return np.rint(255 * self.style.function(screen[None])).astype(np.uint8)


def make_vector_env(
    settings: EnvironmentSettings, num_envs: int, *, life_loss: bool = False, threads: int = 0
) -> AtariVectorEnv:
    """Make emulators for collecting: screens `[num_envs, 1, 210, 160, 3]` uint8 of full size.

    Bit-equal to `make_env` of the same integer seed in every screen but the terminal ones. Hints,
    infinite games and drawn frame skips are not supported.

    Args:
        settings: of each emulator.
        num_envs: number of emulators.
        life_loss: report a lost life as termination (the game goes on).
        threads: of the emulators; 0 means one per core.
    """
    if settings.hint != "none" or settings.infinite or not isinstance(settings.frame_skip, int):
        raise ValueError(
            "the vector environment has no hints, no infinite games and a fixed frame skip only"
        )
    return AtariVectorEnv(
        record_of(settings.game).ale,
        num_envs,
        num_threads=threads,
        max_num_frames_per_episode=settings.max_frames,
        repeat_action_probability=settings.repeat_action_probability,
        full_action_space=settings.full_action_space,
        autoreset_mode="SameStep",
        img_height=210,
        img_width=160,
        grayscale=False,
        stack_num=1,
        frameskip=settings.frame_skip,
        maxpool=settings.max_pool,
        noop_max=settings.noop_max,
        life_loss_info=life_loss,
        reward_clipping=False,
        use_fire_reset=False,
    )


MAX_ACTIONS = 18  # the full action set of the emulator


@cache
def _action_sets(game: str) -> tuple[list, list]:
    """Return the minimal set of a game's actions, and the full one of 18."""
    ale = ale_py.ALEInterface()
    ale.loadROM(roms.get_rom_path(record_of(game).ale))
    return ale.getMinimalActionSet(), ale.getLegalActionSet()


def action_meanings(game: str, full_action_space: bool = False) -> tuple[str, ...]:
    """Return the names of a game's actions, in the order of their indices."""
    actions = _action_sets(EnvironmentSettings(game).game)[full_action_space]
    return tuple(ale_py.Action(action).name for action in actions)


def action_set(game: str, num_actions: int) -> dict:
    """Return the setting under which a game has so many actions: minimal set, or all 18.

    Raises:
        ValueError: if there is none.
    """
    minimal = len(action_meanings(game))
    if num_actions not in (minimal, MAX_ACTIONS):
        raise ValueError(
            f"the network has {num_actions} actions, but {game} has {minimal} "
            f"(or {MAX_ACTIONS} in the full set)"
        )
    return {"full_action_space": num_actions != minimal}
