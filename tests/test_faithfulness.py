"""Curves, sanity checks, stability and agreement, on networks whose answers are known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from atarilens.agents.networks import RecurrentActorCritic, initialise
from atarilens.measures import (
    agreement,
    area,
    deletion_curve,
    deletion_effect,
    insertion_curve,
    map_similarity,
    painted_over,
    randomised,
    restored,
    saliency_on,
    sanity_check,
    stability,
    weight_layers,
)
from atarilens.saliency import perturbation_saliency, saliency_maps


class OnePixel(nn.Module):
    memory_shape = (0, 0)

    def forward(self, observation, memory):
        pixel = observation[:, 0, 21, 31]
        return torch.stack([6 * pixel, 0 * pixel], 1), 2 * pixel, memory


class FollowsTheBall(nn.Module):
    """Goes to the column of what is brighter than 0.7; everything else does not matter."""

    memory_shape = (0, 0)

    def forward(self, observation, memory):
        ball = torch.relu(observation[:, 0] - 0.7)
        offset = (torch.arange(80) - 39.5) / 10
        column = (ball * offset).sum((1, 2))
        return torch.stack([-column, column], 1), ball.sum((1, 2)), memory


class Blind(nn.Module):
    memory_shape = (0, 0)

    def forward(self, observation, memory):
        return torch.zeros(len(observation), 3), torch.zeros(len(observation)), memory


@pytest.fixture(scope="module")
def recurrent():
    network = initialise(RecurrentActorCritic(4), seed=1).eval()
    with torch.no_grad():
        network.actor_linear.weight.mul_(100)
    return network


def picture(seed=0):
    return np.random.default_rng(seed).random((1, 80, 80)).astype(np.float32)


def test_a_whole_insertion_ends_at_the_unperturbed_output(recurrent):
    observation = picture()
    memory = np.random.default_rng(1).uniform(-1, 1, (2, 256)).astype(np.float32)
    saliency = perturbation_saliency(recurrent, observation, memory).actor
    with torch.no_grad():
        logits, value, _ = recurrent(
            torch.from_numpy(observation)[None], torch.from_numpy(memory)[None]
        )
    for start in ("black", "noise", "background", "blur", 0.3):
        inserted = insertion_curve(
            recurrent, observation, saliency, memory, start=start, pixels=700
        )
        deleted = deletion_curve(recurrent, observation, saliency, memory, start=start, pixels=700)
        assert len(inserted.value) == len(deleted.value) == 11
        assert (inserted.shown[0], inserted.shown[-1]) == (0, 1)
        assert (deleted.shown[0], deleted.shown[-1]) == (1, 0)
        for curve, end in ((inserted, -1), (deleted, 0)):
            assert curve.value[end] == pytest.approx(float(value), abs=1e-5)
            assert curve.logit[end] == pytest.approx(float(logits.max()), abs=1e-5)
            assert curve.probability[end] == pytest.approx(float(logits.softmax(1).max()), abs=1e-5)
            assert curve.advantage[end] == pytest.approx(
                float(logits.max() - logits.mean()), abs=1e-5
            )
        assert inserted.value[0] == pytest.approx(deleted.value[-1], abs=1e-5)


def test_the_pixel_that_matters_comes_at_once_or_last():
    observation = np.full((1, 80, 80), 0.5, np.float32)
    observation[0, 21, 31] = 1
    right, wrong = np.zeros((80, 80)), np.ones((80, 80))
    right[21, 31], wrong[21, 31] = 1, 0
    first = insertion_curve(OnePixel(), observation, right, pixels=64)
    last = insertion_curve(OnePixel(), observation, wrong, pixels=64)
    assert (first.value[1:] == 2).all()
    assert (last.value[:-1] == 0).all()
    assert first.probability[0] == pytest.approx(0.5)
    assert area(first.value) == pytest.approx(2 * (1 - 0.5 / 100))
    assert area(last.value) == pytest.approx(2 * 0.5 / 100)
    assert restored(first.value) == pytest.approx(1 - 0.5 / 100)
    assert restored(last.value) == pytest.approx(0.5 / 100)
    assert restored(np.linspace(3, -1, 9)) == pytest.approx(0.5)
    gone = deletion_curve(OnePixel(), observation, right, pixels=64)
    assert restored(gone.value[::-1]) == pytest.approx(0.5 / 100)
    blind = insertion_curve(Blind(), observation, right)
    assert np.isnan(restored(blind.value))


def test_ties_are_broken_at_random_and_repeatably():
    observation, flat = picture(), np.zeros((80, 80))
    curves = [insertion_curve(OnePixel(), observation, flat, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(curves[0].value, curves[1].value)
    firsts = [int(np.argmax(each.value > 0)) for each in curves]
    assert firsts[0] != firsts[2]


def test_layers_are_randomised_from_the_output_or_one_by_one(recurrent):
    fresh = initialise(RecurrentActorCritic(4), seed=9)
    layers = weight_layers(recurrent)
    assert layers == ["actor_linear", "critic_linear", "lstm", "conv4", "conv3", "conv2", "conv1"]
    mixed = randomised(recurrent, fresh, ["conv1"])
    assert torch.equal(mixed.conv1.weight, fresh.conv1.weight)
    assert torch.equal(mixed.conv2.weight, recurrent.conv2.weight)
    with pytest.raises(ValueError, match="no layer is called 'conv9', expected some of actor_lin"):
        randomised(recurrent, fresh, ["conv9"])

    seen = []

    def explain(network):
        seen.append(network)
        return network.conv4.weight.detach().numpy()[:2, :, 0]

    heads = [["actor_linear", "critic_linear"], "lstm", "conv4"]
    found = sanity_check(explain, recurrent, fresh, heads)
    assert list(found) == ["actor_linear+critic_linear", "lstm", "conv4"]
    assert found["lstm"]["spearman"] == pytest.approx([1, 1])
    assert (found["conv4"]["spearman"] < 0.9).all()
    assert torch.equal(seen[-1].lstm.weight_hh, fresh.lstm.weight_hh)
    seen.clear()
    sanity_check(explain, recurrent, fresh, heads, cascading=False)
    assert torch.equal(seen[-1].lstm.weight_hh, recurrent.lstm.weight_hh)
    assert torch.equal(seen[-1].conv4.weight, fresh.conv4.weight)


def test_a_control_does_not_notice_random_weights(recurrent):
    fresh = initialise(RecurrentActorCritic(4), seed=9)
    observation, memory = picture(), np.zeros((2, 256), np.float32)

    def maps_of(method):
        def explain(network):
            return saliency_maps(method, network, observation[None], memory[None]).actor

        return sanity_check(explain, recurrent, fresh, [["actor_linear"], ["conv1"]])

    edges, jacobian = maps_of("edges"), maps_of("jacobian")
    for name in ("spearman", "ssim", "hog"):
        assert edges["conv1"][name] == pytest.approx(1)
        assert jacobian["conv1"][name] < 0.95


def test_similarity_of_known_pairs():
    ramp = np.add.outer(np.arange(60.0), np.arange(60.0) ** 2)
    for measure in map_similarity(ramp, 3 * ramp + 7).values():
        assert measure == pytest.approx(1)
    opposite = map_similarity(ramp, -ramp, either_sign=False)
    assert opposite["spearman"] == pytest.approx(-1)
    assert opposite["ssim"] < 0.05
    assert map_similarity(ramp, -ramp)["spearman"] == pytest.approx(1)
    assert np.isnan(list(map_similarity(ramp, np.ones((60, 60))).values())).all()
    a, b = picture(0)[0], picture(1)[0]
    found = map_similarity(a, b, either_sign=False)
    assert found["spearman"] == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert abs(found["hog"]) < 0.3
    rows, columns = np.indices((60, 60))
    upright, lying = np.sin(columns / 3), np.sin(rows / 3)
    assert map_similarity(upright, lying)["hog"] < 0.1 < map_similarity(upright, upright)["hog"]
    with pytest.raises(ValueError, match=r"maps have shapes \(60, 60\) and \(80, 80\)"):
        map_similarity(ramp, a)


def test_stability_of_a_map_that_moves_along_and_of_noise():
    observation = picture()[:, ::2, ::2].repeat(2, 1).repeat(2, 2)

    def moves_along(shown):
        return shown[:, 0] ** 2

    def noise(shown):
        return np.random.default_rng(0).random((len(shown), 80, 80))

    steady = stability(moves_along, observation)
    assert steady["shift"] == pytest.approx(np.ones(4))
    assert (steady["noise"] > 0.99).all()
    assert steady["noise"].shape == (5,)
    unsteady = stability(noise, observation)
    assert np.abs(np.concatenate(list(unsteady.values()))).max() < 0.1


def test_saliency_on_objects():
    saliency = np.zeros((80, 80))
    saliency[10:12, 10:12], saliency[40, 40] = 1, 4
    boxes = {"a": [(10, 12, 10, 12)], "b": [(40, 41, 40, 41), (60, 61, 60, 61)], "c": []}
    found = saliency_on(saliency, boxes)
    assert found == {"a": 0.5, "b": 0.5}
    assert saliency_on(saliency, boxes, measure="mean", margin=0) == {"a": 1, "b": 2}
    assert np.isnan(saliency_on(0 * saliency, boxes)["a"])


def objects_and_observations(seed=0, moments=24):
    """A ball, a bright decoy that is fainter than the ball, and the observation of both."""
    generator = np.random.default_rng(seed)
    for moment in range(moments):
        boxes = {}
        observation = np.zeros((1, 80, 80), np.float32)
        rows = generator.permutation([10, 30, 50])
        for row, (name, level) in zip(
            rows, {"ball": 1.0, "decoy": 0.65, "paddle": 0.5}.items(), strict=True
        ):
            column = int(generator.choice([5, 15, 60, 70]))
            boxes[name] = [(row, row + 4, column, column + 4)]
            observation[0, row : row + 4, column : column + 4] = level
        yield (moment % 6, moment), boxes, observation


def tables(network, method, **options):
    saliency, effects = {}, {}
    for where, boxes, observation in objects_and_observations():
        maps = saliency_maps(method, network, observation, **options)
        for name, share in saliency_on(maps.actor, boxes).items():
            saliency[(*where, name)] = share
        for name, kind in boxes.items():
            painted = painted_over(observation[0], kind)[None]
            effect = deletion_effect(network, observation, painted)
            effects[(*where, name)] = float(effect.total_variation)
    return saliency, effects


def test_agreement_is_high_for_a_network_that_follows_the_ball():
    saliency, effects = tables(FollowsTheBall(), "perturbation")
    found = agreement(saliency, effects)
    assert found.concordance == 1
    assert found.correlation > 0.8
    assert found.correlation_interval[0] > 0.6
    assert (found.rows, found.pairs, found.episodes) == (72, 48, 6)
    control = agreement(tables(FollowsTheBall(), "random")[0], effects)
    assert control.concordance_interval[0] < 0.6
    assert control.concordance < 0.8


def test_agreement_is_1_for_one_pixel_and_undefined_for_a_blind_network():
    saliency, effects = {}, {}
    for moment, level in enumerate(np.linspace(0.2, 1, 12)):
        observation = np.zeros((1, 80, 80), np.float32)
        observation[0, 20:24, 30:34], observation[0, 60:64, 60:64] = level, 1
        boxes = {"read": [(20, 24, 30, 34)], "ignored": [(60, 64, 60, 64)]}
        maps = saliency_maps("feature-ablation", OnePixel(), observation)
        for name, mean in saliency_on(maps.actor, boxes, measure="mean").items():
            saliency[moment % 3, moment, name] = mean
            painted = painted_over(observation[0], boxes[name])[None]
            effect = deletion_effect(OnePixel(), observation, painted)
            effects[moment % 3, moment, name] = float(effect.total_variation)
    found = agreement(saliency, effects)
    assert found.correlation == pytest.approx(1)
    assert found.concordance == 1
    assert found.concordance_interval == (1, 1)

    undefined = agreement(saliency, dict.fromkeys(effects, 0.0))
    assert np.isnan(undefined.correlation)
    assert np.isnan(undefined.concordance)
    assert np.isnan(undefined.correlation_interval).all()
    with pytest.raises(ValueError, match="share no row"):
        agreement(*tables(Blind(), "jacobian"))  # the share of a map of zeros is not a number


def test_agreement_by_hand():
    saliency = {(0, 0, "a"): 3.0, (0, 0, "b"): 1.0, (0, 1, "a"): 2.0, (0, 1, "b"): 2.0}
    saliency |= {(1, 0, "a"): 1.0, (1, 0, "b"): 5.0, (1, 0, "c"): np.nan}
    effects = {(0, 0, "a"): 0.3, (0, 0, "b"): 0.1, (0, 1, "a"): 0.2, (0, 1, "b"): 0.4}
    effects |= {(1, 0, "a"): 0.6, (1, 0, "b"): 0.5, (1, 0, "c"): 0.1}
    found = agreement(saliency, effects)
    assert found.concordance == pytest.approx((1 + 0.5 + 0) / 3)
    expected = spearmanr([3, 1, 2, 2, 1, 5], [0.3, 0.1, 0.2, 0.4, 0.6, 0.5]).statistic
    assert found.correlation == pytest.approx(expected)
    assert (found.rows, found.pairs, found.episodes) == (6, 3, 2)
    assert found.by_episode == pytest.approx([spearmanr([3, 1, 2, 2], [3, 1, 2, 4]).statistic, -1])
    one = agreement({k: v for k, v in saliency.items() if k[0] == 0}, effects)
    assert np.isnan(one.correlation_interval).all()


def test_errors():
    with pytest.raises(ValueError, match=r"saliency \(3, 3\)"):
        insertion_curve(OnePixel(), picture(), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="pixels is 0, expected 1 or more"):
        insertion_curve(OnePixel(), picture(), np.zeros((80, 80)), pixels=0)
    with pytest.raises(ValueError, match="measure is 'sum', expected 'share' or 'mean'"):
        saliency_on(np.zeros((3, 3)), {}, measure="sum")
