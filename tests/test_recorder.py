"""What the recorder writes is read back with TensorBoard's own reader and compared."""

import io
import json
import shlex
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atarilens import overlay, perturbation_saliency
from atarilens.agents.preprocessing import preprocessing
from atarilens.apps.activations import activation_movie, activations_of, memory_channels
from atarilens.apps.recorder import (
    AgentRecorder,
    PolicyNetwork,
    sb3_callback,
    tensorboard_command,
    training_callback,
)
from atarilens.games.emulators import ObservationEnv, make_env
from atarilens.views import common_gain, gif, movie_frames

DURATION = 70  # ms of a frame


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    return events.Reload()


def scalars(folder, tag) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def frames_of(encoded: bytes) -> np.ndarray:
    """Play a GIF: `[T, h, w, 3]`, a frame that lasts n times as long counted n times."""
    image = Image.open(io.BytesIO(encoded))
    frames = []
    for t in range(image.n_frames):
        image.seek(t)
        times, rest = divmod(image.info["duration"], DURATION)
        assert rest == 0
        frames += [np.asarray(image.convert("RGB"))] * times
    return np.stack(frames)


def movie(folder, tag) -> np.ndarray:
    return frames_of(read(folder).Images(tag)[-1].encoded_image_string)


def folders(logdir) -> list[str]:
    return sorted(path.name for path in (logdir / "episodes").iterdir() if path.is_dir())


def play(recorder, trajectory, steps, *, rewards=None, end=True, **extra) -> None:
    """Hand the first steps of a trajectory to the recorder as one episode."""
    for t in range(steps):
        recorder.update(
            trajectory.observations[t],
            trajectory.actions[t],
            trajectory.rewards[t] if rewards is None else rewards[t],
            end and t == steps - 1,
            frame=trajectory.frames[t],
            memory=trajectory.memory[t],
            **extra,
        )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, untrained_agent, short_trajectory):
    """A logdir of three episodes of 12, 5 and 7 steps, every second of them recorded."""
    logdir = tmp_path_factory.mktemp("recorded")
    recorder = AgentRecorder(
        logdir,
        untrained_agent.network,
        name="toy",
        every=2,
        action_meanings=untrained_agent.action_meanings,
        region=untrained_agent.region,
    )
    for steps in (12, 5, 7):
        play(recorder, short_trajectory, steps, rewards=np.arange(12.0))
    recorder.close()
    return logdir


def test_every_second_episode_is_recorded_and_every_return(recorded):
    assert folders(recorded) == ["000000", "000002"]
    assert scalars(recorded / "episodes", "episode/return") == [(12, 66), (17, 10), (24, 21)]
    assert scalars(recorded / "episodes", "episode/length") == [(12, 12), (17, 5), (24, 7)]


def test_the_game_is_read_back_pixel_by_pixel(recorded, short_trajectory):
    for name, steps in (("000000", 12), ("000002", 7)):
        image = read(recorded / "episodes" / name).Images("game")[-1]
        assert (image.width, image.height, image.step) == (160, 210, steps)
        frames = frames_of(image.encoded_image_string)
        np.testing.assert_array_equal(frames, short_trajectory.frames[:steps])


def test_saliency_is_that_of_each_step(recorded, untrained_agent, short_trajectory):
    maps = perturbation_saliency(
        untrained_agent.network, short_trajectory.observations, short_trajectory.memory, stride=8
    )
    gain, region = common_gain([maps]), untrained_agent.region
    drawn = [overlay(short_trajectory.frames[t], maps[t], region, gain) for t in range(12)]
    expected = movie_frames({"": np.stack(drawn)}).astype(int)[:, 22:442]  # without the words
    frames = movie(recorded / "episodes" / "000000", "saliency").astype(int)
    assert frames.shape == (12, 464, 320, 3)
    errors = np.abs(frames[:, None, 22:442] - expected[None]).mean((2, 3, 4))  # [shown, expected]
    assert errors.diagonal().max() < 2  # of 255: 256 colours for all frames
    np.testing.assert_array_equal(errors.argmin(1), np.arange(12))


def test_words_stand_below_the_screen(recorded):
    frames = movie(recorded / "episodes" / "000000", "saliency")
    bands = frames[:, 442:].max((1, 2, 3))
    assert (bands > 200).all()
    assert all((a != b).any() for a, b in zip(frames[:-1, 442:], frames[1:, 442:], strict=True))


