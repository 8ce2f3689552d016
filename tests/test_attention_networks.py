"""Free-Lunch Saliency: the fifteen networks, and their own attention drawn as a map."""

import math

import numpy as np
import pytest
import torch

from atarilens import (
    evaluate,
    jacobian_saliency,
    load_agent,
    measures,
    perturbation_saliency,
    rollout,
    save_agent,
    views,
)
from atarilens.agents import NETWORKS, agent_from_module, build_network, initialise
from atarilens.play import observations_at, seen_by
from atarilens.saliency import attention_coverage, attention_saliency

TABLE_2 = {  # of arXiv:1908.02511: parameters of the agents for Breakout, with its four actions
    "nature": 1_686_693,
    "daqn": 130_726,
    "rs-ppo": 1_720_999,
    "sparse-fls": 1_836_710,
    "sparse-fls-pool": 263_846,
    "dense-fls": 280_358,
    "sparse-fls-first": 1_762_982,
    "sparse-fls-each": 2_063_016,
}
SPARSE = ("norm", "1x1", "softplus2", "norelu", "norelu-pool")
OTHERS = ["dense-fls-norelu", "rs-ppo-nopad", *(f"sparse-fls-{variant}" for variant in SPARSE)]
WITH_ATTENTION = [*TABLE_2, *OTHERS][1:]


def built(name, seed=0):
    return initialise(build_network(name, num_actions=4), seed).eval()


def observations(count, seed=0):
    return torch.rand(count, 4, 84, 84, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TABLE_2)
def test_the_published_parameter_counts_are_exact(name):
    network = build_network(name, num_actions=4)
    assert sum(parameter.numel() for parameter in network.parameters()) == TABLE_2[name]


def test_the_papers_fifteen_networks_are_in_the_registry():
    assert len({*TABLE_2, *OTHERS}) == 15
    assert {*TABLE_2, *OTHERS} <= NETWORKS.keys()


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_the_forward_pass_and_its_attention(name):
    network, shown = built(name), observations(2)
    with torch.no_grad():
        logits, value, memory = network(shown, torch.zeros(2, 0, 0))
        attention = network.attention(shown)
        hidden = network.features(shown, memory)
    assert (logits.shape, value.shape, memory.shape) == ((2, 4), (2,), (2, 0, 0))
    torch.testing.assert_close(logits, network.actor_linear(hidden))
    size, stride, padding = network.receptive_field
    cells = (84 + 2 * padding - size) // stride + 1
    assert attention.shape == (2, cells, cells)
    assert (attention >= 0).all()
    assert attention.std((1, 2)).min() > 0


def test_the_receptive_fields_are_those_of_the_paper():
    fields = {name: build_network(name, 4).receptive_field for name in WITH_ATTENTION}
    for name in ("sparse-fls-first", "sparse-fls-each"):
        assert fields.pop(name) == (8, 4, 0)
    for name in ("dense-fls", "dense-fls-norelu"):
        assert fields.pop(name) == (13, 1, 6)
    assert set(fields.values()) == {(36, 8, 0)}


@pytest.mark.parametrize(
    ("name", "total"), [("daqn", 1), ("rs-ppo", 2), ("rs-ppo-nopad", 2), ("sparse-fls-norm", 1)]
)
def test_weights_that_share_a_fixed_sum(name, total):
    with torch.no_grad():
        attention = built(name).attention(observations(3))
    torch.testing.assert_close(attention.sum((1, 2)), torch.full((3,), float(total)))


def with_attention_of_one(name):
    """Build a network whose attention is 1 everywhere, whatever it is shown."""
    network = built(name)
    bias = 0.0 if name.endswith("softplus2") else math.log(math.e - 1)  # weighed, this gives 1
    with torch.no_grad():
        for number in network.after:
            module = getattr(network, f"attention{number}")
            module.conv_scores.weight.zero_()
            module.conv_scores.bias.fill_(bias)
    return network


LIKE_NATURE = ["sparse-fls", *(f"sparse-fls-{k}" for k in ("1x1", "softplus2", "first", "each"))]


@pytest.mark.parametrize("name", LIKE_NATURE)
def test_with_an_attention_of_one_sparse_fls_is_the_nature_network(name):
    network, nature = with_attention_of_one(name), built("nature", seed=1)
    state = {key: value for key, value in network.state_dict().items() if "attention" not in key}
    nature.load_state_dict(state)
    shown, memory = observations(2), torch.zeros(2, 0, 0)
    with torch.no_grad():
        torch.testing.assert_close(network(shown, memory)[:2], nature(shown, memory)[:2])


