"""See why an Atari deep-RL agent does what it does.

Map of the modules, in the order in which they import one another (a line may use those above it):

| module         | what it is for                                                             |
|----------------|----------------------------------------------------------------------------|
| `paths`        | the directories of the repository and the user's cache                     |
| `games`        | facts about each game; where its objects are, read from the emulator's RAM |
| `moments`      | when something happens: paddle hits, kill shots, aimed shots; from the RAM |
| `saliency`     | pure functions of (network, observation, memory); imports nothing of ours  |
| `preprocessing`| screen -> observation                                                      |
| `models`       | (observation, memory) -> (action logits, value, memory)                    |
| `envs`         | the one environment factory, and the hints of the overfit study            |
| `importers`    | other people's checkpoints -> networks                                     |
| `agents`       | network + preprocessing + actions + settings + provenance                  |
| `recordings`   | a trajectory kept whole (HDF5), or as a replay of some kilobytes           |
| `watching`     | what an agent reads, remembers and thinks of screens, whoever plays        |
| `trajectories` | what happened, step by step: rollout, replay, save, load                   |
| `hints`        | does an agent do what a random hint says                                   |
| `evaluation`   | scores by episode, with intervals                                          |
| `training`     | recurrent PPO, and imitation for the overfit study                         |
| `episodes`     | numbers per episode: attention, averages around events, controls, verdicts |
| `views`        | arrays -> pictures, figures and movies                                     |
| `explanations` | the standard figures and the movie of any agent                            |
| `explorer`     | the widgets of notebook 10, and the quiz of notebook 11                    |
| `recorder`     | episodes of any training loop -> TensorBoard                               |
| `figures`      | params file + notebook -> figure, and the comparison with what is stored   |
| `benchmark`    | how fast this machine explains, beside the original and Captum             |
| `shipping`     | a checkpoint -> data/agents, measured on the very file                     |
| `doctor`       | what this machine lacks, in words                                          |
| `cli`          | `atarilens evaluate`, `movie`, `explain`, `train` ...                      |

The public names below are imported when they are first used, so `import atarilens` costs nothing.
"""

from importlib import import_module

_HOME = {
    "load_agent": "agents",
    "list_agents": "agents",
    "save_agent": "agents",
    "make_env": "envs",
    "rollout": "trajectories",
    "replay": "trajectories",
    "evaluate": "evaluation",
    "overlay": "views",
    "perturbation_saliency": "saliency",
    "jacobian_saliency": "saliency",
    "memory_saliency": "saliency",
    "attention_by_object": "saliency",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'atarilens' has no attribute {name!r}")
    value = getattr(import_module(f"atarilens.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted([*globals(), *_HOME])
