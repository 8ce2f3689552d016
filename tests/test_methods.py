"""Map types: what theory says of simple networks, Captum by hand, plain re-computations."""

import joblib
import numpy as np
import pytest
import torch
from captum.attr import (
    FeatureAblation,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Lime,
    Occlusion,
)
from scipy.special import softmax
from scipy.stats import entropy
from torch import nn

from atarilens.agents import build_network
from atarilens.agents.networks import ModuleNetwork, NatureNetwork, RecurrentActorCritic, initialise
from atarilens.saliency import (
    METHODS,
    attention_saliency,
    baseline_image,
    perturb,
    perturbation_saliency,
    saliency_maps,
)
from atarilens.saliency.methods import removal
from atarilens.saliency.methods.removal import (
    WeightedRidge,
    grid_segments,
    rise_masks,
    sarfa_scores,
)

QUICK = {
    "perturbation": {"stride": 10},
    "lime": {"samples": 64},
    "rise": {"masks": 64},
    "occlusion": {"patch": 10, "stride": 10},
    "feature-ablation": {"cell": 16},
    "sarfa": {"stride": 10},
    "action-perturbation": {"stride": 10},
    "integrated-gradients": {"steps": 8},
    "smoothgrad": {"samples": 4},
}
CONTROLS = [name for name, each in METHODS.items() if each.kind == "control"]
OF_A_NETWORK = [name for name in METHODS if name not in CONTROLS]
NEEDS_RELU = "guided-backprop"
REFUSED = {  # of networks without ReLU, convolution, attention
    NEEDS_RELU: "defined for networks with ReLU units",
    "grad-cam": "needs a convolution, the network has none",
    "attention": "has no attention of its own",
}
ANY = [name for name in METHODS if name != "attention"]


class OnePixel(nn.Module):
    """Logit 1 is three times one pixel, the value minus twice another; the rest is zero."""

    memory_shape = (0, 0)

    def __init__(self, actor=(33, 51), critic=(60, 12)):
        super().__init__()
        self.actor, self.critic = actor, critic

    def forward(self, observation, memory):
        pixel = observation[:, 0, self.actor[0], self.actor[1]]
        value = -2 * observation[:, 0, self.critic[0], self.critic[1]]
        return torch.stack([0 * pixel, 3 * pixel, 0 * pixel], 1), value, memory


class Blind(nn.Module):
    """The screen does not matter."""

    memory_shape = (0, 0)

    def forward(self, observation, memory):
        logits = torch.tensor([[0.3, 1.2, -0.4]]).expand(len(observation), 3)
        return logits, torch.full((len(observation),), 0.7), memory


class FollowsTheBall(nn.Module):
    """Goes to the column of what is brighter than 0.7; nothing else on the screen matters."""

    memory_shape = (0, 0)

    def forward(self, observation, memory):
        ball = torch.relu(observation[:, 0] - 0.7)
        column = (ball * (torch.arange(80) - 39.5) / 10).sum((1, 2))
        return torch.stack([-column, column], 1), ball.sum((1, 2)), memory


class Plain(nn.Module):
    """Convolutions and ReLU modules, no value."""

    observation_shape, memory_shape = (2, 40, 40), (0, 0)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 18 * 18, 3)
        )

    def forward(self, observation):
        return self.layers(observation)


class Counting(nn.Module):
    """Counts the observations that go through a network."""

    def __init__(self, network):
        super().__init__()
        self.network, self.count = network, 0
        self.observation_shape = network.observation_shape
        self.memory_shape = network.memory_shape

    def forward(self, observation, memory):
        self.count += len(observation)
        return self.network(observation, memory)


