"""The solutions of the teaching notebooks are right, and hidden from who works through them."""

import re

import nbformat
import pytest

from atarilens.paths import NOTEBOOKS

SOLUTIONS = re.findall(r"```python\n(.*?)```", (NOTEBOOKS / "solutions.md").read_text(), re.DOTALL)
TEACHING = ["20_build_saliency_from_scratch", "21_can_you_trust_a_saliency_map"]


def code(name: str) -> list[str]:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def solution_of(variable: str) -> str:
    (found,) = (block for block in SOLUTIONS if re.search(rf"^{variable} = ", block, re.M))
    return found


@pytest.mark.parametrize("name", TEACHING)
def test_every_solution_is_right(name, tmp_path, capsys):
    solved, namespace = 0, {}
    for source in code(name):
        for variable in re.findall(r"^(\w+) = None$", source, re.M):
            exec(solution_of(variable), namespace)
            source = source.replace(f"{variable} = None\n", "")
            solved += 1
        source = source.replace('out_dir: str = ""', f"out_dir: str = {str(tmp_path)!r}")
        exec(compile(source, "cell", "exec"), namespace)
    said = re.findall(r"^\S+: (right|not yet)$", capsys.readouterr().out, re.M)
    assert solved >= 3
    assert said == ["right"] * solved


@pytest.mark.parametrize("name", TEACHING)
def test_a_notebook_does_not_tell_its_solutions(name):
    for source in code(name):
        for call in re.findall(r"^check\(.*\)$", source, re.M):
            assert re.fullmatch(r'check\("\w+", \w+\)', call), call


def test_a_wrong_answer_is_told_apart(capsys):
    cells = [source for source in code(TEACHING[0]) if "SEALED" in source]
    exec("\n".join(cells) + '\ncheck("1a", 403)\ncheck("1a", 400)\ncheck("1a", None)', {})
    assert capsys.readouterr().out == "403: not yet\n400: right\nopen\n"