def test_sum_pooling_with_an_attention_of_one_adds_all_places_up():
    network, shown = with_attention_of_one("sparse-fls-norelu-pool"), observations(2)
    with torch.no_grad():
        layer = network.conv3(network.conv2(network.conv1(shown).relu()).relu())
        expected = network.linear(layer.sum((2, 3))).relu()
        torch.testing.assert_close(network.features(shown, None), expected)


def test_region_sensitive_attention_step_by_step():
    """The same network in NumPy's terms, from the weights of its layers."""
    network, shown = built("rs-ppo"), observations(1)
    with torch.no_grad():
        x = torch.nn.functional.pad(shown, (1, 1, 1, 1))
        for layer in (network.conv1, network.conv2, network.conv3):
            x = layer(x).relu()
        x = (x / x.norm(dim=1, keepdim=True))[0].numpy()
        weights = [value.numpy() for value in network.attention3.state_dict().values()]
        hidden = np.einsum("oc,chw->ohw", weights[0][..., 0, 0], x) + weights[1][:, None, None]
        hidden = np.where(hidden > 0, hidden, np.exp(hidden) - 1)
        scores = np.einsum("oc,chw->ohw", weights[2][..., 0, 0], hidden)
        scores = np.exp(scores + weights[3][:, None, None])
        expected = (scores / scores.sum((1, 2), keepdims=True)).sum(0)
        np.testing.assert_allclose(network.attention(shown)[0], expected, rtol=1e-4)
        flat = torch.from_numpy(x * expected).flatten()[None]
        torch.testing.assert_close(network.features(shown, None), network.linear(flat).relu())


def coverage(size, stride, padding, cells):
    """Count the cells that cover each of 84 px along an axis."""
    count = np.zeros(84 + 2 * padding)
    for cell in range(cells):
        count[cell * stride : cell * stride + size] += 1
    return count[padding : padding + 84]


@pytest.mark.parametrize("name", ["sparse-fls", "sparse-fls-first", "dense-fls"])
def test_the_map_of_a_constant_attention_is_the_coverage_pattern(name):
    network, shown = with_attention_of_one(name), observations(1)
    maps = attention_saliency(network, shown)
    size, stride, padding = network.receptive_field
    axis = coverage(size, stride, padding, maps.actor_grid.shape[1])
    np.testing.assert_allclose(maps.actor[0], np.outer(axis, axis), rtol=1e-5)
    np.testing.assert_array_equal(attention_coverage(network), np.outer(axis, axis))
    extremes = {"sparse-fls": (1, 25), "sparse-fls-first": (1, 4), "dense-fls": (49, 169)}
    found = maps.actor.min(), maps.actor.max()
    np.testing.assert_allclose(found, extremes[name], rtol=1e-5)
    flat = attention_saliency(network, shown[0], coverage_normalise=True)
    np.testing.assert_allclose(flat.actor, np.ones((84, 84)), rtol=1e-5)


def test_the_maps_of_each_layer_are_added_on_the_first_grid():
    network, shown = with_attention_of_one("sparse-fls-each"), observations(1)
    with torch.no_grad():
        found = network.attention(shown)[0].numpy()
    second, third = np.zeros(20), np.zeros(20)
    for cell in range(9):
        second[2 * cell : 2 * cell + 4] += 1
    for cell in range(7):
        third[2 * cell : 2 * cell + 8] += 1
    expected = 1 + np.outer(second, second) + np.outer(third, third)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_cell_is_drawn_on_the_pixels_that_it_is_made_from():
    class OneCell(torch.nn.Module):
        receptive_field = (36, 8, 0)

        def forward(self, observation, memory):
            return observation.mean((2, 3)), None, memory

        def attention(self, observation, memory):
            attention = torch.zeros(len(observation), 7, 7)
            attention[:, 2, 5] = 3
            return attention

    maps = attention_saliency(OneCell(), observations(1)[0])
    expected = np.zeros((84, 84))
    expected[16:52, 40:76] = 3
    np.testing.assert_array_equal(maps.actor, expected)
    assert (maps.critic, maps.critic_grid) == (None, None)
    assert maps.actor_grid[2, 5] == 3


