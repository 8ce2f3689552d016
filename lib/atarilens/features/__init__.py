"""What a network responds to: states synthesised for an agent, and inputs that excite a unit."""

from atarilens.features.goggles import SURVIVES, contrast_left, with_goggles
from atarilens.features.inputs import Smoothness, exciting_inputs, used_filters, value_of
from atarilens.features.novelty import novelty
from atarilens.features.states import (
    StateModel,
    grey_of,
    list_state_models,
    mask_pictures,
    observations_of,
    pictures_of,
    states_of,
)
from atarilens.features.synthesis import SynthesizedStates, synthesize, target_loss, target_measure

__all__ = [
    "SURVIVES",
    "Smoothness",
    "StateModel",
    "SynthesizedStates",
    "contrast_left",
    "exciting_inputs",
    "grey_of",
    "list_state_models",
    "mask_pictures",
    "novelty",
    "observations_of",
    "pictures_of",
    "states_of",
    "synthesize",
    "target_loss",
    "target_measure",
    "used_filters",
    "value_of",
    "with_goggles",
]
