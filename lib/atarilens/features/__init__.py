"""What a network responds to: states synthesised for an agent, and inputs that excite a unit."""

from atarilens.features.classifying import (
    ToldApart,
    random_screens,
    resized,
    stacked,
    tell_apart,
    without_score,
)
from atarilens.features.goggles import SURVIVES, contrast_left, with_goggles
from atarilens.features.inputs import Smoothness, exciting_inputs, used_filters, value_of
from atarilens.features.novelty import novelty
from atarilens.features.representations import (
    Kinship,
    PointMap,
    Watched,
    kinship,
    map_agreement,
    neighbour_runs,
    neighbours_kept,
    ram_points,
    watch,
)
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
    "Kinship",
    "PointMap",
    "Smoothness",
    "StateModel",
    "SynthesizedStates",
    "ToldApart",
    "Watched",
    "contrast_left",
    "exciting_inputs",
    "grey_of",
    "kinship",
    "list_state_models",
    "map_agreement",
    "mask_pictures",
    "neighbour_runs",
    "neighbours_kept",
    "novelty",
    "observations_of",
    "pictures_of",
    "ram_points",
    "random_screens",
    "resized",
    "stacked",
    "states_of",
    "synthesize",
    "target_loss",
    "target_measure",
    "tell_apart",
    "used_filters",
    "value_of",
    "watch",
    "with_goggles",
    "without_score",
]
