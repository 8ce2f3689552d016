"""Agent = network + preprocessing + actions + environment settings + where it comes from.

An agent is stored as two files: `<name>.safetensors`, the weights in float16, and `<name>.yml`, its
row: everything else that is known about it. Other people's agents are a row alone, with the
address of the weights and their sha256; they are fetched into the user's cache on first use. The
variable ATARILENS_AGENTS_URL names another place to fetch from: a folder, or a server's address.
"""

import copy
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pooch
import torch
import yaml
from safetensors.torch import save as save_safetensors
from torch import nn

from atarilens import paths
from atarilens.agents.foreign import import_checkpoint, network_from_state_dict
from atarilens.agents.networks import ModuleNetwork, NatureNetwork, RecurrentActorCritic, initialise
from atarilens.agents.preprocessing import Preprocessing, preprocessing
from atarilens.games.emulators import EnvironmentSettings, action_meanings, action_set
from atarilens.games.objects import GAMES

UNTRAINED = "untrained-"
UNTRAINED_SEED = 1  # of the runs that the strong agents come from
MIRROR = "ATARILENS_AGENTS_URL"
TIMEOUT = 30  # seconds without an answer
MAX_ROW = 2**20  # bytes
ROW_NEEDS = ("game", "architecture", "preprocessing", "settings", "sha256")
ROW = (
    *("game", "architecture", "preprocessing", "settings", "training_steps", "seed", "lineage"),
    *("score", "sha256", "licence", "command", "hours", "machine"),
)


@dataclass(frozen=True)
class Agent:
    """Everything that is needed to play and to explain.

    Attributes:
        name: row of `data/agents`, or the name of the file that it was loaded from.
        game: key of `games.GAMES`.
        network: of the protocol of `models`; eval mode, float32, on the CPU.
        preprocessing: what it reads of the screen.
        settings: under which it was trained.
        action_meanings: A names; index = action.
        facts: its row, or what its checkpoint tells.
    """

    name: str
    game: str
    network: nn.Module
    preprocessing: Preprocessing
    settings: EnvironmentSettings
    action_meanings: list[str]
    facts: dict

    @property
    def region(self) -> tuple[int, int, int, int]:
        """Px (top, bottom, left, right) of the screen that the observation covers, half-open."""
        return self.preprocessing.region

    def preprocess(self, screen: np.ndarray) -> np.ndarray:
        """Turn `[210, 160, 3]` uint8, or the `[n, ...]` it stacks, into `[C, H, W]` float32."""
        return self.preprocessing(screen)

    def initial_memory(self) -> np.ndarray:
        """Return the memory `[k, M]` float32 that enters an episode: zeros."""
        return np.zeros(self.network.memory_shape, np.float32)


def list_agents() -> list[str]:
    """Return the names that `load_agent` knows, sorted; an untrained agent for each game."""
    rows = [row.stem for row in paths.AGENTS.glob("*.yml")]
    return sorted([*rows, *(f"{UNTRAINED}{game}" for game in GAMES)])


def load_agent(
    name_or_path: str | Path,
    game: str | None = None,
    *,
    preprocessing: str | None = None,
    settings: dict | None = None,
) -> Agent:
    """Load an agent by name, or from someone's checkpoint.

    Args:
        name_or_path: a name of `list_agents()`; or the path of a checkpoint, whose format is told
            by its content (see `importers`): what `save_agent` wrote, greydanus/baby-a3c,
            Stable-Baselines3, CleanRL.
        game: key of `games.GAMES`; needed where the file does not tell.
        preprocessing: of a checkpoint that reads other than its origin's usual observation.
        settings: likewise, fields of `EnvironmentSettings`, on top of its origin's.

    Returns:
        The agent. Where the network is a Q-network, its action logits are Q-values and its value
        is their maximum: play it with `greedy=True`.

    Raises:
        ValueError: for an unknown name, another game, a damaged or foreign file, another number of
            actions than the game's.
        FileNotFoundError: if there is no file at the path, or weights cannot be fetched.
    """
    name = str(name_or_path)
    if name in list_agents():
        row = paths.AGENTS / f"{name}.yml"
        agent = _load_row(row, name) if row.is_file() else _untrained(name)
    elif (row := _row_of(Path(name))).is_file():
        agent = _load_row(row, row.stem)
    elif Path(name).exists() or os.sep in name or Path(name).suffix:
        agent = _load_checkpoint(Path(name), game)
    else:
        near = " or ".join(get_close_matches(name, list_agents(), n=3))
        raise ValueError(
            f"unknown agent {name!r}{f', did you mean {near}' if near else ''}? Known are "
            f"{', '.join(list_agents())}, or the path of a checkpoint"
        )
    if game not in (None, agent.game):
        raise ValueError(f"agent {name!r} plays {agent.game}, not {game}")
    return _assemble(agent, preprocessing, settings) if preprocessing or settings else agent


