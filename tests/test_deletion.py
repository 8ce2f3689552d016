"""Deletion of objects: painted pixels, the fair control, and agents whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from atarilens.games.objects import object_boxes
from atarilens.measures import (
    attention_by_object,
    deletion_effect,
    effects_of,
    image_change,
    object_deletions,
    painted_over,
    pasted,
    places_elsewhere,
    saliency_per_change,
    scale_to_entropy,
)
from atarilens.saliency import perturb, perturbation_saliency

BOX = (20, 24, 30, 34)


class OnePixel(nn.Module):
    """Action 0 is preferred by ten times the brightness of one pixel; the value is half of it."""

    memory_shape = (0, 0)

    def forward(self, observation, memory):
        pixel = observation[:, 0, 21, 31]
        return torch.stack([10 * pixel - 1, torch.zeros_like(pixel)], 1), pixel / 2, memory


def bright_square():
    observation = np.zeros((1, 80, 80), np.float32)
    observation[:, 20:24, 30:34] = 1
    return observation


def test_painting_takes_the_commonest_colour_around_the_box():
    screen = np.zeros((40, 40, 3), np.uint8)
    screen[:] = (1, 2, 3)
    screen[10:14, 10:14] = 200
    screen[9, 10] = 90  # one odd pixel in the ring
    painted = painted_over(screen, [(10, 14, 10, 14)])
    assert (painted[10:14, 10:14] == (1, 2, 3)).all()
    assert painted[9, 10, 0] == 90
    assert screen[10, 10, 0] == 200
    assert (painted_over(screen, [(9.5, 10.5, 10, 11)], (7, 7, 7))[9:11, 10] == 7).all()
    whole = np.full_like(screen, 50)
    assert (painted_over(screen, [(10, 14, 10, 14)], whole)[10:14, 10:14] == 50).all()
    assert np.array_equal(painted_over(screen, []), screen)
    with pytest.raises(ValueError, match=r"background has shape \(2,\), expected \(40, 40, 3\) or"):
        painted_over(screen, [(10, 14, 10, 14)], (1, 2))
    with pytest.raises(ValueError, match=r"boxes have shape \(4,\), expected \[n, 4\]"):
        painted_over(screen, (10, 14, 10, 14))


def test_pong_without_its_ball(short_trajectory):
    """The emulator's own boxes, with room for a frame's motion: nothing but the ground is left."""
    screen, boxes = short_trajectory.frames[-1], object_boxes("pong", short_trajectory.ram[-1])
    everything = np.concatenate(list(boxes.values()))
    empty = painted_over(screen, everything, margin=4)[40:190]
    assert len(np.unique(empty.reshape(-1, 3), axis=0)) == 1


def test_a_control_patch_keeps_away_and_changes_as_much():
    generator = np.random.default_rng(0)
    screen = np.zeros((100, 100, 3), np.uint8)
    screen[20:24, 30:34] = (10, 200, 30)
    others = [(50, 60, 50, 60)]
    place = places_elsewhere([BOX], others, (0, 100, 0, 100), generator)
    top, bottom, left, right = place[0]
    assert (bottom - top, right - left) == (4, 4)
    for other in (BOX, *others):
        rows = max(other[0] - bottom, top - other[1])
        columns = max(other[2] - right, left - other[3])
        assert max(rows, columns) >= 5
    change = pasted(screen, [BOX], place).astype(int) - screen
    gone = painted_over(screen, [BOX]).astype(int) - screen
    assert np.abs(change).sum() == np.abs(gone).sum()
    with pytest.raises(ValueError, match="no place 200 px from every object"):
        places_elsewhere([BOX], others, (0, 100, 0, 100), generator, distance=200)
    with pytest.raises(ValueError, match="does not fit into the region"):
        places_elsewhere([(0, 50, 0, 50)], [], (0, 40, 0, 40), generator)


def test_deletion_of_what_the_agent_reads_and_of_what_it_ignores():
    observation, network = bright_square(), OnePixel()
    painted = painted_over(observation[0], [BOX])[None]
    effect = deletion_effect(network, observation, painted)
    before, after = (1 / (1 + np.exp(-z)) for z in (9.0, -1.0))
    assert effect.total_variation == pytest.approx(100 * (before - after), abs=1e-4)
    assert effect.flip
    assert effect.value == pytest.approx(-0.5)

    elsewhere = observation.copy()
    elsewhere[:, 60:64, 60:64] = 1
    control = deletion_effect(network, np.stack([observation] * 2), np.stack([elsewhere, painted]))
    assert control.total_variation[0] == 0
    assert not control.flip[0]
    assert control.value[0] == 0
    assert control.total_variation[1] == pytest.approx(effect.total_variation)
    with pytest.raises(
        ValueError, match=r"painted has shape \(1, 40, 40\), expected \(1, 80, 80\)"
    ):
        deletion_effect(network, observation, np.zeros((1, 40, 40), np.float32))


def test_only_the_objects_pixels_are_pasted():
    screen = np.zeros((60, 60, 3), np.uint8)
    screen[:, 30:] = 9  # the background of the place differs from that of the box
    background = screen.copy()
    screen[12, 12] = 200
    (place,) = [(10.0, 15.0, 40.0, 45.0)]
    changed = pasted(screen, [(10, 15, 10, 15)], [place], background)
    assert np.argwhere((changed != screen).any(-1)).tolist() == [[12, 42]]
    assert (changed[12, 42] == 200).all()


def test_logits_are_scaled_to_the_entropy_of_a_reference():
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((50, 4))
    assert scale_to_entropy(logits, 3 * logits) == pytest.approx(3, rel=1e-4)
    assert scale_to_entropy(0.01 * logits, logits) == pytest.approx(100, rel=1e-4)
    assert scale_to_entropy(logits, np.zeros((50, 4))) <= 1e-3  # a policy without preferences
    dark, bright = np.zeros((1, 80, 80), np.float32), bright_square()
    once = deletion_effect(OnePixel(), bright, dark)
    twice = deletion_effect(OnePixel(), bright, dark, scale=2)
    assert twice.logit == pytest.approx(4 * once.logit)
    assert twice.value == once.value


def test_effects_by_hand():
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    moved = np.log([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    effect = effects_of(logits, moved)
    assert np.allclose(effect.total_variation, [30, 0])
    assert effect.flip.tolist() == [True, False]
    change = np.log([2 / 5, 1, 5 / 2])
    assert np.allclose(effect.logit, [0.5 * np.square(change - change.mean()).sum(), 0])
    assert np.allclose(effects_of(logits, logits + 3).logit, 0)
    assert effect.value is None


def test_a_real_agent_is_left_as_it_was(untrained_agent, short_trajectory):
    network = untrained_agent.network
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    painted = np.stack(
        [
            untrained_agent.preprocess(painted_over(screen, object_boxes("pong", ram)["paddle"]))
            for screen, ram in zip(short_trajectory.frames, short_trajectory.ram, strict=True)
        ]
    )
    kept = short_trajectory.observations.copy()
    effect = deletion_effect(
        network, short_trajectory.observations, painted, short_trajectory.memory
    )
    assert effect.total_variation.shape == effect.value.shape == (12,)
    assert effect.total_variation.max() > 0
    assert np.array_equal(kept, short_trajectory.observations)
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_the_image_change_is_half_the_squared_distance():
    observation = bright_square()
    maps = image_change(observation, stride=10)
    blurred = perturb(observation, (20, 30))
    assert maps.actor_grid[2, 3] == pytest.approx(
        0.5 * np.square(blurred - observation).sum(), rel=1e-4
    )


def test_saliency_per_change_forgets_how_visible_an_object_is():
    """A network that reads the whole image alike: bright and faint squares come out equal."""

    def image_itself(observation, memory):
        return 3 * observation.flatten(1), observation.flatten(1).sum(1), memory

    observation = bright_square()
    observation[:, 60:64, 60:64] = 0.2
    boxes = {"bright": [BOX], "faint": [(60, 64, 60, 64)], "absent": []}
    maps = perturbation_saliency(image_itself, observation)
    by_share = attention_by_object(maps, boxes)
    assert by_share["bright"].actor_share > 10 * by_share["faint"].actor_share
    ratios = saliency_per_change(maps, image_change(observation), boxes)
    assert ratios["bright"][0] == pytest.approx(9, rel=1e-4)
    assert ratios["faint"][0] == pytest.approx(9, rel=1e-4)
    assert np.isnan(ratios["absent"]).all()


def test_only_the_object_that_an_agent_reads_moves_it_when_deleted():
    """The brightness of one pixel decides: of two objects, the one that covers it matters."""
    screens = np.zeros((3, 80, 80, 3), np.uint8)
    read, ignored, absent = (20, 24, 30, 34), (60, 64, 50, 54), (70, 74, 70, 74)
    for top, bottom, left, right in (read, ignored):
        screens[:, top:bottom, left:right] = 255
    screens[1, 20:24, 30:34] = 0  # a moment at which the object is not drawn
    boxes = [{"read": [read], "ignored": [ignored]} for _ in screens]
    boxes[2] = {"read": [read], "ignored": [], "not drawn": [absent]}

    def preprocess(screen):
        return screen[None, ..., 0].astype(np.float32) / 255

    observations = np.stack([preprocess(screen) for screen in screens])
    inputs = OnePixel(), preprocess, screens, boxes, observations, None, (0, 80, 0, 80)
    found = object_deletions(*inputs, np.random.default_rng(0))
    assert list(found) == ["read", "ignored"]
    assert found["read"].moments.tolist() == [0, 2]
    assert found["ignored"].moments.tolist() == [0, 1]
    sure, unsure = 1 / (1 + np.exp(-9)), 1 / (1 + np.exp(1))
    expected = 100 * (sure - unsure)
    assert np.allclose(found["read"].gone.total_variation, expected)
    assert found["read"].gone.flip.all()
    assert np.allclose(found["read"].gone.value, -0.5)
    assert not found["ignored"].gone.total_variation.any()
    assert not found["read"].elsewhere.total_variation.any()
    many = object_deletions(*inputs, np.random.default_rng(0), most=0)
    assert many == {}
