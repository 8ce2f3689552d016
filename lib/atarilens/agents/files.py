"""Agents by name, and the files that hold them.

An agent is stored as two files: `<name>.safetensors`, the weights in float16, and `<name>.yml`, its
row: everything else that is known about it, the name of its network in the registry included.
Other people's agents are a row alone, with the address of the weights and their sha256; they are
fetched into the user's cache on first use. The variable ATARILENS_AGENTS_URL names another place
to fetch from: a folder, or a server's address.
"""

import hashlib
import json
import os
import shutil
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch
import yaml
from safetensors.torch import save as save_safetensors
from torch import nn

from atarilens import paths
from atarilens.agents.agent import Agent, as_style, join_parts
from atarilens.agents.foreign import import_checkpoint, network_from_state_dict
from atarilens.agents.networks import Network, initialise
from atarilens.agents.preprocessing import STYLES, preprocessing
from atarilens.agents.registry import NETWORKS, build_network, describe, load_network
from atarilens.agents.weights import read_weights
from atarilens.games.emulators import action_meanings
from atarilens.games.objects import GAMES
from atarilens.games.objects import game as record_of

UNTRAINED = "untrained-"
PAPER_NETWORK = "lstm"
UNTRAINED_SEED = 1  # of the runs that the strong agents come from
MIRROR = "ATARILENS_AGENTS_URL"
TIMEOUT = 30  # seconds without an answer
MAX_ROW = 2**20  # bytes
RECOGNISED = ("nature", "nature-lstm", "nature-q", "nature-lstm-q")
ROW_NEEDS = ("game", "architecture", "preprocessing", "settings", "sha256")
ROW = (
    *("game", "architecture", "architecture_arguments", "preprocessing", "settings"),
    *("training_steps", "seed", "lineage", "score", "sha256", "licence", "command"),
    *("hours", "machine"),
)


