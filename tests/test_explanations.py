"""The standard explanation shows the steps that it says, with saliency drawn on them."""

import json

import pytest

from compendium.explanations import standard_figures


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
