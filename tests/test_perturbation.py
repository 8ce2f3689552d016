"""Perturbation saliency: known answers, a plain re-implementation, the original's numbers."""

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

import atarilens
from atarilens.agents.networks import RecurrentActorCritic, initialise
from atarilens.saliency import (
    gaussian_mask,
    jacobian_saliency,
    perturb,
    perturbation_saliency,
    upsample,
)
from atarilens.saliency.maps import upsample_paper
from atarilens.saliency.masks import mask_factors
from atarilens.saliency.perturbation import Settings, score_frames

REFERENCE = os.environ.get("ATARILENS_REFERENCE")
needs_reference = pytest.mark.skipif(
    not REFERENCE, reason="ATARILENS_REFERENCE does not name a folder with perturbation_*.npz"
)


class Linear(nn.Module):
    """logits = W x, value = w x: its saliency has a closed form."""

    memory_shape = (0, 0)

    def __init__(self, weights, value_weights=None):
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))
        self.register_buffer(
            "value_weights",
            None if value_weights is None else torch.as_tensor(value_weights, dtype=torch.float32),
        )

    def forward(self, observation, memory):
        flat = observation.flatten(1)
        value = None if self.value_weights is None else flat @ self.value_weights.flatten()
        return flat @ self.weights.flatten(1).T, value, memory


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["lstm", "gru"])
def recurrent(request):
    network = initialise(RecurrentActorCritic(4, request.param), seed=1).eval()
    with torch.no_grad():
        network.actor_linear.weight.mul_(100)
        getattr(network, request.param).weight_ih.mul_(3)  # livelier than an untrained network
    return network


def moment(network, seed=0, count=None):
    """An observation of random shapes and a memory, or a batch of them."""
    generator = np.random.default_rng(seed)
    shape = () if count is None else (count,)
    observation = generator.random((*shape, *network.observation_shape))
    observation = gaussian_filter(observation, (0,) * (observation.ndim - 2) + (1, 1)) > 0.55
    memory = generator.uniform(-1, 1, (*shape, *network.memory_shape))
    return observation.astype(np.float32), memory.astype(np.float32)


