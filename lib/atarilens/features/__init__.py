"""What a network responds to: states synthesised for an agent."""

from atarilens.features.states import StateModel, list_state_models, observations_of, states_of
from atarilens.features.synthesis import SynthesizedStates, synthesize, target_loss

__all__ = [
    "StateModel",
    "SynthesizedStates",
    "list_state_models",
    "observations_of",
    "states_of",
    "synthesize",
    "target_loss",
]
