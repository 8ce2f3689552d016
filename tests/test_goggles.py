"""Goggles: the agent sees reconstructions; what survives them is read from the pixels."""

import numpy as np
import torch

from atarilens import load_agent, rollout
from atarilens.features import StateModel, contrast_left, with_goggles
from atarilens.features.states import Autoencoder


def model_of(agent) -> StateModel:
    torch.manual_seed(0)
    network = Autoencoder(3, (80, 80)).eval().requires_grad_(False)
    facts = {"agent": agent.name, "agent_sha256": agent.facts["sha256"]}
    return StateModel(network, np.zeros((1, 2, 256), np.float32), facts)


def test_an_agent_with_goggles_reads_the_reconstruction_and_nothing_else():
    agent = load_agent("untrained-pong")
    model = model_of(agent)
    played = rollout(with_goggles(agent, model), seed=2, max_steps=5)
    plain = rollout(agent, seed=2, max_steps=5)
    np.testing.assert_array_equal(played.frames[0], plain.frames[0])  # the game is the same
    from atarilens.features import observations_of, states_of

    rebuilt = torch.from_numpy(model.reconstruct(states_of(agent, played.frames)))
    expected = observations_of(agent, rebuilt).numpy()
    np.testing.assert_allclose(played.observations, expected, atol=1e-6)
    assert np.abs(played.observations - plain.observations).max() > 0.1


def test_the_contrast_that_is_left_by_hand():
    image = np.full((3, 20, 20), 0.2)
    image[:, 8:10, 8:10] = 1.0
    rebuilt = image.copy()
    rebuilt[1, 8:10, 8:10] = 0.6  # half of the contrast
    rebuilt[2] = 0.2  # gone
    boxes = [{"ball": np.array([[8.0, 10.0, 8.0, 10.0]])}] * 3
    np.testing.assert_allclose(contrast_left(image, rebuilt, boxes, "ball"), [1, 0.5, 0])
    absent = [{"ball": np.zeros((0, 4))}] * 3
    assert np.isnan(contrast_left(image, rebuilt, absent, "ball")).all()