def test_numbers_by_step(recorded, untrained_agent, short_trajectory):
    episode = recorded / "episodes" / "000000"
    assert scalars(episode, "reward") == [(t, t) for t in range(12)]
    steps, values = zip(*scalars(episode, "value"), strict=True)
    assert steps == tuple(range(12))
    np.testing.assert_allclose(values, short_trajectory.values, rtol=1e-4, atol=1e-5)
    facts = json.loads((episode / "metadata.json").read_text())
    meanings = [untrained_agent.action_meanings[action] for action in short_trajectory.actions]
    assert facts["status"] == "finished"
    assert (facts["return"], facts["length"], facts["episode"]) == (66, 12, 0)
    assert facts["kept"]["action"] == meanings
    assert facts["kept"]["return"] == list(np.arange(12.0).cumsum())
    assert facts["actions"] == {name: meanings.count(name) for name in facts["actions"]}
    assert sum(facts["actions"].values()) == 12
    assert facts["ended"] >= facts["started"]


def test_actions_are_counted_by_number_and_by_name(recorded, untrained_agent, short_trajectory):
    events = read(recorded / "episodes" / "000000")
    histogram = events.Histograms("actions")[-1].histogram_value
    counts = np.bincount(short_trajectory.actions, minlength=6)
    assert histogram.num == 12
    centres = np.array(histogram.bucket_limit) - 0.5
    found = {int(c): int(n) for c, n in zip(centres, histogram.bucket, strict=True) if n}
    assert found == {action: count for action, count in enumerate(counts) if count}
    text = events.Tensors("actions/text_summary")[-1].tensor_proto.string_val[0].decode()
    top = untrained_agent.action_meanings[counts.argmax()]
    assert text.splitlines()[2] == f"| {top} | {counts.max()} | {counts.max() / 12:.1%} |"


def test_the_embedding_is_the_last_hidden_layer(recorded, untrained_agent, short_trajectory):
    folder = recorded / "episodes" / "000000"
    assert "last_hidden_layer" in (folder / "projector_config.pbtxt").read_text()
    (tensors,) = folder.rglob("tensors.tsv")
    network = untrained_agent.network
    inputs = (torch.from_numpy(a) for a in (short_trajectory.observations, short_trajectory.memory))
    expected = network.features(*inputs)
    found = np.loadtxt(tensors)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    rows = (tensors.parent / "metadata.tsv").read_text().splitlines()
    assert rows[0].split("\t") == ["step", "action", "return", "value"]
    assert [row.split("\t")[0] for row in rows[1:]] == [str(t) for t in range(12)]
    sprite = np.asarray(Image.open(tensors.parent / "sprite.png"))
    assert sprite.shape == (4 * 48, 4 * 48, 3)  # 12 thumbnails in a square
    small = Image.fromarray(short_trajectory.frames[5]).resize((48, 48), Image.BOX)
    np.testing.assert_allclose(sprite[48:96, 48:96], np.asarray(small), atol=1)


def test_a_running_episode_is_seen_and_told_apart(tmp_path, short_trajectory):
    recorder = AgentRecorder(tmp_path, every=1)
    for _ in range(6):
        play(recorder, short_trajectory, 12, end=False)
    assert folders(tmp_path) == ["000000-running"]
    running = tmp_path / "episodes" / "000000-running"
    assert json.loads((running / "metadata.json").read_text())["status"] == "running"
    (glance,) = read(running).Images("game")
    assert glance.step == 64
    expected = np.tile(short_trajectory.frames, (6, 1, 1, 1))[:64]
    np.testing.assert_array_equal(frames_of(glance.encoded_image_string), expected)
    assert len(read(running).Scalars("reward")) >= 64
    recorder.close()
    assert folders(tmp_path) == ["000000-interrupted"]
    facts = (tmp_path / "episodes" / "000000-interrupted" / "metadata.json").read_text()
    assert json.loads(facts)["status"] == "interrupted"


def test_a_later_recorder_marks_what_was_left_and_counts_on(tmp_path, short_trajectory):
    killed = AgentRecorder(tmp_path, every=3)
    for episode in range(4):
        play(killed, short_trajectory, 2, end=episode < 3)
    assert folders(tmp_path) == ["000000", "000003-running"]
    killed._current.writer.close()  # threads end with their process
    recorder = AgentRecorder(tmp_path, every=3)
    assert folders(tmp_path) == ["000000", "000003-interrupted"]
    assert recorder.episode == 4
    for _ in range(3):
        play(recorder, short_trajectory, 2)
    recorder.close()
    assert folders(tmp_path) == ["000000", "000003-interrupted", "000006"]


