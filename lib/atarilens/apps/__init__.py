"""Interactive pages: the explorer, the quiz, and the recorder for TensorBoard."""

from importlib import import_module

_HOME = {
    "browse": "zoo_browser",
    "explore": "explorer",
    "AgentRecorder": "recorder",
    "sb3_callback": "recorder",
    "show_map": "point_map",
    "tensorboard_command": "recorder",
    "training_callback": "recorder",
    "walk": "latent_walk",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    """Import a name from its module on first use: the recorder alone needs TensorBoard."""
    if name not in _HOME:
        raise AttributeError(f"module 'atarilens.apps' has no attribute {name!r}")
    return getattr(import_module(f"atarilens.apps.{_HOME[name]}"), name)
