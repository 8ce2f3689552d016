"""State models: what they see of a screen, their losses by hand, their files."""

import numpy as np
import pytest
import torch
import yaml

from atarilens import load_agent
from atarilens.features.states import (
    Autoencoder,
    StateModel,
    attention_masks,
    observations_of,
    read,
    states_of,
)
from compendium.training.state_model import StateModelSettings, losses, train_state_model

TINY = StateModelSettings(frames=24, recorded=40, epochs=2, batch=8)


@pytest.fixture(scope="module")
def agent():
    return load_agent("untrained-pong")


@pytest.fixture(scope="module")
def batch(agent, short_trajectory):
    states = torch.from_numpy(states_of(agent, short_trajectory.frames))
    return states, torch.from_numpy(short_trajectory.memory)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train_state_model("untrained-pong", folder, TINY, progress=False), folder


def test_a_state_leads_to_the_observation_that_the_agent_reads(agent, short_trajectory, batch):
    observations = observations_of(agent, batch[0]).numpy()
    np.testing.assert_allclose(observations, short_trajectory.observations, atol=1e-6)


def test_a_stacked_state_leads_to_the_stacked_observation():
    from atarilens import rollout
    from atarilens.agents import NatureNetwork, agent_from_module

    network = NatureNetwork(6)
    agent = agent_from_module(network, game="pong", preprocessing="area84-stack4")
    trajectory = rollout(agent, seed=1, max_steps=9)
    states = states_of(agent, trajectory.frames, trajectory.episode)
    assert states.shape == (9, 12, 84, 84)
    found = observations_of(agent, torch.from_numpy(states)).numpy()
    assert np.abs(found - trajectory.observations).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize(("channels", "size"), [(3, (80, 80)), (12, (84, 84))])
def test_an_autoencoder_gives_back_the_shape_that_it_read(channels, size):
    network = Autoencoder(channels, size)
    mean, log_variance = network.encode(torch.rand(2, channels, *size))
    assert mean.shape == log_variance.shape == (2, 100)
    rebuilt = network.decode(mean)
    assert rebuilt.shape == (2, channels, *size)
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1


def test_whitened_latents_are_standard_and_draw_the_same_states():
    torch.manual_seed(0)
    states = torch.rand(300, 3, 80, 80)
    network = Autoencoder(3, (80, 80)).eval().requires_grad_(False)
    before = network.decode(network.encode(states)[0])
    network.whiten(states)
    latents = network.encode(states)[0]
    torch.testing.assert_close(network.decode(latents), before, atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.mean(0), torch.zeros(100), atol=1e-3, rtol=0)
    assert latents.var(0).max() < 1.001
    covariance = torch.cov(latents.T)
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 0.02


def test_the_mask_is_the_blurred_gradient_and_sums_to_one(agent, batch):
    states, memory = (x[:3] for x in batch)
    masks = attention_masks(agent, states, memory, floor=0)
    torch.testing.assert_close(masks.sum((1, 2, 3)), torch.ones(3))
    # By finite differences at the brightest pixel of the mask's gradient.
    watched = states.double().requires_grad_(True)
    agent.network.double()
    try:
        logits, _ = read(agent, watched, memory.double())
        (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), watched)
        step = torch.zeros_like(watched)
        k, c, y, x = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        step[k, c, y, x] = 1e-6
        moved = read(agent, watched.detach() + step, memory.double())[0].max(1).values.sum()
        change = (moved - logits.max(1).values.sum()).item() / 1e-6
    finally:
        agent.network.float()
    assert change == pytest.approx(gradient[k, c, y, x].item(), rel=1e-3)
    total = gradient.abs().sum(1).numpy()
    averaged = sum(
        np.pad(total, ((0, 0), (2, 2), (2, 2)))[:, dy : dy + 80, dx : dx + 80]
        for dy in range(5)
        for dx in range(5)
    )
    expected = averaged / averaged.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(masks[:, 0].numpy(), expected, rtol=1e-3, atol=1e-9)
    floored = attention_masks(agent, states, memory, floor=0.1)
    torch.testing.assert_close(floored, 0.9 * masks + 0.1 / 6400)


