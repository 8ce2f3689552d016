"""Maps of hidden layers and RAM, and the tests on the points themselves: known answers."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from atarilens.agents import zoo
from atarilens.features import (
    PointMap,
    kinship,
    map_agreement,
    neighbour_runs,
    neighbours_kept,
    ram_points,
    watch,
)


@pytest.fixture(scope="module")
def watched():
    return watch(zoo.load("ga", "freeway"), episodes=2, steps=40, every=4)


def test_watching_keeps_moments_of_each_game(watched):
    assert watched.episode.tolist() == sorted(watched.episode)
    assert set(watched.episode) == {0, 1}
    assert 14 <= len(watched.frames) <= 20
    assert watched.score[0] == 0
    inputs = torch.from_numpy(watched.observations), torch.from_numpy(watched.memory)
    with torch.inference_mode():
        hidden = watched.agent.network.features(*inputs).numpy()
    np.testing.assert_array_equal(watched.hidden, hidden)
    shown = watched.agent.preprocessing.function(watched.frames)
    np.testing.assert_array_equal(watched.screens, 255 * shown)
    again = watch(watched.agent, episodes=2, steps=40, every=4)
    np.testing.assert_array_equal(watched.ram, again.ram)


def test_clocks_are_found(watched):
    assert 0 < watched.restless.sum() < 64


def test_points_of_ram_are_bits_or_bytes_without_clocks():
    ram = np.zeros((3, 128), np.uint8)
    ram[:, 5], ram[:, 9], ram[:, 0] = [0, 1, 3], [7, 7, 7], [1, 2, 3]
    restless = np.arange(128) == 0
    np.testing.assert_array_equal(ram_points(ram, restless), [[0, 0], [0, 1], [1, 1]])
    np.testing.assert_array_equal(ram_points(ram, restless, bits=False), [[0], [1], [3]])


def test_points_that_are_transformed_land_near_their_places():
    generator = np.random.default_rng(0)
    centres = 8 * generator.normal(size=(3, 12))
    points = np.repeat(centres, 40, axis=0) + generator.normal(size=(120, 12))
    found = PointMap(points, perplexity=10)
    assert found.places.shape == (120, 2)
    apart = np.linalg.norm(found.transform(points) - found.places, axis=1)
    assert np.median(apart) < 0.1 * np.ptp(found.places)
    assert neighbours_kept(points, found.places) > 0.3 > neighbours_kept(points, points[::-1, :2])
    newcomers = found.transform(centres + generator.normal(size=centres.shape))
    nearest = np.linalg.norm(newcomers[:, None] - found.places, axis=2).argmin(1) // 40
    np.testing.assert_array_equal(nearest, range(3))


def test_a_map_needs_points():
    with pytest.raises(ValueError, match="perplexity 30 needs more than 90 points, received 20"):
        PointMap(np.zeros((20, 4)))


def test_neighbours_are_counted_in_other_runs_only():
    points = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 1.2, 9.0, 9.1, 9.2])[:, None]
    found = neighbour_runs(points, np.repeat(range(3), 3), k=3)
    np.testing.assert_allclose(found, [[0, 1, 0], [1, 0, 0], [0, 1, 0]])


def test_kinship_on_known_matrices():
    names = ["a", "a", "b", "b", "c", "c"]
    same = np.equal.outer(names, names)
    found = kinship(0.2 + 0.6 * same, names)
    assert (found.same, found.other) == pytest.approx((0.8, 0.2))
    assert found.groupings == 15  # six runs in three pairs
    assert found.p_value == pytest.approx(1 / 15)
    alike = kinship(np.ones((6, 6)), names)
    assert alike.p_value == 1
    opposite = kinship(0.8 - 0.6 * same, names)
    assert opposite.p_value == 1
    alone = kinship(np.ones((3, 3)), ["a", "b", "c"])
    assert np.isnan(alone.p_value)
    assert np.isnan(alone.same)
    assert alone.other == 1


def test_kinship_of_many_runs_is_sampled_and_repeatable():
    generator = np.random.default_rng(0)
    names = np.repeat(["a", "b", "c", "d"], 3)
    alike = generator.random((12, 12))
    first, second = kinship(alike, names), kinship(alike, names)
    assert first == second
    assert 0 < first.p_value <= 1


def test_maps_agree_by_ranks_whatever_their_scale():
    generator = np.random.default_rng(0)
    grid = generator.random((4, 5, 5))
    found = map_agreement([grid, 1000 * grid**3, -grid, np.ones((4, 5, 5))])
    np.testing.assert_allclose(found[:, 0, :3], [[1, 1, -1]] * 4)
    assert np.isnan(found[:, :, 3]).all()
    for t in range(4):
        later = map_agreement([grid, grid[::-1]], shift=1)[t, 0, 1]
        expected = spearmanr(grid[t].ravel(), grid[::-1][(t + 1) % 4].ravel()).statistic
        assert later == pytest.approx(expected)
    by_value = map_agreement([grid, 3 * grid + 1, grid**3], measure="values")[0, 0]
    assert by_value[:2] == pytest.approx([1, 1])
    assert by_value[2] == pytest.approx(np.corrcoef(grid[0].ravel(), grid[0].ravel() ** 3)[0, 1])
    with pytest.raises(ValueError, match="measure is 'faith', expected 'ranks' or 'values'"):
        map_agreement([grid], measure="faith")