def test_a_long_episode_is_thinned_to_a_bounded_number_of_steps(tmp_path, short_trajectory):
    recorder = AgentRecorder(tmp_path, every=1, max_frames=8, action_meanings=["NOOP"])
    for t in range(100):
        recorder.update(None, 0, 1.0, t == 99, frame=short_trajectory.frames[t % 12])
    recorder.close()
    facts = json.loads((tmp_path / "episodes" / "000000" / "metadata.json").read_text())
    assert facts["kept"]["step"] == [0, 16, 32, 48, 64, 80, 96]
    assert facts["kept"]["return"] == [1, 17, 33, 49, 65, 81, 97]
    assert facts["actions"] == {"NOOP": 100}
    frames = movie(tmp_path / "episodes" / "000000", "game")
    np.testing.assert_array_equal(frames, short_trajectory.frames[np.arange(0, 100, 16) % 12])
    assert len(scalars(tmp_path / "episodes" / "000000", "reward")) == 100


def test_a_loop_in_the_manner_of_cleanrl(tmp_path):
    """Tensors in grey levels, a network without memory that is a module of the loop's own."""
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 84 * 84, 8), torch.nn.ReLU())
    actor, critic = torch.nn.Linear(8, 6), torch.nn.Linear(8, 1)

    def network(observation, memory):
        hidden = body(observation / 255)
        return actor(hidden), critic(hidden), memory

    env = ObservationEnv(make_env("pong"), preprocessing("area84-stack4"))
    recorder = AgentRecorder(tmp_path, network, every=1, stride=21)
    observation = torch.from_numpy(env.reset(seed=0)[0]).float()
    newest = []
    for step in range(6):
        action = actor(body(observation[None] / 255)).argmax(1)
        following, reward, terminated, truncated, _ = env.step(action.item())
        recorder.update(observation, action, reward, terminated or truncated, step=step)
        newest.append(observation[-1].numpy())
        observation = torch.from_numpy(following).float()
    recorder.close()
    folder = tmp_path / "episodes" / "000000-interrupted"
    grey = np.stack(newest).astype(np.uint8)[..., None].repeat(3, -1)
    np.testing.assert_array_equal(movie(folder, "game"), grey)
    assert movie(folder, "saliency").shape[0] == 6
    assert len(scalars(folder, "value")) == 6
    assert not list(folder.rglob("tensors.tsv"))  # this network does not show its hidden layer


