"""The exercises of the teaching notebooks have the answers that they say they should have."""

import re

import nbformat
import pytest

from atarilens.paths import NOTEBOOKS

SOLUTIONS = {
    "passes_at_stride_4": "20 * 20",
    "passes_at_stride_1": "80 * 80",
    "hidden_in_the_middle": "my_mask(40, 40).sum()",
    "hidden_at_the_corner": "my_mask(0, 0).sum()",
    "score_on_grey": (
        "0.5 * ((ask(my_perturb(np.full((1, 80, 80), 0.5), 30, 30))[0]"
        " - ask(np.full((1, 80, 80), 0.5))[0]) ** 2).sum()"
    ),
    "largest_change_of_a_probability": (
        "np.abs(np.exp(action_logits + 1) / np.exp(action_logits + 1).sum() - probabilities).max()"
        ".round(6)"
    ),
    "score_when_all_rise_by_one": "0.5 * np.square(np.ones(6)).sum()",
    "correlation_of_black_and_blur": (
        "np.corrcoef(np.ravel([[((ask(observation * (1 - my_mask(i, j)))[0] - action_logits) ** 2)"
        ".sum() for j in centres] for i in centres]), grids[..., 0].ravel())[0, 1]"
    ),
    "correlation_without_memory": (
        "np.corrcoef(perturbation_saliency(agent.network, observation, 0 * memory).actor_grid"
        ".ravel(), maps.actor_grid.ravel())[0, 1]"
    ),
}


@pytest.fixture(scope="module")
def from_scratch() -> list[str]:
    notebook = nbformat.read(NOTEBOOKS / "20_build_saliency_from_scratch.ipynb", 4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_every_exercise_has_the_answer_that_it_should_be(from_scratch, tmp_path, capsys):
    solved, namespace = set(), {}
    for source in from_scratch:
        for name in re.findall(r"^(\w+) = None$", source, re.M):
            source = source.replace(f"{name} = None", f"{name} = {SOLUTIONS[name]}")
            solved.add(name)
        source = source.replace('out_dir: str = ""', f"out_dir: str = {str(tmp_path)!r}")
        exec(compile(source, "cell", "exec"), namespace)
    said = [line for line in capsys.readouterr().out.splitlines() if "should be" in line]
    assert solved == set(SOLUTIONS)
    assert len(said) == len(SOLUTIONS)
    assert all(line.endswith(": right") for line in said), said


def test_a_wrong_answer_is_told_apart(from_scratch, capsys):
    (check,) = [source for source in from_scratch if source.startswith("def check")]
    namespace = {}
    exec("import numpy as np\n" + check + "\ncheck(401, 400)\ncheck(None, 400)", namespace)
    assert capsys.readouterr().out == "401, should be 400: not yet\nopen\n"