def one_mask_at_a_time(network, observation, memory, stride=5, mask_sigma=5.0, blur_sigma=3.0):
    """The definition, literally: one forward pass per mask."""
    image = observation[0]

    def forward(picture):
        with torch.no_grad():
            logits, value, _ = network(
                torch.as_tensor(picture, dtype=torch.float32)[None, None],
                torch.tensor(memory)[None],
            )
        return logits[0].double().numpy(), value[0].double().numpy()

    logits, value = forward(image)
    rows, columns = range(0, image.shape[0], stride), range(0, image.shape[1], stride)
    actor, critic = np.zeros((2, len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            mask = np.zeros(image.shape)
            for y, x in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
                if 0 <= row + y < image.shape[0] and 0 <= column + x < image.shape[1]:
                    mask[row + y, column + x] = 1
            mask = gaussian_filter(mask, mask_sigma)
            mask /= mask.max()
            changed = image * (1 - mask) + gaussian_filter(image, blur_sigma) * mask
            new_logits, new_value = forward(changed)
            actor[i, j] = 0.5 * ((logits - new_logits) ** 2).sum()
            critic[i, j] = 0.5 * (value - new_value) ** 2
    return actor, critic


def assert_equal(grid, expected, tolerance=1e-4):
    assert grid.shape == expected.shape
    assert np.abs(grid - expected).max() <= tolerance * np.abs(expected).max()


# Masks


@pytest.mark.parametrize("centre", [(0, 0), (0, 79), (40, 35), (77, 2)])
def test_mask_factors_equal_the_definition(centre):
    rows, columns, scale = mask_factors((80, 80), 1, 5.0)
    i, j = centre
    mask = np.einsum("ry,rx->yx", rows[:, i], columns[:, j]) * scale[i, j]
    np.testing.assert_allclose(mask, gaussian_mask(centre, (80, 80), 5.0), atol=1e-6)


def test_mask_is_one_at_its_centre_and_zero_beyond_21_px():
    mask = gaussian_mask((40, 30), (80, 80), 5.0)
    assert mask[40, 30] == 1
    assert mask[40 + 21, 30] > 0
    assert not mask[40 + 22 :].any()
    assert not mask[:, 30 + 22 :].any()
    np.testing.assert_allclose(mask, mask[::-1][np.r_[79, 0:79]], atol=1e-12)  # even around row 40


def test_mask_factors_of_other_shapes():
    rows, columns, scale = mask_factors((21, 34), 4, 2.5)
    assert scale.shape == (6, 9)
    mask = np.einsum("ry,rx->yx", rows[:, 5], columns[:, 1]) * scale[5, 1]
    np.testing.assert_allclose(mask, gaussian_mask((20, 4), (21, 34), 2.5), atol=1e-6)


# Known answers


def test_linear_agent_has_its_closed_form():
    generator = np.random.default_rng(0)
    weights, value_weights = (
        generator.normal(size=(3, 1, 24, 30)),
        generator.normal(size=(1, 24, 30)),
    )
    observation = generator.random((1, 24, 30)).astype(np.float32)
    maps = perturbation_saliency(Linear(weights, value_weights), observation, stride=4)
    blurred = gaussian_filter(observation[0].astype(np.float64), 3.0)
    for i, j in np.ndindex(6, 8):
        change = (blurred - observation[0]) * gaussian_mask((4 * i, 4 * j), (24, 30), 5.0)
        actor = 0.5 * ((weights[:, 0] * change).sum((1, 2)) ** 2).sum()
        critic = 0.5 * (value_weights[0] * change).sum() ** 2
        assert maps.actor_grid[i, j] == pytest.approx(actor, rel=1e-3, abs=1e-5)
        assert maps.critic_grid[i, j] == pytest.approx(critic, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("pixel", [(0, 0), (0, 29), (23, 0), (23, 29), (12, 15), (3, 20)])
def test_map_of_an_agent_that_sees_one_pixel_peaks_there(pixel):
    weights, value_weights = np.zeros((2, 1, 24, 30)), np.zeros((1, 24, 30))
    weights[1, 0, *pixel] = 1
    value_weights[0, 23 - pixel[0], 29 - pixel[1]] = 1  # the critic looks elsewhere
    observation = np.zeros((1, 24, 30), np.float32)
    observation[0, *pixel] = 1
    observation[0, 23 - pixel[0], 29 - pixel[1]] = 1
    maps = perturbation_saliency(
        Linear(weights, value_weights), observation, stride=1, mask_sigma=1.0
    )
    # At an edge the filter reflects: the mask of a neighbour can be 1 there too.
    slack = int(pixel in [(0, 0), (0, 29), (23, 0), (23, 29)])
    for head, place in ((maps.actor, pixel), (maps.critic, (23 - pixel[0], 29 - pixel[1]))):
        peak = np.unravel_index(head.argmax(), (24, 30))
        assert np.abs(np.subtract(peak, place)).max() <= slack
        assert head[place] >= 0.9 * head.max()


def test_constant_observation_and_blind_agent_give_zero():
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(3, 1, 20, 20))
    constant = np.full((1, 20, 20), 0.7, np.float32)
    assert perturbation_saliency(Linear(weights), constant).actor.max() < 1e-9
    blind = Linear(0 * weights, np.zeros((1, 20, 20)))
    maps = perturbation_saliency(blind, generator.random((1, 20, 20)))
    assert not maps.actor.any()
    assert not maps.critic.any()


def test_network_without_value_has_no_critic():
    maps = perturbation_saliency(Linear(np.ones((2, 1, 20, 20))), np.eye(20)[None])
    assert maps.critic is None
    assert maps.critic_grid is None


def test_centred_ignores_a_change_common_to_all_actions():
    weights = np.zeros((2, 1, 20, 20))
    weights[:, 0, 10, 10] = 1
    observation = np.zeros((1, 20, 20))
    observation[0, 10, 10] = 1
    assert perturbation_saliency(Linear(weights), observation).actor.max() > 0.1
    assert perturbation_saliency(Linear(weights), observation, centred=True).actor.max() < 1e-9


def test_channels_one_by_one_and_summed():
    generator = np.random.default_rng(0)
    weights, observation = generator.normal(size=(2, 3, 20, 20)), generator.random((3, 20, 20))
    maps = perturbation_saliency(Linear(weights), observation, per_channel=True)
    for channel in range(3):
        alone = perturbation_saliency(
            Linear(weights[:, channel : channel + 1]), observation[channel : channel + 1]
        )
        np.testing.assert_allclose(maps.actor_channels[channel], alone.actor, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(maps.actor, maps.actor_channels.sum(0), rtol=1e-6)
    together = perturbation_saliency(Linear(weights), observation)
    assert together.actor_channels is None
    change = sum(
        weights[:, channel] * (gaussian_filter(observation[channel], 3.0) - observation[channel])
        for channel in range(3)
    )
    expected = 0.5 * ((change * gaussian_mask((5, 10), (20, 20), 5.0)).sum((1, 2)) ** 2).sum()
    assert together.actor_grid[1, 2] == pytest.approx(expected, rel=1e-3)


# Two ways


@pytest.mark.parametrize(("stride", "mask_sigma", "blur_sigma"), [(5, 5.0, 3.0), (11, 2.0, 1.5)])
def test_equals_one_mask_at_a_time(recurrent, stride, mask_sigma, blur_sigma):
    observation, memory = moment(recurrent)
    settings = {"stride": stride, "mask_sigma": mask_sigma, "blur_sigma": blur_sigma}
    maps = perturbation_saliency(recurrent, observation, memory, **settings)
    actor, critic = one_mask_at_a_time(recurrent, observation, memory, **settings)
    assert actor.max() > 1e-4
    assert_equal(maps.actor_grid, actor)
    assert_equal(maps.critic_grid, critic)
    np.testing.assert_allclose(maps.actor[::stride, ::stride], maps.actor_grid, rtol=1e-5)


def test_stale_memory_would_be_noticed(recurrent):
    observation, memory = moment(recurrent)
    stale = moment(recurrent, seed=9)[1]
    maps = perturbation_saliency(recurrent, observation, stale)
    actor, _ = one_mask_at_a_time(recurrent, observation, memory)
    assert np.abs(maps.actor_grid - actor).max() > 1e-2 * actor.max()


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_does_not_matter(recurrent, batch_size):
    observation, memory = moment(recurrent)
    expected = perturbation_saliency(recurrent, observation, memory, stride=10)
    maps = perturbation_saliency(recurrent, observation, memory, stride=10, batch_size=batch_size)
    assert_equal(maps.actor_grid, expected.actor_grid)
    assert_equal(maps.critic_grid, expected.critic_grid)


def test_strides_agree_where_they_meet(recurrent):
    observation, memory = moment(recurrent)
    fine = perturbation_saliency(recurrent, observation, memory, stride=8)
    coarse = perturbation_saliency(recurrent, observation, memory, stride=16)
    assert_equal(fine.actor_grid[::2, ::2], coarse.actor_grid)


def test_decisions_together_equal_decisions_alone(recurrent, capsys):
    observations, memory = moment(recurrent, count=10)  # two chunks
    maps = perturbation_saliency(recurrent, observations, memory, stride=20, progress=True)
    assert "10/10" in capsys.readouterr().err
    assert maps.actor.shape == (10, 80, 80)
    assert maps.critic_grid.shape == (10, 4, 4)
    for t in (0, 9):
        alone = perturbation_saliency(recurrent, observations[t], memory[t], stride=20)
        assert_equal(maps[t].actor, alone.actor)
        assert_equal(maps.critic[t], alone.critic)


@pytest.mark.parametrize("game", ["pong", "breakout", "spaceinvaders"])
def test_shipped_agent_equals_one_mask_at_a_time(game):
    if f"{game}-strong" not in atarilens.list_agents():
        pytest.skip(f"agent {game}-strong is not shipped yet")
    agent = atarilens.load_agent(f"{game}-strong")
    memory = moment(agent.network, seed=3)[1] * 0.3
    screen = np.zeros((210, 160, 3), np.uint8)
    screen[40:190, 20:140] = (90, 70, 20)
    screen[100:104, 60:62] = 236
    screen[120:136, 140:144] = (92, 186, 92)
    observation = agent.preprocess(screen)
    maps = perturbation_saliency(agent.network, observation, memory)
    actor, critic = one_mask_at_a_time(agent.network, observation, memory)
    assert_equal(maps.actor_grid, actor)
    assert_equal(maps.critic_grid, critic)


def test_accepts_arrays_and_tensors(recurrent):
    observation, memory = moment(recurrent)
    arrays = perturbation_saliency(recurrent, observation, memory, stride=40)
    tensors = perturbation_saliency(
        recurrent, torch.tensor(observation), torch.tensor(memory).double(), stride=40
    )
    np.testing.assert_array_equal(arrays.actor, tensors.actor)
    assert arrays.actor.dtype == np.float32


# The original


@needs_reference
@pytest.mark.parametrize(
    ("data", "checkpoint", "actions"),
    [
        ("perturbation_pong_80M.npz", "pong-v4/model.80.tar", 6),
        ("perturbation_breakout_40M.npz", "breakout-v4/model.40.tar", 4),
    ],
)
def test_equals_the_original_algorithm(data, checkpoint, actions):
    reference = np.load(Path(REFERENCE) / data)
    network = RecurrentActorCritic(actions, "gru").eval()
    path = Path(REFERENCE).parent / "agents" / "baby-a3c" / checkpoint
    network.load_state_dict(torch.load(path, weights_only=True))
    maps = perturbation_saliency(
        network, reference["observations"][:, None], reference["memory"][:, None]
    )
    for t in range(4):
        assert_equal(maps.actor_grid[t], reference["actor_grid"][t])
        assert_equal(maps.critic_grid[t], reference["critic_grid"][t])


def test_paper_resizing_equals_pillow():
    grid = np.random.default_rng(0).exponential(size=(17, 17))
    eight_bit = ((grid - grid.min()) * (255 / (grid.max() - grid.min())) + 0.5).astype(np.uint8)
    for shape in ((80, 80), (84, 60), (17, 40)):
        resized = Image.fromarray(eight_bit).resize(shape[::-1], Image.Resampling.BILINEAR)
        resized = np.asarray(resized, np.float32)
        expected = grid.max() * resized / resized.max()
        np.testing.assert_array_equal(upsample_paper(grid, shape), expected.astype(np.float32))


def test_paper_convention_squeezes_the_map():
    weights, observation = np.zeros((1, 1, 80, 80)), np.zeros((1, 80, 80))
    weights[0, 0, 75, 75] = observation[0, 75, 75] = 1
    network = Linear(weights)
    maps = perturbation_saliency(network, observation, convention="paper", mask_sigma=1.0)
    assert maps.actor_grid.shape == (17, 17)
    assert not maps.actor_grid[16].any()
    assert not maps.actor_grid[:, 16].any()
    rows = (maps.actor.sum(1) * np.arange(80)).sum() / maps.actor.sum()
    assert rows == pytest.approx(72.4, abs=0.1)  # the true place is 75
    corrected = perturbation_saliency(network, observation, mask_sigma=1.0)
    np.testing.assert_array_equal(maps.actor_grid[:16, :16], corrected.actor_grid)
    assert np.unravel_index(corrected.actor.argmax(), (80, 80)) == (75, 75)
    assert maps.actor.max() == pytest.approx(maps.actor_grid.max())


def test_paper_convention_of_nothing_is_zero():
    network = Linear(np.zeros((1, 1, 20, 20)))
    maps = perturbation_saliency(network, np.ones((1, 20, 20)), convention="paper")
    assert not maps.actor.any()


def test_upsampling_passes_through_the_centres_and_holds_the_edge():
    grid = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    image = upsample(grid, (80, 80), 5)
    np.testing.assert_allclose(image[::5, ::5], grid, rtol=1e-6)
    np.testing.assert_allclose(image[7, 0], 0.6 * grid[1, 0] + 0.4 * grid[2, 0], rtol=1e-6)
    np.testing.assert_allclose(image[0, 8], 0.4 * grid[0, 1] + 0.6 * grid[0, 2], rtol=1e-6)
    np.testing.assert_array_equal(image[75:, 75:], grid[15, 15])


def test_perturb_shows_what_the_agent_is_shown():
    observation = np.random.default_rng(0).random((2, 30, 30)).astype(np.float32)
    perturbed = perturb(observation, (10, 20))
    blurred = gaussian_filter(observation[1], 3.0)
    assert perturbed[1, 10, 20] == pytest.approx(blurred[10, 20])
    mask = gaussian_mask((10, 20), (30, 30), 5.0)[12, 14]
    expected = (
        observation[0, 12, 14] * (1 - mask) + gaussian_filter(observation[0], 3.0)[12, 14] * mask
    )
    assert perturbed[0, 12, 14] == pytest.approx(expected)


# Nothing is left behind


def test_caller_keeps_its_state():
    class Dropping(Linear):
        def __init__(self):
            super().__init__(np.ones((2, 1, 20, 20)))
            self.frozen = nn.Dropout(0.5)
            self.dropout = nn.Dropout(0.5)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, observation, memory):
            return super().forward(self.dropout(self.frozen(observation)) * self.scale, memory)

    network = Dropping().train()
    network.frozen.eval()
    network.scale.grad = torch.tensor([3.0])
    calls = []
    network.dropout.register_forward_hook(lambda *_: calls.append(1))
    observation = torch.rand(1, 20, 20, requires_grad=True)
    before = observation.detach().clone()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 (is the global one untouched?)
    precision = torch.backends.mkldnn.matmul.fp32_precision

    maps = perturbation_saliency(network, observation)

    assert maps.actor.any()
    assert calls  # hooks run, and stay
    assert len(network.dropout._forward_hooks) == 1
    assert network.training
    assert network.dropout.training
    assert not network.frozen.training
    assert network.scale.grad.item() == 3
    assert observation.grad is None
    torch.testing.assert_close(observation.detach(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert torch.backends.mkldnn.matmul.fp32_precision == precision
    assert torch.is_grad_enabled()


def test_state_is_restored_after_an_error():
    class Broken(Linear):
        def forward(self, observation, memory):
            if len(observation) > 1:
                raise RuntimeError("broken on purpose")
            return super().forward(observation, memory)

    network = Broken(np.ones((2, 1, 20, 20))).train()
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken on purpose"):
        perturbation_saliency(network, np.eye(20)[None])
    assert network.training
    assert torch.get_num_threads() == threads


def test_low_precision_modes_of_the_caller_do_not_reach_the_map(recurrent):
    observation, memory = moment(recurrent)
    expected = perturbation_saliency(recurrent, observation, memory, stride=40).actor
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        maps = perturbation_saliency(recurrent, observation, memory, stride=40)
    np.testing.assert_array_equal(maps.actor, expected)


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "stride is 0, expected more than 0"),
        ({"stride": 2.5}, "stride is 2.5, expected a whole number from 1"),
        ({"mask_sigma": -1.0}, "mask_sigma is -1.0, expected more than 0"),
        ({"blur_sigma": 0}, "blur_sigma is 0, expected more than 0"),
        ({"batch_size": 0}, "batch_size is 0, expected a whole number from 1"),
        ({"threads": 0}, "threads is 0, expected a whole number from 1"),
        ({"convention": "old"}, "convention is 'old', expected 'corrected' or 'paper'"),
        (
            {"observation": np.zeros((80, 80), np.float32)},
            "observation has shape (80, 80), expected [C, H, W] or [T, C, H, W]",
        ),
        (
            {"observation": np.zeros((4, 84, 84), np.float32)},
            "observation has shape (4, 84, 84), expected (1, 80, 80) per decision",
        ),
        (
            {"observation": np.zeros((1, 80, 80), np.uint8)},
            "observation is torch.uint8, expected floating point",
        ),
        (
            {"observation": np.full((1, 80, 80), np.nan)},
            "observation holds values that are not finite",
        ),
        ({"memory": None}, "memory is None, expected (2, 256) per decision"),
        (
            {"memory": np.zeros((1, 256))},
            "memory has shape (1, 256), expected (2, 256) per decision",
        ),
        ({"memory": np.zeros((3, 2, 256))}, "memory has shape (3, 2, 256), expected [k, M]"),
        (
            {"observation": np.zeros((4, 1, 80, 80)), "memory": np.zeros((3, 2, 256))},
            "memory has shape (3, 2, 256), expected [4, k, M]",
        ),
        (
            {"observation": np.zeros((0, 1, 80, 80)), "memory": np.zeros((0, 2, 256))},
            "observation has shape (0, 1, 80, 80): no decision to explain",
        ),
        (
            {"network": RecurrentActorCritic(4).half()},
            "network is torch.float16, expected torch.float32: use .float()",
        ),
    ],
)
def test_errors_say_what_was_received(arguments, message):
    values = {
        "network": RecurrentActorCritic(4),
        "observation": np.zeros((1, 80, 80), np.float32),
        "memory": np.zeros((2, 256), np.float32),
    } | arguments
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the text is compared below)
        perturbation_saliency(
            values.pop("network"), values.pop("observation"), values.pop("memory"), **values
        )
    assert str(error.value) == message


