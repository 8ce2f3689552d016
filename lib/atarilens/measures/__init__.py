"""Numbers about saliency maps, each with the controls that could beat it."""

from atarilens.measures.attention import ObjectAttention, attention_by_object, by_episode
from atarilens.measures.change_points import ChangePoint, change_point
from atarilens.measures.controls import (
    apart,
    different_episodes,
    elsewhere,
    other_times,
    spread_steps,
)
from atarilens.measures.courses import around_events
from atarilens.measures.deletion import (
    Effect,
    deletion_effect,
    effects_of,
    image_change,
    painted_over,
    pasted,
    places_elsewhere,
    saliency_per_change,
)
from atarilens.measures.intervals import (
    bootstrap_interval,
    equivalence_test,
    intervals,
    mean_difference,
    mean_interval,
)
from atarilens.measures.multiple_tests import (
    Absence,
    Corrected,
    absent,
    holm,
    joint_p_value,
    p_value,
)
from atarilens.measures.verdicts import contrast, joint_verdict, verdict, what_came_out

__all__ = [
    "Absence",
    "ChangePoint",
    "Corrected",
    "Effect",
    "ObjectAttention",
    "absent",
    "apart",
    "around_events",
    "attention_by_object",
    "bootstrap_interval",
    "by_episode",
    "change_point",
    "contrast",
    "deletion_effect",
    "different_episodes",
    "effects_of",
    "elsewhere",
    "equivalence_test",
    "holm",
    "image_change",
    "intervals",
    "joint_p_value",
    "joint_verdict",
    "mean_difference",
    "mean_interval",
    "other_times",
    "p_value",
    "painted_over",
    "pasted",
    "places_elsewhere",
    "saliency_per_change",
    "spread_steps",
    "verdict",
    "what_came_out",
]
