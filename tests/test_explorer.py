"""The explorer without a browser: what is computed, what is drawn, what every widget does."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from atarilens import load_agent, rollout, save_agent
from atarilens.agents import agent_from_module, build_network
from atarilens.apps import explorer
from atarilens.apps.activations import (
    COLOURS,
    activations_of,
    channels_image,
    memory_channels,
)
from atarilens.apps.explorer import (
    Exploration,
    Explorer,
    Knobs,
    drawing,
    explain,
    explore,
    export,
    probe,
)
from atarilens.apps.explorer import page as page_module
from atarilens.apps.explorer.panels import NOBODY
from atarilens.games.emulators import EnvironmentSettings
from atarilens.games.objects import object_boxes
from atarilens.measures.attention import attention_by_object
from atarilens.play.inference import seen_by
from atarilens.play.synthetic_gaze import write_synthetic_trials
from atarilens.play.trajectories import save_replay
from atarilens.saliency import attention_saliency, jacobian_saliency, perturbation_saliency
from atarilens.views import common_gain, overlay

STEP = 9


def load_image(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def exploration(untrained_agent, short_trajectory) -> Exploration:
    return Exploration(untrained_agent, short_trajectory)


@pytest.fixture(scope="module")
def louder_agent():
    """The untrained agent of Pong with another first layer, under a name of its own."""
    agent = load_agent("untrained-pong")
    agent.network.conv1.weight.mul_(2)
    return replace(agent, name="louder")


# -- one decision


def test_an_explanation_is_that_of_the_library(untrained_agent, short_trajectory):
    knobs = Knobs(stride=8, radius=4.0, gain=0.5)
    found = explain(untrained_agent, short_trajectory, STEP, knobs, gain=(3e9, 2e6))
    observation, memory = short_trajectory.observations[STEP], short_trajectory.memory[STEP]
    maps = perturbation_saliency(
        untrained_agent.network, observation, memory, stride=8, mask_sigma=4.0
    )
    np.testing.assert_array_equal(found.maps.actor, maps.actor)
    screen = short_trajectory.frames[STEP]
    image = overlay(screen, maps, untrained_agent.region, (1.5e9, 1e6))
    np.testing.assert_array_equal(found.image, image)
    assert (found.image != screen).any()
    logits = short_trajectory.action_logits[STEP].astype(float)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert list(found.probabilities) == untrained_agent.action_meanings
    np.testing.assert_allclose(list(found.probabilities.values()), shares, rtol=1e-6)
    action = short_trajectory.actions[STEP]
    assert found.action == untrained_agent.action_meanings[action]
    assert found.value == short_trajectory.values[STEP]
    expected = attention_by_object(maps, found.boxes)["paddle"]
    assert found.attention["paddle"] == expected.actor_nss


@pytest.mark.parametrize("heads", ["actor", "critic"])
def test_a_head_that_is_not_asked_for_is_not_drawn(untrained_agent, short_trajectory, heads):
    knobs = Knobs("jacobian", heads=heads)
    found = explain(untrained_agent, short_trajectory, STEP, knobs)
    both = explorer.episode_gain(untrained_agent, short_trajectory, knobs)
    gain = [each * (head == heads) for each, head in zip(both, ("actor", "critic"), strict=True)]
    screen, region = short_trajectory.frames[STEP], untrained_agent.region
    expected = overlay(screen, found.maps, region, gain)
    np.testing.assert_array_equal(found.image, expected)
    assert (expected != overlay(screen, found.maps, region, both)).any()
    measure = "critic_nss" if heads == "critic" else "actor_nss"
    for name, entry in attention_by_object(found.maps, found.boxes).items():
        np.testing.assert_equal(found.attention[name], float(getattr(entry, measure)))


def test_the_jacobian_is_that_of_the_library(untrained_agent, short_trajectory):
    found = explain(untrained_agent, short_trajectory, 3, Knobs("jacobian"))
    observation, memory = short_trajectory.observations[3], short_trajectory.memory[3]
    maps = jacobian_saliency(untrained_agent.network, observation, memory)
    np.testing.assert_array_equal(found.maps.critic, maps.critic)


def test_the_gain_of_an_episode_fills_the_brightness(untrained_agent, short_trajectory):
    actor, critic = explorer.episode_gain(untrained_agent, short_trajectory, Knobs(stride=10))
    maps = perturbation_saliency(
        untrained_agent.network, short_trajectory.observations, short_trajectory.memory, stride=10
    )
    assert (actor, critic) == pytest.approx(common_gain([maps]), rel=1e-4)
    assert 0.9 < np.mean(critic * maps.critic < 255) < 1


def test_wrong_knobs_and_steps_are_refused(untrained_agent, short_trajectory):
    with pytest.raises(ValueError, match="method is 'occlusion', expected perturbation, jac"):
        Knobs("occlusion")
    with pytest.raises(ValueError, match="heads is 'tail', expected actor, critic, both"):
        Knobs(heads="tail")
    with pytest.raises(ValueError, match="step is 12, expected 0 to 11"):
        explain(untrained_agent, short_trajectory, 12)


# -- one pixel


@pytest.mark.parametrize("centre", [(0, 0), (40, 70), (35, 5)])
def test_a_probe_scores_what_the_map_holds_at_its_pixel(untrained_agent, short_trajectory, centre):
    observation, memory = short_trajectory.observations[STEP], short_trajectory.memory[STEP]
    maps = perturbation_saliency(
        untrained_agent.network, observation, memory, stride=5, mask_sigma=4.0
    )
    found = probe(untrained_agent, short_trajectory, STEP, centre, radius=4.0)
    i, j = centre[0] // 5, centre[1] // 5
    tolerance = {"rel": 1e-2, "abs": 1e-3 * float(maps.actor_grid.max())}
    assert found.actor_score == pytest.approx(float(maps.actor_grid[i, j]), **tolerance)
    tolerance["abs"] = 1e-3 * float(maps.critic_grid.max())
    assert found.critic_score == pytest.approx(float(maps.critic_grid[i, j]), **tolerance)
    assert found.mask.argmax() == 80 * centre[0] + centre[1]
    np.testing.assert_allclose(found.logits[0], short_trajectory.action_logits[STEP], atol=1e-5)
    assert found.value[0] == pytest.approx(short_trajectory.values[STEP], abs=1e-5)


def test_a_pixel_outside_is_refused(untrained_agent, short_trajectory):
    with pytest.raises(ValueError, match=r"pixel \(80, 3\) lies outside of the observation"):
        probe(untrained_agent, short_trajectory, STEP, (80, 3))


REGION = (35, 195, 0, 160)


@pytest.mark.parametrize(
    ("x", "y", "region", "pixel"),
    [
        (0.5, 115 / 210, REGION, (40, 40)),
        (0.999, 36 / 210, REGION, (0, 79)),
        (0.25, 34 / 210, REGION, None),
        (0.25, 196 / 210, REGION, None),
        (0.25, 0.999, None, (79, 20)),
    ],
)
def test_a_click_finds_its_pixel(x, y, region, pixel):
    assert drawing.pixel_at(x, y, region, (80, 80)) == pixel


def test_a_marked_pixel_lies_where_it_was_clicked():
    svg = drawing.marks_svg((210, 160), {}, (40, 10), 5.0, REGION, (80, 80))
    (cx, cy, rx, ry), *_ = re.findall(r'cx="(.*?)" cy="(.*?)" rx="(.*?)" ry="(.*?)"', svg)
    assert (float(cx), float(cy), float(rx), float(ry)) == (21, 116, 10, 10)
    assert drawing.pixel_at(float(cx) / 160, float(cy) / 210, REGION, (80, 80)) == (40, 10)


def test_boxes_are_drawn_in_screen_pixels():
    boxes = {"ball": np.array([[10.0, 12, 20, 21]]), "paddle": np.zeros((0, 4))}
    svg = drawing.marks_svg((210, 160), boxes, None, 5.0, REGION, (80, 80))
    assert svg.count("<rect") == 1
    assert 'x="40.00" y="55.00" width="2.00" height="4.00"' in svg
    assert "ball" in svg


# -- what is kept of an episode


def test_another_agent_sees_the_same_screens_with_a_memory_of_their_own(
    untrained_agent, short_trajectory, louder_agent
):
    both = Exploration(untrained_agent, short_trajectory, {"louder": louder_agent})
    agent, seen = both.seen_by("louder")
    assert agent is louder_agent
    expected = seen_by(short_trajectory, louder_agent)
    np.testing.assert_array_equal(seen.memory, expected.memory)
    theirs, own = (both.explain(name, STEP, Knobs()) for name in ("louder", "untrained-pong"))
    assert theirs.value != own.value
    assert theirs.action == own.action
    np.testing.assert_array_equal(theirs.observation, own.observation)
    assert not np.array_equal(theirs.maps.actor, own.maps.actor)


def test_attention_fills_up_coarse_before_fine(untrained_agent, short_trajectory):
    exploration, knobs = Exploration(untrained_agent, short_trajectory), Knobs("jacobian")
    order = []
    while (step := exploration.next_unknown("untrained-pong", knobs, 2)) is not None:
        exploration.explain("untrained-pong", step, knobs)
        order.append(step)
    assert order == [0, 8, 4, 2, 6, 10]
    steps, curves = exploration.attention("untrained-pong", knobs)
    np.testing.assert_array_equal(steps, [0, 2, 4, 6, 8, 10])
    for step, value in zip(steps, curves["paddle"], strict=True):
        found = exploration.explain("untrained-pong", int(step), knobs)
        assert value == found.attention["paddle"]
    other, _ = exploration.attention("untrained-pong", Knobs("jacobian", heads="critic"))
    assert not other.size


def test_the_oldest_maps_are_forgotten(untrained_agent, short_trajectory):
    exploration = Exploration(untrained_agent, short_trajectory)
    maps = [exploration.maps("untrained-pong", 0, Knobs(stride=stride)) for stride in range(20, 29)]
    assert exploration.maps("untrained-pong", 0, Knobs(stride=28)) is maps[-1]
    assert exploration.maps("untrained-pong", 0, Knobs(stride=20)) is not maps[0]


def test_checkpoints_are_those_of_one_kind_in_the_order_of_training():
    found = explorer.checkpoints("pong-a3c-80m")
    assert list(found)[-2:] == ["pong-a3c-40m", "pong-a3c-80m"]
    assert list(found.values()) == sorted(found.values())
    assert "untrained-pong" not in found  # it reads another observation
    assert explorer.checkpoints("a-file-of-mine") == {}
    assert explorer.checkpoints("untrained-pong")["untrained-pong"] == 0
    for game in ("pong", "breakout", "spaceinvaders"):
        assert all(game in name for name in explorer.agents_of(game))


def test_the_first_step_shows_the_ball(untrained_agent):
    trajectory = rollout(untrained_agent, seed=0, max_steps=100)
    step = explorer.first_step(trajectory)
    assert len(object_boxes("pong", trajectory.ram[step])["ball"]) == 1
    assert not any(len(object_boxes("pong", ram)["ball"]) for ram in trajectory.ram[:step])
    other = replace(trajectory, settings=EnvironmentSettings("Tennis"))
    assert explorer.first_step(other) == 10  # its objects are not known


def test_repeated_maps_have_a_mean_and_a_spread(untrained_agent, short_trajectory):
    knobs = Knobs(stride=16, repeats=8)
    found = explain(untrained_agent, short_trajectory, STEP, knobs, gain=(3e9, 2e6))
    observation, memory = short_trajectory.observations[STEP], short_trajectory.memory[STEP]
    maps = perturbation_saliency(untrained_agent.network, observation, memory, stride=16, repeats=8)
    np.testing.assert_array_equal(found.maps.actor, maps.actor)
    spreads = [maps.actor_spread, maps.critic_spread]
    gains = [300 / spread.max() for spread in spreads]  # the largest is brighter than full
    image, note = drawing.spread_image(found.maps, gains, knobs)
    strength = [np.clip(g * s / 255, 0, 1) for g, s in zip(gains, spreads, strict=True)]
    colours = np.array([[46, 137, 255], [255, 94, 36]])  # of the maps on screens, too
    expected = np.clip(np.stack(strength, -1) @ colours, 0, 255)
    np.testing.assert_allclose(image, expected, atol=1)
    at = np.unravel_index(maps.actor.argmax(), (80, 80))
    assert f"actor {maps.actor_spread[at] / maps.actor[at]:.0%}" in note
    assert "over 8 jittered maps" in note


# -- inside the network


def test_activations_are_those_of_the_forward_pass(untrained_agent, short_trajectory):
    network = untrained_agent.network
    observation, memory = short_trajectory.observations[STEP], short_trajectory.memory[STEP]
    found = activations_of(network, observation, memory)
    batch = torch.from_numpy(observation)[None], torch.from_numpy(memory)[None]
    with torch.no_grad():
        encoding, (_, _, after) = network.encode(batch[0]), network(*batch)
    np.testing.assert_allclose(found.channels, encoding.reshape(32, 5, 5), atol=1e-6)
    np.testing.assert_allclose(found.memory, after[0], atol=1e-6)
    assert not network.conv4._forward_hooks


def test_activations_of_a_network_without_memory_or_convolutions():
    network = build_network("nature", 6)
    found = activations_of(network, np.random.default_rng(0).random((4, 84, 84), np.float32), None)
    assert found.channels.shape == (64, 7, 7)
    assert found.channels.min() == 0  # after its nonlinearity
    assert found.memory is None
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    found = activations_of(plain, np.ones((1, 4, 4), np.float32), None)
    assert found.channels is None
    assert found.memory is None


def test_channels_are_drawn_signed_with_one_scale():
    channels = np.zeros((4, 2, 2), np.float32)
    channels[0, 0, 0], channels[3, 1, 1] = 2, -1
    image = channels_image(channels, 2.0)
    assert image.shape == (5, 5, 3)
    assert (image[0, 0] == np.rint(255 * np.array(COLOURS(1.0)[:3]))).all()
    assert (image[4, 4] == np.rint(255 * np.array(COLOURS(0.25)[:3]))).all()
    assert image[0, 0, 0] > image[0, 0, 2]  # positive is red
    assert image[4, 4, 2] > image[4, 4, 0]  # negative is blue
    memory = np.arange(512.0).reshape(2, 256)
    states = memory_channels(memory)
    assert states.shape == (2, 12, 22)
    np.testing.assert_array_equal(states.reshape(2, -1)[:, :256], memory)
    assert channels_image(states, 1.0).shape == (25, 25, 3)


# -- drawings


def test_a_picture_keeps_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (21, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_image(drawing.png(image)), image)
    grey = np.array([[0.0, 1.0], [0.5, 2.0]])
    np.testing.assert_array_equal(load_image(drawing.png(grey)), [[0, 255], [128, 255]])


def test_a_curve_has_gaps_and_ends_where_it_should(short_trajectory):
    steps = np.array([0, 2, 4, 6, 11])
    curve = drawing.Curve(steps, np.array([0.0, 1.0, np.nan, 3.0, 4.0]), "#123456")
    svg = drawing.curve_svg({"ball": curve}, short_trajectory)
    lines = re.findall(r'points="(.*?)" stroke="#123456"', svg)
    assert [len(line.split()) for line in lines] == [2, 2]
    assert lines[0].split()[0] == "0.0,90.0"
    assert lines[1].split()[-1] == "1000.0,6.0"
    assert curve.at(6) == 3.0
    assert np.isnan(curve.at(5))
    zero = drawing.curve_svg({"ball": curve}, short_trajectory, zero=True)
    assert 'y1="90.0" y2="90.0" class="zero"' in zero


def test_rewards_and_ends_of_episodes_are_marked(short_trajectory):
    rewards = np.zeros(12)
    rewards[11], rewards[0] = 1, -1
    trajectory = replace(short_trajectory, rewards=rewards, episode=np.arange(12) // 6)
    svg = drawing.curve_svg({}, trajectory)
    assert f'x1="1000.0" x2="1000.0" y1="93" y2="100" class="won" stroke="{drawing.WON}"' in svg
    assert f'x1="0.0" x2="0.0" y1="93" y2="100" class="won" stroke="{drawing.LOST}"' in svg
    assert svg.count('class="start"') == 1
    assert 'x1="545.5" x2="545.5" y1="0"' in svg


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0"), (850, "850"), (350_000, "350k"), (1_250_000, "1.25M")]
)
def test_numbers_of_steps_are_brief(number, words):
    assert drawing.brief(number) == words


def test_a_view_is_written_with_its_numbers(exploration, tmp_path):
    knobs = Knobs(stride=10)
    path = export.write_view(exploration, "untrained-pong", STEP, knobs, tmp_path, (40, 70))
    assert path.name == "untrained-pong-seed3-step9.png"
    assert load_image(path.read_bytes()).shape[1] > 1000
    numbers = json.loads(path.with_suffix(".json").read_text())
    assert numbers["step"] == STEP
    assert numbers["origin"]["seed"] == 3
    expected = exploration.probe("untrained-pong", STEP, (40, 70), knobs).actor_score
    assert numbers["probe"]["actor"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_clip_is_written(exploration, tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    export.write_clip(exploration, ["untrained-pong"], range(3, 7), Knobs("jacobian"), path)
    if suffix == ".gif":
        with Image.open(path) as movie:
            assert movie.n_frames == 4
    else:
        assert path.read_bytes()[4:8] == b"ftyp"


# -- the page


@pytest.fixture(scope="module")
def page(untrained_agent) -> Explorer:
    return Explorer("untrained-pong", seed=3, steps=12)


def press(page, key: str, shift: bool = False) -> None:
    page._on_picture({"new": {"kind": "key", "key": key, "shift": shift}, "owner": page.screen})


def click(page, picture, x: float, y: float) -> None:
    page._on_picture({"new": {"kind": "click", "x": x, "y": y}, "owner": picture})


def test_the_page_shows_what_explain_returns(page, untrained_agent, short_trajectory):
    page.stride.value = 10
    page.go(STEP)
    found = explain(untrained_agent, short_trajectory, STEP, page.knobs)
    shown = load_image(page.screen.image)
    np.testing.assert_allclose(shown, found.image.astype(int), atol=1)  # the gain is rounded
    assert np.abs(shown.astype(int) - short_trajectory.frames[STEP]).max() > 50
    assert "step 9 of 11" in page.heading.value
    assert page.value_curve.cursor == page.attention_curve.cursor == STEP / 11
    for name, share in found.probabilities.items():
        assert f"<span>{name}</span>" in page.bars.value
        assert f"{share:.2f}" in page.bars.value
    assert f"{found.value:.2f}" in page.value_legend.value
    assert f"{found.attention['paddle']:.2f}" in page.attention_legend.value


def test_keys_move_through_the_episode(page):
    page.go(5)
    for key, expected in [
        ("ArrowRight", 6),
        ("ArrowLeft", 5),
        ("End", 11),
        ("ArrowRight", 11),
        ("PageDown", 1),
        ("Home", 0),
        ("ArrowLeft", 0),
    ]:
        press(page, key)
        assert page.step.value == expected
    playing = page.play.playing
    press(page, " ")
    assert page.play.playing is not playing
    press(page, " ")


def test_a_click_on_a_curve_goes_to_its_step(page):
    click(page, page.value_curve, 0.72, 0.1)
    assert page.step.value == 8
    click(page, page.attention_curve, 0.0, 0.5)
    assert page.step.value == 0


def test_a_click_on_the_screen_probes_and_escape_forgets(page, untrained_agent, short_trajectory):
    page.go(STEP)
    before = page.observed.image
    click(page, page.screen, 0.5, 115 / 210)
    assert page.centre == (40, 40)
    found = probe(untrained_agent, short_trajectory, STEP, (40, 40))
    assert f"S = {found.actor_score:.2g}" in page.probed.value
    assert f"S = {found.critic_score:.2g}" in page.probed.value
    assert "→" in page.bars.value
    assert page.observed.image == drawing.png(found.observation[-1]) != before
    press(page, "ArrowUp", shift=True)
    assert page.centre == (39, 40)
    click(page, page.observed, 0.999, 0.5)
    press(page, "ArrowRight", shift=True)
    assert page.centre == (40, 79)  # stays inside
    press(page, "Escape")
    assert page.centre is None
    assert page.observed.image == before
    click(page, page.screen, 0.5, 0.01)  # the score: the agent does not see it
    assert page.centre is None


def test_the_other_knobs_change_the_picture(page):
    page.go(STEP)
    seen = {page.screen.image}
    page.gain.value = 0.1
    seen.add(page.screen.image)
    page.heads.value = "actor"
    seen.add(page.screen.image)
    page.method.value = "jacobian"
    assert page.stride.disabled
    seen.add(page.screen.image)
    assert len(seen) == 4
    assert "<rect" not in page.screen.drawing
    page.objects.value = True
    assert "<rect" in page.screen.drawing
    page.objects.value, page.method.value = False, "perturbation"
    page.heads.value, page.gain.value = "both", 1.0


def test_another_episode_and_another_game(page):
    page.steps.value = 10
    page.play_another()
    assert page.exploration.trajectory.origin["seed"] == 4
    assert page.step.value == explorer.first_step(page.exploration.trajectory)
    page.game.value = "breakout"
    assert page.player.startswith(("untrained-breakout", "breakout"))
    assert "Breakout" in page.heading.value
    assert page.exploration.player.game == "breakout"
    page.game.value = "pong"
    page.agent.value = "untrained-pong"


def test_a_replay_is_shown(short_trajectory, tmp_path, monkeypatch):
    monkeypatch.setattr("atarilens.paths.REPLAYS", tmp_path)
    save_replay(short_trajectory, tmp_path / "pong-short.npz")
    page = Explorer("untrained-pong", replay="pong-short")
    assert not page.status.value
    np.testing.assert_array_equal(page.exploration.trajectory.frames, short_trajectory.frames)
    assert page.step.max == 11


def test_an_agent_of_ones_own_plays_beside_the_others(louder_agent):
    page = Explorer(louder_agent, steps=10)
    assert page.player == "louder"
    assert "untrained-pong" in page.network.options
    assert page.learning.disabled
    page.network.value = "untrained-pong"
    assert page.onlooker == "untrained-pong"
    assert "Maps of <b>untrained-pong</b>" in page.screen_note.value
    assert page.value_legend.value.count("al-key") == 2


def test_two_agents_are_shown_side_by_side(louder_agent, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(page_module, "WRITTEN", tmp_path / "build" / "explorer")
    page = Explorer(louder_agent, steps=10)
    assert len(page.pair.children) == 1
    page.compared.value = "untrained-pong"
    assert len(page.pair.children) == 2
    expected = page.exploration.explain("untrained-pong", page.step.value, page.knobs)
    np.testing.assert_array_equal(load_image(page.beside.image), expected.image)
    assert page.beside.image != page.screen.image
    assert "<b>louder</b> (left) and <b>untrained-pong</b> (right)" in page.screen_note.value
    page.clip_steps.value = 2
    with Image.open(page.write_clip()) as movie:
        assert movie.width > 2 * 320
    page.compared.value = NOBODY
    assert len(page.pair.children) == 1


def test_what_is_inside_the_network_is_shown(page):
    page.go(STEP)
    shown = {}
    for kind in page.inside.options:
        page.inside.value = kind
        assert not page.status.value
        shown[kind] = page.observed.image
    assert len(set(shown.values())) == 4
    assert "tick “Mean of jittered maps”" in page.observed_note.value
    page.stride.value, page.repeats.value = 20, True
    assert "standard deviation over 8 jittered maps" in page.observed_note.value
    assert page.observed.image != shown["spread of the maps"]
    page.repeats.value, page.stride.value, page.inside.value = False, 5, "what it reads"


def test_a_checkpoint_of_ones_own_is_opened(louder_agent, tmp_path):
    page = Explorer("untrained-pong", steps=10)
    weights = save_agent(louder_agent, tmp_path / "mine")
    row = weights.with_suffix(".yml")
    upload = [
        {
            "name": path.name,
            "type": "",
            "size": path.stat().st_size,
            "content": memoryview(path.read_bytes()),
            "last_modified": datetime.now(tz=UTC),
        }
        for path in (weights, row)
    ]
    page.own_file.value = upload
    assert not page.status.value
    assert page.player == "mine"
    assert page.agent.value == "mine"
    weight = page.exploration.player.network.conv1.weight
    torch.testing.assert_close(weight, louder_agent.network.conv1.weight, rtol=1e-3, atol=1e-4)
    page.own_file.value = [upload[0] | {"content": memoryview(b"no weights"), "name": "bad.zip"}]
    assert "al-error" in page.status.value
    assert page.player == "mine"
    page.own_file.value = [upload[0], upload[0] | {"name": "other.safetensors"}]
    assert "expected one checkpoint and perhaps its .yml" in page.status.value


def test_the_environment_chooses_the_agent(louder_agent, tmp_path, monkeypatch):
    weights = save_agent(louder_agent, tmp_path / "mine")
    monkeypatch.setenv("ATARILENS_AGENT", str(weights))
    monkeypatch.setenv("ATARILENS_GAME", "pong")
    assert explore(steps=10).player == "mine"
    assert explore("untrained-breakout", steps=10).player == "untrained-breakout"
    monkeypatch.setenv("ATARILENS_AGENT", str(tmp_path / "missing.pth"))
    page = explore(steps=10)
    assert page.player == page_module.default_agent()
    assert "missing.pth" in page.status.value
    monkeypatch.delenv("ATARILENS_AGENT")
    monkeypatch.setenv("ATARILENS_GAME", "Freeway")
    assert explore(steps=10).player == page_module.default_agent("freeway")


def test_an_agent_with_q_values_plays_greedily():
    network = build_network("nature-q", 6)
    agent = agent_from_module(network, game="pong", preprocessing="area84-stack4", name="dqn")
    page = Explorer(agent, steps=10)
    assert page.exploration.trajectory.origin["greedy"]


def test_what_goes_wrong_is_said_on_the_page(page, monkeypatch, tmp_path):
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("ATARILENS_AGENTS_URL", str(tmp_path / "nowhere"))
    shown = page.player
    page.agent.value = "pong-a3c-40m"
    assert "the weights of agent &#x27;pong-a3c-40m&#x27; are not in the cache" in page.status.value
    assert "al-error" in page.status.value
    assert page.player == shown
    page.agent.value = "untrained-pong"
    assert not page.status.value


def test_views_and_clips_are_written_where_the_page_says(page, monkeypatch, tmp_path):
    monkeypatch.setattr(page_module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(page_module, "WRITTEN", tmp_path / "build" / "explorer")
    page.go(4)
    path = page.write_view()
    assert path.is_file()
    assert f"build/explorer/{path.name}" in page.status.value
    page.clip_steps.value = 3
    path = page.write_clip()
    assert path.suffix == ".gif"
    assert path.name in page.status.value


def test_the_strong_agent_comes_first(monkeypatch):
    monkeypatch.setattr(page_module, "list_agents", lambda: ["pong-strong", "untrained-pong"])
    assert page_module.default_agent() == "pong-strong"
    monkeypatch.setattr(page_module, "list_agents", lambda: ["untrained-pong"])
    assert page_module.default_agent() == "untrained-pong"
    assert page_module.default_agent("Tennis") == "untrained-tennis"


# -- built-in attention, and gaze


@pytest.fixture(scope="module")
def attentive():
    """An untrained network of Breakout with attention of its own."""
    return load_agent("untrained-breakout-sparse-fls")


def test_the_networks_own_attention_is_a_third_method(attentive):
    page = Explorer(attentive, steps=10)
    assert [value for _, value in page.method.options] == ["perturbation", "jacobian", "attention"]
    page.method.value = "attention"
    assert not page.status.value
    assert page.stride.disabled
    assert "blue: weighed more" in page.screen_note.value
    step = page.step.value
    seen = page.exploration.trajectory
    own = attention_saliency(attentive.network, *seen.decision(step))
    found = page.exploration.maps(attentive.name, step, page.knobs)
    np.testing.assert_array_equal(found.actor, own.actor)
    page.network.value = "untrained-breakout"  # a network without attention
    assert [value for _, value in page.method.options] == ["perturbation", "jacobian"]
    assert page.method.value == "perturbation"
    assert not page.status.value


def test_gaze_is_drawn_over_the_screen_of_a_trial(attentive, tmp_path):
    write_synthetic_trials(tmp_path, trials=1, frames=45, player="untrained-breakout")
    page = Explorer(attentive, steps=10, gaze=tmp_path)
    assert "<circle" not in page.screen.drawing
    page.method.value = "attention"
    page.episode.value = page.episode.options[-1]
    assert not page.status.value
    assert page.episode.value.startswith("gaze: 1_SYNTH_0_")
    assert "reads a trial of Breakout" in page.heading.value
    assert "synthetic gaze" in page.heading.value
    page.go(6)
    points = page.trial.points(6)
    assert page.screen.drawing.count("<circle") == len(points) > 5
    y, x = points[0]
    assert f'cx="{x + 0.5}" cy="{y + 0.5}"' in page.screen.drawing
    np.testing.assert_array_equal(page.exploration.trajectory.frames, page.trial.frames)


def test_a_trial_of_a_person_has_no_objects(attentive, tmp_path):
    write_synthetic_trials(tmp_path, trials=1, frames=30, player="untrained-breakout")
    meta = tmp_path / "meta_data.csv"
    meta.write_text("GameName,trial_id\nbreakout,1\n")
    page = Explorer(attentive, steps=5, gaze=tmp_path)
    page.episode.value = page.episode.options[-1]
    assert not page.status.value
    assert "a person&#x27;s gaze" in page.heading.value
    page.objects.value = True
    assert "<rect" not in page.screen.drawing