def save_agent(agent: Agent, path: str | Path) -> Path:
    """Write `<path>.safetensors` (float16) and its row `<path>.yml`; equal agents, equal bytes.

    Each file is written beside its place and then moved, the row last.

    Args:
        agent: whose network is one of `models`; its `facts` become the row.
        path: with or without the suffix; folders are made.

    Returns:
        The path of the weights.

    Raises:
        ValueError: if the network is not one that can be told by its parameters, or has weights
            that float16 cannot hold.
    """
    weights, row_file = _weights_of(Path(path)), _row_of(Path(path))
    content, architecture = _float16(agent.network)
    settings = agent.settings.as_dict()
    known = {
        "game": settings.pop("game"),
        "architecture": architecture,
        "preprocessing": agent.preprocessing.name,
        "settings": settings,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    facts = {key: agent.facts[key] for key in agent.facts if key not in ("url", "path", "bytes")}
    row = dict.fromkeys(ROW) | facts | known
    plain = json.loads(json.dumps(row, default=lambda number: number.item()))
    weights.parent.mkdir(parents=True, exist_ok=True)
    _write(weights, content)
    _write(row_file, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode())
    return weights


def agent_from_module(
    module: nn.Module,
    *,
    game: str,
    preprocessing: str | Preprocessing,
    settings: dict | None = None,
    name: str = "module",
) -> Agent:
    """Make an agent of any module, to explain it as one of ours.

    The protocol is that of `models.ModuleNetwork`: `module(observation)` returns action logits
    `[B, A]`, or logits and a value; a module with a memory has `memory_shape` and also takes and
    returns its memory. Networks of `models` are taken as they are.

    Args:
        module: copied; the copy is in eval mode, float32, on the CPU.
        game: key of `games.GAMES`.
        preprocessing: name of a style, or one of your own.
        settings: fields of `EnvironmentSettings` that differ from its defaults.
        name: shown in figures.

    Raises:
        ValueError: if a trial call does not return what the protocol says.

    Example:
        >>> agent = agent_from_module(my_network, game="pong", preprocessing="area84-stack4")
        >>> trajectory = rollout(agent, max_steps=100)
    """
    style = _style(preprocessing)
    module = copy.deepcopy(module)
    if not isinstance(module, RecurrentActorCritic | NatureNetwork | ModuleNetwork):
        module = ModuleNetwork(module, style.shape)
    network = module.cpu().float().eval().requires_grad_(False)
    num_actions = _trial_call(network)
    settings = {**action_set(game, num_actions), **(settings or {})}
    facts = {"architecture": type(module).__name__, "preprocessing": style.name}
    return _make(name, game, network, style, settings, facts)


def _make(
    name: str, game: str, network: nn.Module, style: Preprocessing, settings: dict, facts: dict
) -> Agent:
    """Check that the parts of an agent belong together, and join them."""
    known = {field.name for field in fields(EnvironmentSettings)} - {"game"}
    if unknown := set(settings) - known:
        raise ValueError(
            f"agent {name!r} has unknown environment settings {sorted(unknown)}; "
            f"known are {sorted(known)}"
        )
    if style.shape != tuple(network.observation_shape):
        raise ValueError(
            f"agent {name!r}: its network reads {list(network.observation_shape)}, but "
            f"preprocessing {style.name!r} makes {list(style.shape)}"
        )
    settings = EnvironmentSettings(game, **settings)
    meanings = list(action_meanings(game, settings.full_action_space))
    facts = facts | {"game": game, "preprocessing": style.name}
    return Agent(name, game, network, style, settings, meanings, facts)


def _assemble(agent: Agent, style: str | None, settings: dict | None) -> Agent:
    """Return the agent under another preprocessing or other settings."""
    base = agent.settings.as_dict()
    base.pop("game")
    style = _style(style or agent.preprocessing)
    return _make(agent.name, agent.game, agent.network, style, base | (settings or {}), agent.facts)


def _style(style: str | Preprocessing) -> Preprocessing:
    return preprocessing(style) if isinstance(style, str) else style


def _trial_call(network: ModuleNetwork) -> int:
    """Call the network on two black screens; return the number of actions."""
    observation = torch.zeros(2, *network.observation_shape)
    memory = torch.zeros(2, *network.memory_shape)
    with torch.no_grad():
        action_logits, value, after = network(observation, memory)
    got = [None if x is None else list(x.shape) for x in (action_logits, value, after)]
    expected = [[2, got[0][-1]], got[1] and [2], list(memory.shape)]
    if got != expected:
        raise ValueError(
            f"the module returned logits, value and memory of shapes {got}, expected "
            f"[2, A], [2] or None, and {expected[2]} for a batch of 2"
        )
    return got[0][-1]


def _untrained(name: str) -> Agent:
    """Re-create the untrained network of a game from its seed, as training starts from it."""
    game = name.removeprefix(UNTRAINED)
    network = RecurrentActorCritic(len(action_meanings(game)))
    content, architecture = _float16(initialise(network, UNTRAINED_SEED))
    network.half().float().eval().requires_grad_(False)
    facts = {
        "architecture": architecture,
        "training_steps": 0,
        "seed": UNTRAINED_SEED,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return _make(name, game, network, preprocessing("luma80"), {}, facts)


def _load_checkpoint(path: Path, game: str | None) -> Agent:
    if game is None and path.is_file():
        raise ValueError(
            f"{path} does not say which game it plays: name one of {', '.join(GAMES)} as game"
        )
    network, facts = import_checkpoint(path, game)
    facts["sha256"] = _sha256(path)
    style = preprocessing(facts["preprocessing"])
    return _make(path.stem, game, network, style, facts.pop("settings"), facts)


def _load_row(row_file: Path, name: str) -> Agent:
    try:
        row = yaml.safe_load(row_file.read_bytes()) if row_file.stat().st_size < MAX_ROW else None
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise ValueError(f"{row_file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(row, dict) or (missing := [key for key in ROW_NEEDS if key not in row]):
        lacks = f"lacks {', '.join(missing)}" if isinstance(row, dict) else "is no mapping"
        raise ValueError(f"{row_file} {lacks}; the row of an agent names {', '.join(ROW_NEEDS)}")
    weights = _fetch(name, row) if "url" in row else _weights_of(row_file)
    if not weights.is_file():
        raise FileNotFoundError(f"agent {name!r} has the row {row_file}, but no {weights.name}")
    found = _sha256(weights)
    if found != row["sha256"]:
        raise ValueError(
            f"{weights} is damaged or not the file of agent {name!r}: its sha256 is {found}, "
            f"expected {row['sha256']}"
        )
    network, facts = import_checkpoint(weights, row["game"])
    if facts["architecture"] != row["architecture"]:
        raise ValueError(
            f"{weights} holds the architecture {facts['architecture']!r}, but {row_file.name} "
            f"says {row['architecture']!r}"
        )
    style = preprocessing(row["preprocessing"])
    return _make(name, row["game"], network, style, row["settings"] or {}, row)


def _fetch(name: str, row: dict) -> Path:
    """Return the weights of other people's agent in the cache, fetched if they are not there."""
    base = os.environ.get(MIRROR) or row["url"]
    scheme = urlsplit(base).scheme
    remote = scheme in ("http", "https")
    folder = url2pathname(urlsplit(base).path) if scheme == "file" else base
    address = f"{base.rstrip('/')}/{row['path']}"
    try:
        cached = pooch.retrieve(
            address if remote else (Path(folder).absolute() / row["path"]).as_uri(),
            known_hash=f"sha256:{row['sha256']}",
            fname=f"{name}{Path(row['path']).suffix}",
            path=paths.cache() / "agents",
            downloader=pooch.HTTPDownloader(timeout=TIMEOUT) if remote else _copy,
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"the weights of agent {name!r} are not in the cache {paths.cache() / 'agents'} and "
            f"cannot be taken from {address} ({str(error)[:300]}). Connect to the network once, or "
            f"set {MIRROR} to a folder or server that has {row['path']}"
        ) from error
    return Path(cached)


def _copy(url: str, output_file: str, _pooch) -> None:
    """Download from a folder."""
    shutil.copyfile(url2pathname(urlsplit(url).path), output_file)


def _float16(network: nn.Module) -> tuple[bytes, str]:
    """Return the file of a network's weights, and its architecture as an import will find it."""
    state = {name: value.detach().cpu().half() for name, value in network.state_dict().items()}
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"parameter {name} holds numbers that float16 cannot hold")
    try:
        _, facts = network_from_state_dict(state, ours=True)
    except ValueError as error:
        raise ValueError(f"only networks of atarilens.agents can be saved, not {error}") from error
    return save_safetensors(state), facts["architecture"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights_of(path: Path) -> Path:
    """Return the path of the weights that stand beside a row (or are named without suffix)."""
    return path.with_name(_stem(path) + ".safetensors")


def _row_of(path: Path) -> Path:
    return path.with_name(_stem(path) + ".yml")


def _stem(path: Path) -> str:
    return path.stem if path.suffix in (".safetensors", ".yml") else path.name


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