def test_the_losses_equal_a_plain_computation(agent, batch):
    states, memory = (x[:4] for x in batch)
    network = Autoencoder(3, (80, 80)).eval()
    mask = torch.full((4, 1, 80, 80), 1 / 6400)
    found = losses(network, agent, states, memory, mask, torch.Generator().manual_seed(5))
    assert all(part.requires_grad for part in found)
    found = [part.item() for part in found]
    with torch.no_grad():
        mean, log_variance = network.encode(states)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
        rebuilt = network.decode(mean + log_variance.exp().sqrt() * noise)
        differences = (rebuilt - states).pow(2).sum(1).mean((1, 2)).mean()
        wanted, got = (agent.network(observations_of(agent, x), memory) for x in (states, rebuilt))
        perception = sum(
            ((a - b) ** 2).sum().item() for a, b in zip(wanted[:2], got[:2], strict=True)
        )
        prior = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, log_variance.exp().sqrt()),
            torch.distributions.Normal(0.0, 1.0),
        )
    assert found[0] == pytest.approx(float(differences), rel=1e-4)
    assert found[1] == pytest.approx(perception / 4, rel=1e-3, abs=1e-9)
    assert found[2] == pytest.approx(float(prior.sum(1).mean()), rel=1e-4)


def test_a_model_and_its_reloaded_file_are_equal(trained, tmp_path, batch):
    model, _ = trained
    path = model.save(tmp_path / "model")
    again = StateModel.load(path)
    np.testing.assert_allclose(
        again.reconstruct(batch[0].numpy()), model.reconstruct(batch[0].numpy()), atol=5e-3
    )
    assert again.memories.shape == model.memories.shape
    assert again.save(tmp_path / "again").read_bytes() == path.read_bytes()


def test_an_interrupted_run_goes_on(tmp_path, trained):
    whole, _ = trained
    part = train_state_model("untrained-pong", tmp_path, TINY, max_seconds=0, progress=False)
    assert part.facts["training"]["epochs_done"] == 0
    rest = train_state_model("untrained-pong", tmp_path, TINY, progress=False)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(rest.network.state_dict()[name], value)
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_with_other_settings_is_refused(trained):
    _, folder = trained
    other = StateModelSettings(frames=24, recorded=40, epochs=2, batch=8, prior=1.0)
    with pytest.raises(ValueError, match="choose another folder or the same settings"):
        train_state_model("untrained-pong", folder, other, progress=False)


def test_files_that_are_no_model_are_refused(trained, tmp_path, agent):
    model, _ = trained
    with pytest.raises(FileNotFoundError, match="no state model 'brekout'"):
        StateModel.load("brekout")
    path = model.save(tmp_path / "model")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match="damaged or another file"):
        StateModel.load(path)
    model.save(tmp_path / "model")
    row = yaml.safe_load(path.with_suffix(".yml").read_text())
    del row["agent"]
    path.with_suffix(".yml").write_text(yaml.safe_dump(row))
    with pytest.raises(ValueError, match="lacks agent"):
        StateModel.load(path)
    with pytest.raises(ValueError, match=r"of agent 'untrained-pong'.* received agent"):
        model.require(load_agent("untrained-breakout"))


def test_other_peoples_agents_go_through_training_and_synthesis(tmp_path):
    """A feed-forward agent of four stacked screens, once an actor-critic and once a Q-network."""
    from atarilens.features import synthesize

    shapes = {
        **{"network.0": (32, 4, 8, 8), "network.2": (64, 32, 4, 4), "network.4": (64, 64, 3, 3)},
        **{"network.7": (512, 3136), "actor": (6, 512), "critic": (1, 512)},
    }
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():  # the names of CleanRL's Atari agents
        state[f"{name}.weight"] = 0.05 * torch.randn(shape, generator=generator)
        state[f"{name}.bias"] = torch.zeros(shape[0])
    torch.save(state, tmp_path / "theirs.cleanrl_model")
    q_state = {name: value for name, value in state.items() if "critic" not in name}
    q_state = {name.replace("actor", "network.9"): value for name, value in q_state.items()}
    torch.save(q_state, tmp_path / "theirs-q.cleanrl_model")
    settings = StateModelSettings(frames=8, recorded=16, epochs=1, batch=8)
    for name in ("theirs", "theirs-q"):
        foreign = load_agent(str(tmp_path / f"{name}.cleanrl_model"), game="pong")
        trained = train_state_model(foreign, tmp_path / name, settings, progress=False)
        model = StateModel.load(trained.save(tmp_path / "models" / name))
        found = synthesize(foreign, model, "best", count=1, restarts=1, steps=2)
        assert found.screens.shape == (1, 84, 84, 3)
        assert found.observations.shape == (1, 4, 84, 84)
        assert np.isfinite(found.value).all()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="mask_floor must be a finite number from 0 to 1, rec"):
        StateModelSettings(mask_floor=1.5)
    with pytest.raises(ValueError, match="epochs must be a whole number from 1"):
        StateModelSettings(epochs=0)