def test_maps_of_a_batch_are_those_of_its_decisions():
    network, shown = built("sparse-fls").train(), observations(10)  # more than one batch
    before = {name: value.clone() for name, value in network.state_dict().items()}
    maps = attention_saliency(network, shown.numpy(), np.zeros((10, 0, 0)))
    one = attention_saliency(network, shown[9])
    assert (maps.actor.shape, maps.actor.dtype) == ((10, 84, 84), np.float32)
    np.testing.assert_allclose(maps[9].actor, one.actor, rtol=1e-5)
    assert network.training
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value)


def test_networks_without_attention_are_named():
    with pytest.raises(ValueError, match="network 'nature' has no attention of its own; networks"):
        attention_saliency(build_network("nature", 4), observations(1))
    network = build_network("sparse-fls", 4)
    network.receptive_field = (8, 4, 0)
    with pytest.raises(ValueError, match=r"attention \[7, 7\] of .* covers \[32, 32\] px, but"):
        attention_saliency(network, observations(1))


def test_the_film_shows_screen_input_attention_and_gaze():
    screens = np.full((2, 210, 160, 3), 100, np.uint8)
    shown = np.full((2, 4, 84, 84), 0.2, np.float32)
    maps = np.zeros((2, 84, 84), np.float32)
    maps[0], maps[1, :, 42:] = 1, 2  # the largest of the film is drawn white
    fixations = np.zeros((2, 210, 160), int)
    fixations[1, 105, 20] = 3
    film = views.attention_film(screens, shown, maps, fixations)
    assert (film.shape, film.dtype) == ((2, 370, 160, 3), np.uint8)
    assert film[0, 10, 10].tolist() == [114, 114, 114]  # half of 100, half of half of 255
    assert film[1, 10, 150].tolist() == [178, 178, 178]
    assert film[1, 105, 20].tolist() == [255, 50, 50]
    assert film[0, 300, 10].tolist() == [0, 128, 51]
    assert film[1, 210 + 80, 20].tolist() == [255, 0, 51]
    assert (film[0, ..., 0] < 255).all()


def test_the_share_that_a_pattern_explains():
    rng = np.random.default_rng(0)
    pattern, noise = rng.random((2, 84, 84))
    maps = np.stack([3 * pattern + 2, noise, pattern + noise, np.ones((84, 84))])
    found = measures.explained_share(maps, pattern)
    expected = [np.corrcoef(each.ravel(), pattern.ravel())[0, 1] ** 2 for each in maps[:3]]
    np.testing.assert_allclose(found[:3], expected, atol=1e-9)
    assert found[0] == pytest.approx(1)
    assert np.isnan(found[3])


def test_observations_at_some_steps_are_those_of_all(play):
    agent = load_agent("untrained-breakout-sparse-fls")
    steps = [0, 1, 3, 4]
    found = observations_at(agent, play, steps)
    np.testing.assert_array_equal(found, seen_by(play, agent).observations[steps])


@pytest.fixture(scope="module")
def play():
    agent = agent_from_module(built("nature"), game="breakout", preprocessing="area84-stack4")
    return rollout(agent, seed=0, max_steps=5)


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_a_file_of_float16_keeps_the_attention(name, play, tmp_path):
    network, shown = built(name, seed=2), play.observations[-2:]
    agent = agent_from_module(network, game="breakout", preprocessing="area84-stack4")
    loaded = load_agent(save_agent(agent, tmp_path / name))
    assert loaded.facts["architecture"] == name
    before, after = (attention_saliency(net, shown).actor for net in (network, loaded.network))
    assert np.abs(after - before).max() <= 5e-3 * before.max()


@pytest.mark.parametrize("name", ["sparse-fls", "daqn", "rs-ppo"])
def test_what_works_for_our_agents_works_for_these(name, tmp_path):
    agent = agent_from_module(built(name), game="breakout", preprocessing="area84-stack4")
    agent = load_agent(save_agent(agent, tmp_path / name))
    play = rollout(agent, seed=0, max_steps=5)
    shown, memory = play.observations[-1], play.memory[-1]
    assert perturbation_saliency(agent.network, shown, memory, stride=28).actor.any()
    assert jacobian_saliency(agent.network, shown, memory).critic.any()
    assert len(evaluate(agent, episodes=1, seed=0).returns) == 1