def picture(shape=(1, 80, 80), seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def lively(network):
    with torch.no_grad():
        network.actor_linear.weight.mul_(100)
    return network.eval()


@pytest.fixture(scope="module")
def recurrent():
    return lively(initialise(RecurrentActorCritic(4), seed=1))


@pytest.fixture(scope="module")
def memory():
    return np.random.default_rng(5).uniform(-1, 1, (2, 256)).astype(np.float32)


@pytest.fixture(scope="module")
def nature():
    return lively(initialise(NatureNetwork(4), seed=2))


@pytest.fixture(scope="module")
def q_network():
    return lively(initialise(NatureNetwork(3, critic=False), seed=3))


@pytest.mark.parametrize("method", OF_A_NETWORK)
def test_one_pixel_ranks_first(method):
    observation = 0.2 * picture()
    observation[0, 33, 51] = observation[0, 60, 12] = 1
    if method in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[method]):
            saliency_maps(method, OnePixel(), observation)
        return
    options = {"rise": {"masks": 2000}, "lime": {"samples": 400}}.get(method, {})
    maps = saliency_maps(method, OnePixel(), observation, **options)
    reach = {"rise": 10, "lime": 8, "feature-ablation": 8}.get(method, 5)
    for head, (row, column) in ((maps.actor, (33, 51)), (maps.critic, (60, 12))):
        if head is None:
            assert method == "sarfa"
            continue
        top = np.unravel_index(head.argmax(), head.shape)
        assert max(abs(top[0] - row), abs(top[1] - column)) <= reach
        assert head[row, column] >= 0.5 * head.max() > 0


@pytest.mark.parametrize("method", OF_A_NETWORK)
def test_a_ball_ranks_before_what_its_follower_does_not_see(method):
    observation = np.zeros((1, 80, 80), np.float32)
    observation[0, 28:34, 58:64] = 1  # the ball
    observation[0, 8:14, 8:14], observation[0, 60:70, 20:24] = 0.65, 0.5
    if method in REFUSED and method != NEEDS_RELU:  # this network has ReLU units
        with pytest.raises(ValueError, match=REFUSED[method]):
            saliency_maps(method, FollowsTheBall(), observation)
        return
    options = {"rise": {"masks": 1000}}.get(method, {})
    maps = saliency_maps(method, FollowsTheBall(), observation, **options)
    for head in (maps.actor, maps.critic):
        if head is not None:
            others = max(head[8:14, 8:14].mean(), head[60:70, 20:24].mean())
            assert head[28:34, 58:64].mean() > 2 * others


@pytest.mark.parametrize("method", OF_A_NETWORK)
def test_a_network_that_ignores_its_input_gets_no_saliency(method):
    if method in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[method]):
            saliency_maps(method, Blind(), picture())
        return
    maps = saliency_maps(method, Blind(), picture(), **QUICK.get(method, {}))
    for head in (maps.actor, maps.critic):
        assert head is None or np.abs(head).max() < 1e-6


@pytest.mark.parametrize("method", ANY)
def test_every_method_on_an_agent_with_a_memory(method, recurrent, memory):
    observation = np.stack([picture(seed=0), picture(seed=1)])
    memories = np.stack([memory, -memory])
    options = QUICK.get(method, {})
    state = {name: each.clone() for name, each in recurrent.state_dict().items()}
    kept, torch_state = observation.copy(), torch.get_rng_state()
    if method == NEEDS_RELU:
        with pytest.raises(ValueError, match=REFUSED[method]):
            saliency_maps(method, recurrent, observation, memories)
        return
    recurrent.train()
    maps = saliency_maps(method, recurrent, observation, memories, **options)
    assert recurrent.training
    recurrent.eval()
    assert maps.actor.shape == (2, 80, 80)
    assert maps.actor.dtype == np.float32
    assert (maps.actor >= 0).all()
    assert maps.actor.max() > 0
    assert (maps.critic is None) == (method == "sarfa")
    for one in range(2):  # alone or together, and with its own memory
        alone = saliency_maps(method, recurrent, observation[one], memories[one], **options)
        scale = maps.actor[one].max()
        assert np.allclose(alone.actor, maps.actor[one], atol=1e-3 * scale)
    if METHODS[method].kind != "control":
        other = saliency_maps(method, recurrent, observation, memories[::-1].copy(), **options)
        assert not np.allclose(other.actor, maps.actor, atol=1e-3 * maps.actor.max())
    assert all(torch.equal(state[name], each) for name, each in recurrent.state_dict().items())
    assert all(each.grad is None for each in recurrent.parameters())
    assert not any(each._forward_hooks or each._backward_hooks for each in recurrent.modules())
    assert np.array_equal(kept, observation)
    assert torch.equal(torch_state, torch.get_rng_state())


