"""Novelty of states against the nearest known ones."""

import numpy as np
import pytest

from atarilens.features import novelty


def test_nearest_and_changed_equal_a_plain_search():
    generator = np.random.default_rng(0)
    states, known = generator.random((4, 3, 6, 5)), generator.random((7, 3, 6, 5))
    found = novelty(states, known)
    for k, state in enumerate(states):
        nearest = min(range(7), key=lambda m: ((state - known[m]) ** 2).sum())
        assert found.nearest[k] == nearest
        other = known[nearest]
        differs = np.abs(state - other) / np.maximum(other, 8 / 255) > 0.25
        assert found.changed[k] == pytest.approx(differs.any(0).mean())


def test_a_known_state_is_not_new_and_survival_counts_by_hand():
    known = np.zeros((1, 1, 10, 10))
    states = np.zeros((3, 1, 10, 10))
    states[1, :, 0] = 1.0  # a tenth of the pixels: not over 10 %
    states[2, :, :3] = 1.0  # three tenths
    found = novelty(states, known)
    np.testing.assert_allclose(found.changed, [0, 0.1, 0.3])
    np.testing.assert_allclose(found.survival()[:2], [1 / 3, 1 / 3])
    assert found.survival()[3:].sum() == 0


def test_states_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected known states \[m, 3, 8, 8\]"):
        novelty(np.zeros((2, 3, 8, 8)), np.zeros((2, 1, 8, 8)))