@pytest.mark.parametrize("largest", [1, 255])
def test_a_plain_module_is_recorded_in_its_own_units(tmp_path, largest):
    """A module `observation -> (logits, value)` that reads [0, 1], or grey levels."""
    torch.manual_seed(0)
    screen = np.random.default_rng(0).random((1, 20, 20), np.float32)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = torch.nn.Linear(400, 8), torch.nn.Linear(8, 3)

        def features(self, observation):
            return self.body(observation.flatten(1) / largest).relu()

        def forward(self, observation):
            hidden = self.features(observation)
            return self.head(hidden), hidden.sum(1, keepdim=True)

    module = Plain()
    recorder = AgentRecorder(tmp_path, module, every=1, stride=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # neither kind is out of range
        for t in range(2):
            recorder.update(largest * screen, 1, 0.0, t == 1)
    (tensors,) = (tmp_path / "episodes" / "000000").rglob("tensors.tsv")
    hidden = module.features(torch.from_numpy(largest * screen)[None]).detach().numpy()[0]
    np.testing.assert_allclose(np.loadtxt(tensors)[0], hidden, rtol=1e-4)
    ((_, value), _) = scalars(tmp_path / "episodes" / "000000", "value")
    assert value == pytest.approx(hidden.sum(), rel=1e-5)
    assert movie(tmp_path / "episodes" / "000000", "saliency").shape[0] == 2
    recorder.close()


def test_training_is_not_disturbed(tmp_path, short_trajectory):
    from atarilens.agents.networks import RecurrentActorCritic

    network = RecurrentActorCritic(6).train()
    network.actor_linear.weight.grad = torch.ones_like(network.actor_linear.weight)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    recorder = AgentRecorder(tmp_path, network, every=1, stride=40)
    play(recorder, short_trajectory, 3)
    recorder.close()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert (network.actor_linear.weight.grad == 1).all()
    assert network.conv1.weight.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_an_environment_that_is_not_atari_is_recorded_without_maps(tmp_path):
    torch.manual_seed(0)
    env = gymnasium.make("CartPole-v1")

    class Policy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
            self.actor = torch.nn.Linear(8, 2)

        def forward(self, observation):
            return self.actor(self.features(observation))

    policy = Policy()
    recorder = AgentRecorder(tmp_path, policy, every=1, action_meanings=["LEFT", "RIGHT"])
    observations, frames = [env.reset(seed=0)[0]], []
    done = False
    while not done:
        action = int(policy(torch.from_numpy(observations[-1])[None]).argmax())
        observation, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        frames.append(cart(observations[-1]))
        recorder.update(observations[-1], action, reward, done, frame=frames[-1])
        observations.append(observation)
    recorder.update(observations[0], 1, 1.0, True)  # without a picture: numbers alone
    recorder.close()
    first, second = (tmp_path / "episodes" / name for name in ("000000", "000001"))
    np.testing.assert_array_equal(movie(first, "game"), np.stack(frames))
    assert read(first).Tags()["images"] == ["game"]
    assert len(scalars(first, "reward")) == len(frames)
    (tensors,) = first.rglob("tensors.tsv")
    expected = policy.features(torch.from_numpy(np.stack(observations[:-1]))).detach().numpy()
    np.testing.assert_allclose(np.loadtxt(tensors), expected, atol=1e-5)
    assert read(second).Tags()["images"] == []
    assert json.loads((second / "metadata.json").read_text())["actions"] == {"RIGHT": 1}


def cart(observation) -> np.ndarray:
    """Draw CartPole's cart as a white column on black."""
    frame = np.zeros((40, 60, 3), np.uint8)
    column = int(30 + 12 * observation[0])
    frame[30:36, column - 3 : column + 3] = 255
    return frame


def test_activations_are_written(tmp_path, untrained_agent, short_trajectory):
    network = untrained_agent.network
    recorder = AgentRecorder(tmp_path, network, every=1, stride=40, activations=True)
    play(recorder, short_trajectory, 4)
    recorder.close()
    folder = tmp_path / "episodes" / "000000"
    inside = [
        activations_of(network, short_trajectory.observations[t], short_trajectory.memory[t])
        for t in range(4)
    ]
    for tag, kept in (
        ("within/last_convolution", [each.channels for each in inside]),
        ("within/memory", [memory_channels(each.memory) for each in inside]),
    ):
        expected = activation_movie(kept, 4).astype(int)
        found = movie(folder, tag)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 2  # 256 colours


def test_a_users_own_pictures_stand_beside_the_built_in_ones(
    tmp_path, untrained_agent, short_trajectory
):
    def inverted(frame, network):
        assert network is untrained_agent.network
        return 255 - frame

    def brightest(frame, network, observation, memory):
        logits = network(torch.from_numpy(observation)[None], torch.from_numpy(memory)[None])[0]
        return np.full((8, 8, 3), 40 * int(logits.argmax()), np.uint8)

    recorder = AgentRecorder(
        tmp_path,
        untrained_agent.network,
        every=1,
        stride=40,
        visualisations={"inverted": inverted, "brightest": brightest},
    )
    play(recorder, short_trajectory, 5)
    recorder.close()
    folder = tmp_path / "episodes" / "000000"
    tags = ["game", "saliency", "yours/brightest", "yours/inverted"]
    assert sorted(read(folder).Tags()["images"]) == tags
    np.testing.assert_array_equal(
        movie(folder, "yours/inverted"), 255 - short_trajectory.frames[:5]
    )
    likeliest = 40 * short_trajectory.action_logits[:5].argmax(1)
    np.testing.assert_array_equal(movie(folder, "yours/brightest")[:, 0, 0, 0], likeliest)


def test_the_command_serves_this_machine_and_samples_all_images(tmp_path):
    command = tensorboard_command(tmp_path / "my log")
    assert "--host 127.0.0.1" in command
    assert "--samples_per_plugin images=1000" in command
    assert shlex.split(command)[-1] == str(tmp_path / "my log")


def test_frames_are_asked_for_only_where_they_are_needed(tmp_path, short_trajectory):
    calls = []

    def render():
        calls.append(len(calls))
        return short_trajectory.frames[0]

    recorder = AgentRecorder(tmp_path, every=2)
    for t in range(8):
        recorder.update(None, 0, 0.0, t % 2 == 1, frame=render)
    recorder.close()
    assert len(calls) == 4


def test_what_cannot_be_recorded_is_refused(tmp_path, short_trajectory):
    with pytest.raises(
        ValueError, match=r"every must be at least 1 and max_frames at least 2, received 0 and 240"
    ):
        AgentRecorder(tmp_path, every=0)
    recorder = AgentRecorder(tmp_path, every=1)
    with pytest.raises(ValueError, match=r"frame must be uint8 \[h, w, 3\], received float64 \[2"):
        recorder.update(None, 0, 0.0, False, frame=np.zeros((2, 2, 3)))
    recorder = AgentRecorder(tmp_path / "own", every=1, visualisations={"mine": lambda f, n: f[0]})
    with pytest.raises(
        ValueError, match=r"visualisation 'mine' must be uint8 \[h, w, 3\], received"
    ):
        recorder.update(None, 0, 0.0, False, frame=short_trajectory.frames[0])
    recorder.writer.close()


def test_gif_keeps_256_colours_and_repeated_frames():
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    frames = colours[np.arange(256).reshape(16, 16)][None].repeat(5, 0)
    frames[3] = frames[3, ::-1]
    np.testing.assert_array_equal(frames_of(gif(frames, 15)), frames)


class _Twin(gymnasium.Wrapper):
    """Keep what a learner saw and what was on the screen at that moment."""

    def __init__(self, env, seen):
        super().__init__(env)
        self.seen = seen

    def reset(self, **options):
        observation, info = self.env.reset(**options)
        self.seen.append((observation, self.env.render()))
        return observation, info

    def step(self, action):
        observation, *others = self.env.step(action)
        self.seen.append((observation, self.env.render()))
        return observation, *others


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
def test_stable_baselines3(tmp_path, algorithm):
    import stable_baselines3

    settings = {
        "PPO": {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
        "A2C": {"n_steps": 8},
        "DQN": {"buffer_size": 50, "learning_starts": 8, "batch_size": 4},
    }[algorithm]
    seen = []
    env = ObservationEnv(make_env("pong", noop_max=0), preprocessing("area84-stack4"))
    make = getattr(stable_baselines3, algorithm)
    model = make("CnnPolicy", _Twin(env, seen), seed=0, device="cpu", **settings)
    callback = sb3_callback(tmp_path, every=1, stride=28)
    model.learn(32, callback=callback)
    (name,) = folders(tmp_path)
    assert name == "000000-interrupted"
    folder = tmp_path / "episodes" / name
    # Step t shows the screen and explains the observation that action t was chosen on.
    screens = np.stack([screen for _, screen in seen[:32]])
    np.testing.assert_array_equal(movie(folder, "game"), screens)
    assert movie(folder, "saliency").shape[0] == 32
    facts = json.loads((folder / "metadata.json").read_text())
    assert set(facts["actions"]) <= set(env.unwrapped.action_meanings)
    (tensors,) = folder.rglob("tensors.tsv")
    assert np.loadtxt(tensors).shape == (32, 512)
    network = PolicyNetwork(model.policy)
    observation = torch.from_numpy(seen[3][0][None].astype(np.float32))
    with torch.no_grad():
        action_logits, value, _ = network(observation, torch.zeros(1, 0, 0))
        chosen, _ = model.predict(seen[3][0], deterministic=True)
        assert action_logits.argmax() == int(chosen)
        if algorithm != "DQN":
            expected = model.policy.predict_values(observation)[0, 0]
            torch.testing.assert_close(value[0], expected)


def test_our_own_training(tmp_path):
    from compendium.training.ppo import PPOSettings, train

    settings = PPOSettings(total_steps=48, num_envs=2, rollout_steps=8, minibatches=1, epochs=1)
    callback = training_callback(tmp_path / "log", "pong", every=2, steps=5)
    train("pong", tmp_path / "run", settings, callbacks=[callback], progress=False)
    log = tmp_path / "log"
    assert [step for step, _ in scalars(log / "training", "training/entropy")] == [16, 32, 48]
    assert folders(log) == ["000000-excerpt", "000001-excerpt"]
    for name, step in (("000000-excerpt", 16), ("000001-excerpt", 48)):
        facts = json.loads((log / "episodes" / name / "metadata.json").read_text())
        assert (facts["name"], facts["length"]) == (f"pong at {step} steps", 5)
        assert movie(log / "episodes" / name, "game").shape[0] == 5