@pytest.mark.parametrize("method", ANY)
def test_every_method_on_feed_forward_and_q_networks(method, nature, q_network):
    observation, options = picture((4, 84, 84)), QUICK.get(method, {})
    for network in (nature, q_network):
        maps = saliency_maps(method, network, observation, **options)
        assert maps.actor.shape == (84, 84)
        assert maps.actor.max() > 0
        if maps.actor_channels is not None:
            assert np.allclose(maps.actor_channels.sum(0), maps.actor)
    no_value = ModuleNetwork(Plain().eval())
    maps = saliency_maps(method, no_value, picture((2, 40, 40)), **options)
    assert maps.critic is None or METHODS[method].kind == "control"


@pytest.mark.parametrize("method", ANY)
def test_the_listed_cost_is_what_goes_through_the_network(method, recurrent, nature, memory):
    if method == NEEDS_RELU:
        counting = Counting(nature)
        saliency_maps(method, counting, picture((4, 84, 84)))
    else:
        counting = Counting(recurrent)
        saliency_maps(method, counting, picture(), memory)
    assert counting.count == METHODS[method].passes


def test_networks_with_attention():
    network = initialise(build_network("sparse-fls", num_actions=4), seed=1).eval()
    observation = picture((2, 4, 84, 84))
    maps = saliency_maps("attention", network, observation, coverage_normalise=True)
    own = attention_saliency(network, observation, coverage_normalise=True)
    assert np.array_equal(maps.actor, own.actor)
    assert maps.critic is None
    cam = saliency_maps("grad-cam", network, observation)
    explicit = saliency_maps("grad-cam", network, observation, layer="conv3")
    assert np.array_equal(cam.actor, explicit.actor)
    with pytest.raises(ValueError, match="no option 'stride'; its options: coverage_normalise"):
        saliency_maps("attention", network, observation, stride=3)


def scores_of(network, memory, action):
    """What Captum is called with by hand."""
    entering = torch.from_numpy(memory)[None]

    def scores(x):
        logits, value, _ = network(x, entering.expand(len(x), -1, -1))
        return torch.stack([logits[:, action], value], 1)

    return scores


def test_captum_by_hand(recurrent, memory):
    observation, action = picture(), 2
    x, scores = torch.from_numpy(observation)[None], scores_of(recurrent, memory, action)
    baseline = torch.from_numpy(baseline_image(observation))[None]
    segments = torch.from_numpy(grid_segments((80, 80), 16))[None, None]

    def lime(head):
        torch.manual_seed(0)
        return Lime(scores, interpretable_model=WeightedRidge(1.0)).attribute(
            x, baseline, head, feature_mask=segments, n_samples=64, perturbations_per_eval=32
        )

    by_hand = {
        "gradient-x-input": lambda head: InputXGradient(scores).attribute(
            x.clone().requires_grad_(), target=head
        ),
        "integrated-gradients": lambda head: IntegratedGradients(scores).attribute(
            x, baseline, head, n_steps=50
        ),
        "occlusion": lambda head: Occlusion(scores).attribute(
            x, (1, 10, 10), (1, 10, 10), baseline, head
        ),
        "feature-ablation": lambda head: FeatureAblation(scores).attribute(
            x, baseline, head, feature_mask=segments
        ),
        "lime": lime,
    }
    options = {
        "occlusion": {"patch": 10, "stride": 10},
        "feature-ablation": {"cell": 16},
        "lime": {"cell": 16, "samples": 64},
    }
    for method, attribute in by_hand.items():
        maps = saliency_maps(
            method, recurrent, observation, memory, action=action, sign="signed",
            **options.get(method, {}),
        )  # fmt: skip
        for head, found in enumerate((maps.actor, maps.critic)):
            expected = attribute(head).detach().numpy()[0, 0]
            scale = np.abs(expected).max()
            assert np.allclose(found, expected, atol=1e-4 * scale), (method, head)


