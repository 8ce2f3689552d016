"""See why an Atari deep-RL agent does what it does.

Imports run one way, from right to left in this list: `paths` · `games`, `saliency` · `agents`,
`measures` · `play` · `views`, `features` · `apps`.

| package    | what it is for                                                               |
|------------|------------------------------------------------------------------------------|
| `paths`    | the directories of the repository and the user's cache                       |
| `games`    | emulators, and the objects and events that their RAM tells                   |
| `saliency` | maps of one decision: pure functions of (network, observation, memory)       |
| `agents`   | networks, what they read of the screen, and the files that hold them         |
| `measures` | numbers about maps, each with the controls that could beat it                |
| `play`     | rollouts, replays, scores                                                    |
| `views`    | arrays to pictures, figures and movies                                       |
| `apps`     | the explorer, the quiz, the TensorBoard recorder                             |

The public names below are imported when they are first used, so `import atarilens` costs nothing.
"""

from importlib import import_module

_HOME = {
    "load_agent": "agents",
    "list_agents": "agents",
    "save_agent": "agents",
    "make_env": "games",
    "rollout": "play",
    "replay": "play",
    "evaluate": "play",
    "overlay": "views",
    "perturbation_saliency": "saliency",
    "jacobian_saliency": "saliency",
    "memory_saliency": "saliency",
    "attention_by_object": "measures",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'atarilens' has no attribute {name!r}")
    value = getattr(import_module(f"atarilens.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":  # quoted: `make doctor` imports this on older Pythons
    """List the public names, imported or not."""
    return sorted([*globals(), *_HOME])