def list_agents() -> list[str]:
    """Return the names of the shipped agents, and of an untrained one for each game, sorted.

    `load_agent` also knows `untrained-<game>-<architecture>`, for every game of the emulator and
    every network of the registry.
    """
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
        name_or_path: a name of `list_agents()`; or the path of what `save_agent` wrote; or the
            path of a checkpoint of greydanus/baby-a3c, Stable-Baselines3 or CleanRL, which is
            recognised by its content (see `foreign`).
        game: key of `games.GAMES`; needed if the file does not say it.
        preprocessing: of a checkpoint that reads other than its origin's usual observation.
        settings: likewise, fields of `EnvironmentSettings`, on top of its origin's.

    Returns:
        The agent. If `agent.network.q_values`, its action logits are Q-values and its value is
        their maximum: play it with `greedy=True`.

    Raises:
        ValueError: for an unknown name, another game, a damaged or foreign file, another number of
            actions than the game's.
        FileNotFoundError: if there is no file at the path.
        MissingDataError: if there is a row of this name, but its weights cannot be had.
    """
    name = str(name_or_path)
    if name in list_agents() or _is_untrained(name):
        row = paths.AGENTS / f"{name}.yml"
        agent = _load_row(row, name) if row.is_file() else _untrained(name)
    elif (row := _row_of(Path(name))).is_file():
        agent = _load_row(row, row.stem)
    elif Path(name).exists() or os.sep in name or Path(name).suffix:
        agent = _load_checkpoint(Path(name), game)
    else:
        near = " or ".join(get_close_matches(name, list_agents(), n=3))
        raise ValueError(
            f"unknown agent {name!r}{f', did you mean {near}?' if near else '.'} Known are "
            f"{', '.join(list_agents())}, or the path of a checkpoint"
        )
    if game is not None and record_of(game).name != agent.game:
        raise ValueError(f"agent {name!r} plays {agent.game}, not {game}")
    if not preprocessing and not settings:
        return agent
    settings = agent.settings.as_dict() | (settings or {})
    settings.pop("game")
    style = as_style(preprocessing or agent.preprocessing)
    return join_parts(agent.name, agent.game, agent.network, style, settings, agent.facts)


def untrained_control(agent: Agent) -> Agent:
    """Return the untrained network that an agent is compared with.

    It has the agent's architecture and preprocessing. For the networks of the paper, and for those
    that are not in the registry, it is `untrained-<game>`, the paper's LSTM.
    """
    if agent.network.architecture in (None, "lstm", "gru"):
        return load_agent(f"{UNTRAINED}{agent.game}")
    architecture, arguments = describe(agent.network)
    control = _initial(agent.game, architecture, **arguments)
    style = agent.preprocessing
    return join_parts(control.name, agent.game, control.network, style, {}, control.facts)


def save_agent(agent: Agent, path: str | Path) -> Path:
    """Write `<path>.safetensors` (float16) and its row `<path>.yml`; equal agents, equal bytes.

    Each file appears whole or not at all, the row last.

    Args:
        agent: whose network is in the registry (see `build_network`); its `facts` become the row.
        path: with or without the suffix; folders are made.

    Returns:
        The path of the weights.

    Raises:
        ValueError: if the network is not in the registry, or float16 cannot hold its weights.
    """
    weights, row_file = _weights_of(Path(path)), _row_of(Path(path))
    architecture, arguments = describe(agent.network)
    content = _float16(agent.network)
    settings = agent.settings.as_dict()
    known = {
        "game": settings.pop("game"),
        "architecture": architecture,
        "architecture_arguments": arguments,
        "preprocessing": agent.preprocessing.name,
        "settings": settings,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    facts = {key: agent.facts[key] for key in agent.facts if key not in ("url", "path", "bytes")}
    row = dict.fromkeys(ROW) | facts | known
    if not arguments:
        del row["architecture_arguments"]
    plain = json.loads(json.dumps(row, default=lambda number: number.item()))
    for file, bytes_ in ((weights, content), (row_file, _yaml(plain))):
        with paths.whole_file(file) as part:
            part.write_bytes(bytes_)
    return weights


def _yaml(row: dict) -> bytes:
    return yaml.safe_dump(row, sort_keys=False, allow_unicode=True).encode()


def _is_untrained(name: str) -> bool:
    """Return whether a name stands for the untrained network of a game, with or without record."""
    return name.startswith(UNTRAINED) and not Path(name).suffix and not Path(name).exists()


def _untrained(name: str) -> Agent:
    """Make the untrained network of a game from its seed, as training starts from it."""
    asked = name.removeprefix(UNTRAINED)
    endings = (known for known in sorted(NETWORKS, key=len)[::-1] if asked.endswith(f"-{known}"))
    architecture = next(endings, PAPER_NETWORK)
    return _initial(record_of(asked.removesuffix(f"-{architecture}")).name, architecture)


def _initial(game: str, architecture: str, **arguments) -> Agent:
    network = build_network(architecture, len(action_meanings(game)), **arguments)
    content = _float16(initialise(network, UNTRAINED_SEED))
    network.half().float().eval().requires_grad_(False)
    facts = {
        "architecture": architecture,
        "training_steps": 0,
        "seed": UNTRAINED_SEED,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    name = f"{UNTRAINED}{game}" + (f"-{architecture}" if architecture != PAPER_NETWORK else "")
    style = next(style for style in STYLES.values() if style.shape == network.observation_shape)
    return join_parts(name, game, network, style, {}, facts)


def _load_checkpoint(path: Path, game: str | None) -> Agent:
    if game is None and path.is_file():
        raise ValueError(
            f'{path} does not say which game it plays: expected game="pong" (GAME=pong for make), '
            f"or another of {', '.join(GAMES)}"
        )
    network, facts = import_checkpoint(path, game)
    facts["sha256"] = _sha256(path)
    style = preprocessing(facts["preprocessing"])
    return join_parts(path.stem, game, network, style, facts.pop("settings"), facts)


def read_row(row_file: Path) -> dict:
    """Read the row of an agent.

    Raises:
        ValueError: if the file is no row; it names the file and what is wrong with it.
    """
    try:
        row = yaml.safe_load(row_file.read_bytes()) if row_file.stat().st_size < MAX_ROW else None
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise ValueError(f"{row_file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(row, dict) or (missing := [key for key in ROW_NEEDS if key not in row]):
        lacks = f"lacks {', '.join(missing)}" if isinstance(row, dict) else "is no mapping"
        raise ValueError(f"{row_file} {lacks}; the row of an agent names {', '.join(ROW_NEEDS)}")
    return row


def _load_row(row_file: Path, name: str) -> Agent:
    row = read_row(row_file)
    for key in ("settings", "architecture_arguments"):
        if not isinstance(row.get(key) or {}, dict):
            raise ValueError(f"{row_file}: {key} is {row[key]!r}, expected a mapping")
    weights = _fetch(name, row) if "url" in row else _weights_of(row_file)
    if not weights.is_file():
        raise paths.MissingDataError(
            f"agent {name} missing: it has the row {row_file}, but no {weights.name}"
        )
    found = _sha256(weights)
    if found != row["sha256"]:
        raise ValueError(
            f"{weights} is damaged or not the file of agent {name!r}: its sha256 is {found}, "
            f"expected {row['sha256']}"
        )
    ours = weights.suffix == ".safetensors"
    network = _network_of_row(row, weights) if ours else _foreign_network(row, weights)
    style = preprocessing(row["preprocessing"])
    return join_parts(name, row["game"], network, style, row["settings"] or {}, row)


def _network_of_row(row: dict, weights: Path) -> Network:
    """Build the network that a row names, and give it the weights of a file of ours."""
    arrays, _ = read_weights(weights)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    full_action_space = bool((row["settings"] or {}).get("full_action_space", False))
    num_actions = len(action_meanings(row["game"], full_action_space))
    arguments = row.get("architecture_arguments")
    try:
        if arguments is None and row["architecture"] in RECOGNISED:
            # Rows from before the registry name no arguments: the shapes of the parameters do.
            _, facts = network_from_state_dict(state, ours=True)
            arguments = facts["architecture_arguments"]
        return load_network(row["architecture"], num_actions, state, arguments or {})
    except ValueError as error:
        raise ValueError(
            f"{weights} does not hold the network {row['architecture']!r} for the {num_actions} "
            f"actions of {row['game']}, as its row says: {error}"
        ) from error


def _foreign_network(row: dict, weights: Path) -> Network:
    """Recognise the network of other people's weights, and require the one that the row names."""
    network, facts = import_checkpoint(weights, row["game"])
    if facts["architecture"] != row["architecture"]:
        raise ValueError(
            f"{weights} holds the architecture {facts['architecture']!r}, but the row of the agent "
            f"says {row['architecture']!r}"
        )
    return network


def _fetch(name: str, row: dict) -> Path:
    """Return the weights of other people's agent in the cache, fetched if they are not there."""
    import pooch  # loading it takes a tenth of a second, and only foreign weights need it

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
        raise paths.MissingDataError(
            f"agent {name} missing: the weights of agent {name!r} are not in the cache "
            f"{paths.cache() / 'agents'} and cannot be taken from {address} "
            f"({str(error)[:300]}). Connect to the network once, or set {MIRROR} to a folder or "
            f"server that has {row['path']}"
        ) from error
    return Path(cached)


def _copy(url: str, output_file: str, _pooch) -> None:
    """Download from a folder."""
    shutil.copyfile(url2pathname(urlsplit(url).path), output_file)


def _float16(network: nn.Module) -> bytes:
    """Return the file of a network's weights."""
    state = {name: value.detach().cpu().half() for name, value in network.state_dict().items()}
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"parameter {name} holds numbers that float16 cannot hold")
    return save_safetensors(state)


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