def test_guided_backprop_equals_captums_where_relus_are_modules():
    network = ModuleNetwork(Plain().eval())
    x = torch.from_numpy(picture((2, 40, 40)))[None].requires_grad_()
    with pytest.warns(UserWarning, match="backward hooks on ReLU"):
        expected = GuidedBackprop(network.module).attribute(x, target=1)
    maps = saliency_maps("guided-backprop", network, x.detach()[0], action=1, sign="signed")
    assert np.allclose(maps.actor_channels, expected.detach().numpy()[0], atol=1e-6)
    plain = saliency_maps("gradient-x-input", network, x.detach()[0], action=1, sign="signed")
    assert not np.allclose(maps.actor, plain.actor)


def test_guided_backprop_sees_functions_too():
    """The Nature network calls the function, which Captum's hooks on modules do not see."""
    torch.manual_seed(0)
    functional = NatureNetwork(3).eval()

    class Modules(nn.Module):
        observation_shape = (4, 84, 84)

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                functional.conv1, nn.ReLU(), functional.conv2, nn.ReLU(), functional.conv3,
                nn.ReLU(), nn.Flatten(), functional.linear, nn.ReLU(), functional.actor_linear,
            )  # fmt: skip

        def forward(self, observation):
            return self.layers(observation)

    x = torch.from_numpy(picture((4, 84, 84)))[None].requires_grad_()
    with pytest.warns(UserWarning, match="backward hooks on ReLU"):
        expected = GuidedBackprop(Modules()).attribute(x, target=2).detach().numpy()[0]
    maps = saliency_maps("guided-backprop", functional, x.detach()[0], action=2, sign="signed")
    assert np.allclose(maps.actor_channels, expected, atol=1e-6 * np.abs(expected).max())


def test_grad_cam_peaks_at_the_unit_that_it_comes_from():
    """One bright spot through one convolution: the map's maximum is at the spot, not beside it."""
    torch.manual_seed(0)

    class Spot(nn.Module):
        observation_shape = (1, 84, 84)

        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 1, 8, stride=4), nn.Conv2d(1, 1, 4, stride=2)
            for each in (self.conv1, self.conv2):
                nn.init.constant_(each.weight, 0.1)
                nn.init.zeros_(each.bias)

        def forward(self, observation):
            found = self.conv2(self.conv1(observation)).flatten(1).sum(1)
            return torch.stack([found, -found], 1)

    observation = np.zeros((1, 84, 84), np.float32)
    observation[0, 38:44, 30:36] = 1
    maps = saliency_maps("grad-cam", ModuleNetwork(Spot()), observation, action=0)
    rows, columns = np.indices((84, 84))
    weights = maps.actor / maps.actor.sum()
    assert abs((weights * rows).sum() - 40.5) < 1.5
    assert abs((weights * columns).sum() - 32.5) < 1.5
    assert not saliency_maps("grad-cam", ModuleNetwork(Spot()), observation, action=1).actor.any()


def test_sarfa_equals_its_formula():
    generator = np.random.default_rng(0)
    logits, moved = generator.normal(size=5), generator.normal(size=(20, 5))
    scores = sarfa_scores(logits, moved, 2)
    for after, score in zip(moved, scores, strict=True):
        change = softmax(logits)[2] - softmax(after)[2]
        rest, rest_after = (np.delete(softmax(z), 2) for z in (logits, after))
        k = 1 / (1 + entropy(rest, rest_after))  # SciPy renormalises both
        assert score == pytest.approx(2 * k * change / (k + change) if change > 0 else 0)
    assert (scores > 0).any()
    assert (scores == 0).any()
    assert np.allclose(sarfa_scores(logits + 1000, moved + 1000, 2), scores)  # large Q-values
    two = sarfa_scores([1.0, 0.0], [[0.0, 0.0]], 0)
    change = softmax([1, 0])[0] - 0.5
    assert two[0] == pytest.approx(2 * change / (1 + change))
    with pytest.raises(ValueError, match="SARFA compares actions, but the network has 1"):
        sarfa_scores([1.0], [[0.0]], 0)


