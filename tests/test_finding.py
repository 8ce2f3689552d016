"""Objects are found in the pixels of real screens where the RAM has them."""

import numpy as np
import pytest

from atarilens import games, load_agent, rollout
from atarilens.features import find_object, states_of

PLACES = [(5, 3), (9, 12), (2, 7), (12, 5), (7, 9)]


def drawn(places, strength=1.0) -> np.ndarray:
    """Return dark states `[n, 3, 20, 20]` with a ball of 2 x 2 px at each place."""
    states = np.zeros((len(places), 3, 20, 20), np.float32)
    for state, (y, x) in zip(states, places, strict=True):
        state[:, y : y + 2, x : x + 2] = strength
    return states


def test_an_object_is_found_by_hand():
    real = drawn(PLACES)
    boxes = [{"ball": np.array([[y, y + 2, x, x + 2]], float)} for y, x in PLACES]
    places, strength = find_object(drawn([(8, 4), (3, 11)], 0.75), real, boxes, "ball")
    assert places.tolist() == [[8, 4], [3, 11]]
    np.testing.assert_allclose(strength, 0.75)
    places, strength = find_object(drawn([(8, 4)], 0.4), real, boxes, "ball")
    assert np.isnan(places).all()  # too faint to count
    np.testing.assert_allclose(strength, 0.4, rtol=1e-6)
    places, _ = find_object(drawn([(18, 18)]), real, boxes, "ball")
    assert np.isnan(places).all()  # where no ball of a real state is
    with pytest.raises(ValueError, match="none of the 5 real states has a whole 'ball'"):
        find_object(real, real, [{"ball": np.zeros((0, 4))}] * 5, "ball")


def test_pongs_ball_is_found_where_the_ram_has_it():
    agent = load_agent("untrained-pong")
    trajectory = rollout(agent, seed=3, max_steps=90)
    flies = np.flatnonzero((trajectory.ram[:, 54] > 60) & (trajectory.ram[:, 54] < 190))
    states = states_of(agent, trajectory.frames[flies])
    boxes = games.boxes_at("pong", trajectory.ram[flies], agent.region)
    places, _ = find_object(states, states, boxes, "ball")
    expected = np.array([moment["ball"][0][[0, 2]] for moment in boxes])
    assert len(flies) > 20
    assert np.mean(np.abs(places - expected).max(1) <= 1.5) > 0.95
