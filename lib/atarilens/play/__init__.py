"""Let agents play, re-create their play exactly, and score it."""

from atarilens.play.inference import watch
from atarilens.play.obedience import follows_random_hint
from atarilens.play.rollouts import replay, rollout
from atarilens.play.scores import Scores, evaluate, read_scores, write_scores
from atarilens.play.trajectories import (
    Trajectory,
    load_replay,
    load_trajectory,
    save_replay,
    save_trajectory,
)

__all__ = [
    "Scores",
    "Trajectory",
    "evaluate",
    "follows_random_hint",
    "load_replay",
    "load_trajectory",
    "read_scores",
    "replay",
    "rollout",
    "save_replay",
    "save_trajectory",
    "watch",
    "write_scores",
]
