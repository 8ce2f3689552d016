"""Inputs that excite a unit: gradient ascent with known optima."""

import numpy as np
import pytest
import torch

from atarilens.features import Smoothness, exciting_inputs, used_filters
from atarilens.features.inputs import sobolev_gradient, total_variation


def test_the_input_that_excites_a_linear_unit_is_its_sign():
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(1))
    found = exciting_inputs(lambda x: (x * weight).sum((1, 2, 3)), (1, 8, 8), count=2)
    np.testing.assert_allclose(found.observations[0, 0], (weight[0] > 0).float(), atol=1e-3)
    assert found.activation == pytest.approx(float(weight.clamp(min=0).sum()), rel=1e-3)


def test_a_search_is_reproducible_from_its_seed():
    def unit(x):
        return torch.tanh(x[:, 0, 2:6, 2:6].sum((1, 2)) - x.mean((1, 2, 3)))

    smoothness = Smoothness(total_variation=1.0, blur_sigma=0.5, jitter=2, sobolev=1.0)
    runs = [
        exciting_inputs(unit, (1, 8, 8), seed=seed, steps=20, smoothness=smoothness).observations
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_smoothness_makes_inputs_smoother():
    weight = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1))

    def unit(x):
        return (x * weight).sum((1, 2, 3))

    rough = exciting_inputs(unit, (1, 16, 16), steps=60)
    for smoothness in (Smoothness(total_variation=500.0), Smoothness(blur_sigma=1.0)):
        smooth = exciting_inputs(unit, (1, 16, 16), steps=60, smoothness=smoothness)
        variation = [
            total_variation(torch.from_numpy(x.observations)).mean() for x in (smooth, rough)
        ]
        assert variation[0] < 0.8 * variation[1]


def test_the_sobolev_gradient_solves_its_equation():
    u = torch.randn(1, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    laplacian = sum(torch.roll(u, s, d) for s in (1, -1) for d in (2, 3)) - 4 * u
    torch.testing.assert_close(sobolev_gradient(u - 2.0 * laplacian, 2.0), u)
    torch.testing.assert_close(sobolev_gradient(u, 0.0), u)


def test_used_filters_by_hand():
    weight = np.zeros((3, 2, 2))
    weight[0], weight[1] = 1.0, 0.05
    assert used_filters(weight).tolist() == [True, False, False]


def test_an_activation_that_is_not_finite_is_refused():
    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        exciting_inputs(lambda x: x.sum((1, 2, 3)) / 0, (1, 4, 4))