def test_sarfa_and_the_action_map_re_computed_mask_by_mask(recurrent, memory):
    observation = picture()
    options = {"stride": 20, "mask_sigma": 4.0}
    entering = torch.from_numpy(memory)[None]

    def run(image):
        with torch.no_grad():
            logits, value, _ = recurrent(torch.from_numpy(image)[None], entering)
        return logits.numpy()[0].astype(np.float64), float(value)

    logits, value = run(observation)
    action = int(logits.argmax())
    sarfa = saliency_maps("sarfa", recurrent, observation, memory, **options)
    repaired = saliency_maps("action-perturbation", recurrent, observation, memory, **options)
    whole = perturbation_saliency(recurrent, observation, memory, **options)
    for i in range(4):
        for j in range(4):
            moved, _ = run(perturb(observation, (20 * i, 20 * j), mask_sigma=4.0))
            expected = sarfa_scores(logits, moved[None], action)[0]
            assert sarfa.actor_grid[i, j] == pytest.approx(expected, abs=1e-5)
            loss = softmax(logits)[action] - softmax(moved)[action]
            assert repaired.actor_grid[i, j] == pytest.approx(max(loss, 0), abs=1e-5)
    assert np.allclose(repaired.critic, whole.critic, atol=1e-4 * whole.critic.max())
    assert value != 0
    tensors = (torch.from_numpy(observation)[None], entering)
    outputs = removal.blurred_outputs(recurrent, *tensors, 20, 4.0)
    shared = removal.sarfa(recurrent, *tensors, [action], outputs=outputs, stride=20)
    assert np.array_equal(shared.actor[0], sarfa.actor)


def test_rise_re_computed_mask_by_mask(recurrent, memory):
    observation, count = picture(), 40
    masks = rise_masks((80, 80), count)
    assert masks.shape == (count, 80, 80)
    assert (masks.min(), masks.max()) == (0, 1)
    assert rise_masks((80, 80), 2000).mean() == pytest.approx(0.5, abs=0.01)
    scores, total = scores_of(recurrent, memory, 1), np.zeros((2, 80, 80))
    with torch.no_grad():
        for mask in masks:
            shown = torch.from_numpy(observation * mask)[None]
            total += scores(shown)[0].numpy()[:, None, None] * mask
    maps = saliency_maps(
        "rise", recurrent, observation, memory, action=1, masks=count, baseline="black",
        centred=False, sign="signed",
    )  # fmt: skip
    for head, expected in zip((maps.actor, maps.critic), total / (count * 0.5), strict=True):
        assert np.allclose(head, expected, atol=1e-4 * np.abs(expected).max())


def test_ridge_equals_its_normal_equations():
    generator = np.random.default_rng(0)
    x, w = torch.from_numpy(generator.random((50, 4))), torch.from_numpy(generator.random(50))
    y = x @ torch.tensor([1.0, -2.0, 0.0, 3.0]).double() + 5
    model = WeightedRidge(1e-9)
    model.fit([(x[:20], y[:20], w[:20]), (x[20:], y[20:], w[20:])])
    assert np.allclose(model.representation()[0], [1, -2, 0, 3], atol=1e-4)
    assert np.allclose(model(x), y)
    model = WeightedRidge(2.0)
    model.fit([(x, y, w)])
    columns = torch.cat([x, torch.ones(50, 1)], 1)
    gram = columns.T @ (w[:, None] * columns) + torch.diag(torch.tensor([2.0, 2, 2, 2, 0])).double()
    expected = torch.linalg.solve(gram, columns.T @ (w * y))
    assert np.allclose(model.representation()[0], expected[:4], atol=1e-5)


