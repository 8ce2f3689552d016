"""The explorer: functions that explain one decision of an agent, and the page that calls them."""

from atarilens.apps.explorer.decision import (
    Explanation,
    Knobs,
    Probe,
    agents_of,
    checkpoints,
    episode_gain,
    explain,
    first_step,
    probe,
    replays_of,
    saliency_of,
)
from atarilens.apps.explorer.exploration import Exploration
from atarilens.apps.explorer.page import Explorer, explore

__all__ = [
    "Explanation",
    "Exploration",
    "Explorer",
    "Knobs",
    "Probe",
    "agents_of",
    "checkpoints",
    "episode_gain",
    "explain",
    "explore",
    "first_step",
    "probe",
    "replays_of",
    "saliency_of",
]