# Repeats


def test_repeats_return_the_mean_and_the_spread_over_jittered_masks(recurrent):
    observations, memory = moment(recurrent, count=2)
    maps = perturbation_saliency(recurrent, observations, memory, stride=16, repeats=3)
    singles = [
        score_frames(
            recurrent,
            *map(torch.from_numpy, (observations, memory)),
            Settings(16, 5.0, 3.0, None, False, False, 1, "torch", jitter),
        )
        for jitter in (1, 2, 3)
    ]
    for head, grid, spread, scores in (
        (maps.actor, maps.actor_grid, maps.actor_spread, [s[0][:, 0] for s in singles]),
        (maps.critic, maps.critic_grid, maps.critic_spread, [s[1][:, 0] for s in singles]),
    ):
        assert_equal(grid, np.mean(scores, axis=0))
        upsampled = [upsample(score, (80, 80), 16) for score in scores]
        assert_equal(head, np.mean(upsampled, axis=0))
        assert_equal(spread, np.std(upsampled, axis=0, ddof=1), 1e-3)
        assert spread.max() > 0.01 * head.max()
    again = perturbation_saliency(recurrent, observations[0], memory[0], stride=16, repeats=3)
    assert_equal(again.actor_spread, maps[0].actor_spread)
    once = perturbation_saliency(recurrent, observations, memory, stride=16)
    assert once.actor_spread is None
    assert once.critic_spread is None