def test_the_action_and_its_score_can_be_chosen(recurrent, memory):
    observation = picture()
    maps = [
        saliency_maps("gradient-x-input", recurrent, observation, memory, action=a)
        for a in range(4)
    ]
    assert not np.allclose(maps[0].actor, maps[1].actor)
    assert np.allclose(maps[0].critic, maps[1].critic)
    signed = {
        output: [
            saliency_maps(
                "gradient-x-input", recurrent, observation, memory,
                action=a, output=output, sign="signed",
            ).actor
            for a in range(4)
        ]
        for output in ("logit", "advantage", "probability")
    }  # fmt: skip
    scale = np.abs(signed["logit"][0]).max()
    assert np.allclose(sum(signed["advantage"]), 0, atol=1e-5 * scale)
    assert np.allclose(sum(signed["probability"]), 0, atol=1e-5 * scale)
    mean = sum(signed["logit"]) / 4
    assert np.allclose(signed["logit"][2] - mean, signed["advantage"][2], atol=1e-5 * scale)


def test_baselines():
    observation = np.full((2, 10, 10), 0.4, np.float32)
    observation[0, 2, 3] = 1
    assert (baseline_image(observation) == 0.4).all()
    assert not baseline_image(observation, "black").any()
    assert (baseline_image(observation, 0.25) == 0.25).all()
    assert 0.4 < baseline_image(observation, "blur")[0, 2, 3] < 0.5
    noise = baseline_image(observation, "noise")
    assert np.array_equal(noise, baseline_image(observation, "noise"))
    assert 0.3 < noise.mean() < 0.7
    assert np.array_equal(baseline_image(observation, observation), observation)
    with pytest.raises(ValueError, match="baseline is 'white', expected one of background, black"):
        baseline_image(observation, "white")
    with pytest.raises(ValueError, match=r"baseline has shape \(3,\), expected \(2, 10, 10\)"):
        baseline_image(observation, np.zeros(3))


def test_controls():
    observation = np.zeros((1, 80, 80), np.float32)
    observation[0, 20:24, 30:34] = 1
    centre = saliency_maps("centre", None, observation).actor
    assert centre.argmax() in (39 * 80 + 39, 39 * 80 + 40, 40 * 80 + 39, 40 * 80 + 40)
    edges = saliency_maps("edges", None, observation).actor
    assert edges[20, 30] > 0
    assert not edges[40:].any()
    random = saliency_maps("random", None, np.stack([observation, 1 - observation]))
    assert not np.array_equal(random.actor[0], random.actor[1])
    assert np.array_equal(saliency_maps("random", None, observation).actor, random.actor[0])
    other = saliency_maps("random", None, observation, seed=1).actor
    assert not np.array_equal(other, random.actor[0])


def test_jobs_do_not_change_a_map(recurrent, memory):
    observation = np.stack([picture(seed=seed) for seed in range(10)])
    memories = np.repeat(memory[None], 10, 0)
    options = {"patch": 20, "stride": 20}
    alone = saliency_maps("occlusion", recurrent, observation, memories, **options)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        together = saliency_maps("occlusion", recurrent, observation, memories, **options)
    assert np.array_equal(alone.actor, together.actor)
    assert np.array_equal(alone.critic, together.critic)


def test_errors(recurrent, memory):
    observation = picture()
    cases = {
        "method is 'shap', expected one of perturbation, ": ("shap", {}),
        "method 'sarfa' has no option 'masks'; its options: stride, mask_sigma": (
            "sarfa",
            {"masks": 3},
        ),
        "method 'centre' has no option 'stride'; its options: width": ("centre", {"stride": 3}),
        "explains all actions together, received action 1": ("perturbation", {"action": 1}),
        "action is 4, expected indices from 0 to 3": ("occlusion", {"action": 4}),
        r"action is \[0, 1\], expected an index or 1 indices": ("occlusion", {"action": [0, 1]}),
        "output is 'q', expected one of logit": ("lime", {"output": "q"}),
        "sign is 'plus', expected one of absolute": ("gradient-x-input", {"sign": "plus"}),
        "layer is 'conv9', expected one of conv1": ("grad-cam", {"layer": "conv9"}),
        r"segments have shape \(3, 3\), expected \(80, 80\)": (
            "feature-ablation",
            {"segments": np.zeros((3, 3))},
        ),
    }
    for message, (method, options) in cases.items():
        with pytest.raises(ValueError, match=message):
            saliency_maps(method, recurrent, observation, memory, **options)
    with pytest.raises(ValueError, match="memory is None, expected"):
        saliency_maps("occlusion", recurrent, observation)
