"""Let agents play, re-create their play exactly, and score it."""

from atarilens.play.archive import ZooRollout, archived, zoo_rollout
from atarilens.play.gaze_trials import (
    GazeTrial,
    gaze_folder,
    list_gaze_trials,
    load_gaze_trial,
    watched,
)
from atarilens.play.inference import Stream, observations_at, run_network, seen_by
from atarilens.play.interventions import Branches, effects, intervene
from atarilens.play.noise import (
    Robustness,
    matched,
    noisy_weights,
    play_with_noise,
    robustness,
)
from atarilens.play.obedience import follows_random_hint
from atarilens.play.rollouts import games_of, open_games, replay, rollout
from atarilens.play.scores import Scores, evaluate, read_scores, write_scores
from atarilens.play.synthetic_gaze import open_gaze_trials, write_synthetic_trials
from atarilens.play.trajectories import (
    Trajectory,
    load_replay,
    load_trajectory,
    save_replay,
    save_trajectory,
)

__all__ = [
    "Branches",
    "GazeTrial",
    "Robustness",
    "Scores",
    "Stream",
    "Trajectory",
    "ZooRollout",
    "archived",
    "effects",
    "evaluate",
    "follows_random_hint",
    "games_of",
    "gaze_folder",
    "intervene",
    "list_gaze_trials",
    "load_gaze_trial",
    "load_replay",
    "load_trajectory",
    "matched",
    "noisy_weights",
    "observations_at",
    "open_games",
    "open_gaze_trials",
    "play_with_noise",
    "read_scores",
    "replay",
    "robustness",
    "rollout",
    "run_network",
    "save_replay",
    "save_trajectory",
    "seen_by",
    "watched",
    "write_scores",
    "write_synthetic_trials",
    "zoo_rollout",
]