def test_masks_shift_by_at_most_half_a_stride_and_stay_inside():
    shape = 80, 40
    near = list(itertools.product(range(-2, 3), range(-2, 3)))
    for jitter in range(1, 8):
        rows, columns, scale = mask_factors(shape, 5, 2.0, jitter)
        for i, j in ((0, 0), (7, 3), (15, 7)):
            mask = np.einsum("ry,rx->yx", rows[:, i], columns[:, j]) * scale[i, j]
            places = [(5 * i + down, 5 * j + right) for down, right in near]
            inside = [place for place in places if min(place) >= 0]
            errors = [np.abs(mask - gaussian_mask(place, shape, 2.0)).max() for place in inside]
            assert min(errors) < 1e-6
    assert not np.array_equal(mask_factors((80, 40), 5, 2.0, 1)[0], rows)


def test_a_network_that_ignores_the_screen_has_no_spread():
    maps = perturbation_saliency(Linear(np.zeros((2, 1, 20, 20))), np.eye(20)[None], repeats=2)
    assert not maps.actor_spread.any()
    assert maps.critic_spread is None
    with pytest.raises(ValueError, match="repeats is 0, expected a whole number from 1"):
        perturbation_saliency(Linear(np.zeros((2, 1, 20, 20))), np.eye(20)[None], repeats=0)


