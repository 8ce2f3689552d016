"""The standard explanation shows the steps that it says, with saliency drawn on them."""

import json

import numpy as np
import pytest

from atarilens.play.rollouts import rollout
from compendium.explanations import saliency_movie, standard_figures


def test_the_movie_shows_the_steps_asked_for(untrained_agent, tmp_path):
    from PIL import Image, ImageSequence

    paths = saliency_movie(untrained_agent, tmp_path, seed=2, start=4, steps=3)
    assert [path.name for path in paths] == ["untrained-pong.mp4", "untrained-pong.gif"]
    with Image.open(paths[1]) as gif:
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    screens = rollout(untrained_agent, seed=2, max_steps=7).frames[4:]
    band = (shown[0].shape[0] - 2 * 210) // 2
    for image, screen in zip(shown, screens, strict=True):
        enlarged = screen.repeat(2, 0).repeat(2, 1)
        area = image[band : band + 420, :320].astype(int)
        outside = np.abs(area[:66] - enlarged[:66])  # above the play field there is no saliency
        assert outside.mean() < 3  # but for the palette's rounding
        added = area[70:390] - enlarged[70:390]
        assert added[..., 2].max() > 60  # the actor's blue
        assert np.abs(added[..., 1]).mean() < 3  # nothing is green


def test_a_start_before_the_game_is_refused(untrained_agent, tmp_path):
    with pytest.raises(ValueError, match="start is -1, expected 0 or more"):
        saliency_movie(untrained_agent, tmp_path, start=-1)
    assert not list(tmp_path.iterdir())


def test_one_step_has_no_other_time_to_compare_with(untrained_agent, tmp_path):
    with pytest.raises(ValueError, match="steps is 1, expected 2 or more"):
        standard_figures(untrained_agent, tmp_path, steps=1)
    assert len(standard_figures(untrained_agent, tmp_path, steps=2)) == 2


def test_the_figures_come_with_their_numbers(untrained_agent, tmp_path):
    paths = standard_figures(untrained_agent, tmp_path, steps=20)
    stems = ["untrained-pong--saliency", "untrained-pong--attention"]
    assert [path.stem for path in paths] == stems
    saliency, attention = (json.loads((tmp_path / f"{stem}.json").read_text()) for stem in stems)
    assert saliency["shown"] == [2, 6, 10, 14, 18]
    assert saliency["sha256"] == untrained_agent.facts["sha256"]
    assert attention["steps_measured"] == 20
    as_it_was, control = attention["actor_nss"].values()
    assert set(as_it_was) == set(control) != set()
    assert as_it_was != control


def test_equal_input_gives_equal_files(untrained_agent, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        standard_figures(untrained_agent, folder, steps=10)
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
