"""What a network responds to: states synthesised for an agent, and inputs that excite a unit."""

from atarilens.features.goggles import contrast_left, with_goggles
from atarilens.features.inputs import Smoothness, exciting_inputs, used_filters
from atarilens.features.novelty import novelty
from atarilens.features.states import (
    StateModel,
    list_state_models,
    observations_of,
    pictures_of,
    states_of,
)
from atarilens.features.synthesis import SynthesizedStates, synthesize, target_loss, target_measure

__all__ = [
    "Smoothness",
    "StateModel",
    "SynthesizedStates",
    "contrast_left",
    "exciting_inputs",
    "list_state_models",
    "novelty",
    "observations_of",
    "pictures_of",
    "states_of",
    "synthesize",
    "target_loss",
    "target_measure",
    "used_filters",
    "with_goggles",
]
