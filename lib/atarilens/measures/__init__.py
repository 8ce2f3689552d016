"""Numbers about saliency maps, each with the controls that could beat it."""

from atarilens.measures.attention import ObjectAttention, attention_by_object, by_episode
from atarilens.measures.controls import (
    apart,
    different_episodes,
    elsewhere,
    other_times,
    spread_steps,
)
from atarilens.measures.courses import around_events
from atarilens.measures.intervals import (
    bootstrap_interval,
    equivalence_test,
    intervals,
    mean_difference,
    mean_interval,
)
from atarilens.measures.verdicts import contrast, joint_verdict, verdict, what_came_out

__all__ = [
    "ObjectAttention",
    "apart",
    "around_events",
    "attention_by_object",
    "bootstrap_interval",
    "by_episode",
    "contrast",
    "different_episodes",
    "elsewhere",
    "equivalence_test",
    "intervals",
    "joint_verdict",
    "mean_difference",
    "mean_interval",
    "other_times",
    "spread_steps",
    "verdict",
    "what_came_out",
]
