"""Games: emulators under explicit settings, objects and events read from the RAM."""

from atarilens.games.emulators import (
    STICKINESS,
    AtariEnv,
    EnvironmentSettings,
    ObservationEnv,
    action_meanings,
    make_env,
    make_vector_env,
)
from atarilens.games.events import (
    aimed_shots,
    breakout_paddle_hits,
    event,
    find_events,
    first_ball_above_bricks,
    hits_on_aliens,
    last_paddle_hit_before_point,
    pong_paddle_hits,
)
from atarilens.games.hints import draw_hint, hint_box
from atarilens.games.objects import (
    GAMES,
    aliens,
    boxes_at,
    bricks,
    cell,
    game,
    has_objects,
    object_boxes,
    to_observation,
)

__all__ = [
    "GAMES",
    "STICKINESS",
    "AtariEnv",
    "EnvironmentSettings",
    "ObservationEnv",
    "action_meanings",
    "aimed_shots",
    "aliens",
    "boxes_at",
    "breakout_paddle_hits",
    "bricks",
    "cell",
    "draw_hint",
    "event",
    "find_events",
    "first_ball_above_bricks",
    "game",
    "has_objects",
    "hint_box",
    "hits_on_aliens",
    "last_paddle_hit_before_point",
    "make_env",
    "make_vector_env",
    "object_boxes",
    "pong_paddle_hits",
    "to_observation",
]