# Plain modules


class Plain(nn.Module):
    """A module of a user's own: it knows nothing of memories."""

    def __init__(self, value):
        super().__init__()
        self.actor, self.critic = nn.Linear(400, 3), nn.Linear(400, 1) if value else None

    def forward(self, observation):
        flat = observation.flatten(1)
        return (self.actor(flat), self.critic(flat)) if self.critic else self.actor(flat)


@pytest.mark.parametrize("value", [True, False])
def test_a_plain_module_is_explained_as_one_of_the_protocol(value):
    torch.manual_seed(0)
    module = Plain(value)
    observation = np.random.default_rng(0).random((2, 1, 20, 20), np.float32)

    def network(observation, memory):
        outputs = module(observation)
        return (outputs[0], outputs[1][:, 0], memory) if value else (outputs, None, memory)

    for explain in (perturbation_saliency, jacobian_saliency):
        maps, expected = explain(module, observation), explain(network, observation)
        assert expected.actor.max() > 0
        np.testing.assert_array_equal(maps.actor, expected.actor)
        np.testing.assert_array_equal(maps.critic, expected.critic)
    sequence = nn.Sequential(nn.Flatten(), module.actor)
    maps = perturbation_saliency(sequence, observation)
    np.testing.assert_array_equal(maps.actor, perturbation_saliency(network, observation).actor)
    with pytest.raises(ValueError, match=r"memory has shape \(2, 5\), expected \(0, 0\) per"):
        perturbation_saliency(module, observation[0], np.zeros((2, 5)))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            lambda observation: observation.sum(),
            r"the network returned \[\], expected logits \[B, A\] or a tuple \(logits, value "
            r"\[B\]\), being called as network\(observation\)",
        ),
        (
            lambda observation, memory: observation.flatten(1),
            r"the network returned \[1, 400\], expected a tuple \(logits \[B, A\], value \[B\] or "
            r"None, memory\), being called as network\(observation, memory\); a module without",
        ),
        (
            lambda observation: {"logits": observation.flatten(1)},
            "the network returned dict, expected logits",
        ),
        (
            lambda observation: (observation.flatten(1), observation.flatten(1)),
            r"the network returned a tuple \(\[1, 400\], \[1, 400\]\), expected logits",
        ),
    ],
)
def test_a_network_that_returns_something_else_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        perturbation_saliency(network, np.ones((1, 20, 20), np.float32))


@pytest.mark.parametrize("scale", [255, -1])
def test_an_observation_outside_of_0_to_1_warns(scale):
    observation = scale * np.eye(20)[None]
    ends = f"from {min(0, scale)} to {max(0, scale)}, expected [0, 1]"
    with pytest.warns(UserWarning, match=re.escape(ends)) as caught:
        perturbation_saliency(Plain(True), observation)
    assert caught[0].filename.endswith("test_perturbation.py")


def test_maps_of_one_decision_have_no_time_axis():
    maps = perturbation_saliency(Linear(np.ones((1, 1, 20, 20))), np.eye(20)[None])
    with pytest.raises(TypeError, match="maps of one decision"):
        maps[0]
    with pytest.raises(TypeError, match="maps of one decision"):
        len(maps)
