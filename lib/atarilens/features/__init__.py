"""What a network responds to: states synthesised for an agent, and inputs that excite a unit."""

from atarilens.features.classifying import (
    ToldApart,
    random_screens,
    resized,
    stacked,
    tell_apart,
    without_score,
)
from atarilens.features.filters import past_share, strongest_filters, temporal_lean
from atarilens.features.finding import find_object
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
from atarilens.features.units import (
    Patch,
    activations,
    layers_of,
    live_units,
    receptive_fields,
    top_patches,
    unit_activation,
)

__all__ = [
    "SURVIVES",
    "Kinship",
    "Patch",
    "PointMap",
    "Smoothness",
    "StateModel",
    "SynthesizedStates",
    "ToldApart",
    "Watched",
    "activations",
    "contrast_left",
    "exciting_inputs",
    "find_object",
    "grey_of",
    "kinship",
    "layers_of",
    "list_state_models",
    "live_units",
    "map_agreement",
    "mask_pictures",
    "neighbour_runs",
    "neighbours_kept",
    "novelty",
    "observations_of",
    "past_share",
    "pictures_of",
    "ram_points",
    "random_screens",
    "receptive_fields",
    "resized",
    "stacked",
    "states_of",
    "strongest_filters",
    "synthesize",
    "target_loss",
    "target_measure",
    "tell_apart",
    "temporal_lean",
    "top_patches",
    "unit_activation",
    "used_filters",
    "value_of",
    "watch",
    "with_goggles",
    "without_score",
]
