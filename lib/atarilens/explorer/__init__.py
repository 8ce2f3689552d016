"""See an agent think: functions that explain one screen, and the page that calls them."""

from atarilens.explorer.decision import (
    Explanation,
    Knobs,
    Probe,
    agents_of,
    checkpoints,
    episode_gain,
    explain,
    probe,
    replays_of,
    saliency_of,
)
from atarilens.explorer.exploration import Exploration
from atarilens.explorer.page import Explorer, explore

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
    "probe",
    "replays_of",
    "saliency_of",
]
