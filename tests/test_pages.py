"""Generated pages say what the stored numbers say, a line for each claim."""

import json

import pytest

from compendium.pages import readmes


def test(difference: float, low: float, high: float) -> dict:
    holds = low > 0
    return {"difference": difference, "low": low, "high": high, "holds": holds, "episodes": 4}


test.__test__ = False


def test_a_claim_counts_once_and_holds_only_against_every_control():
    easy, hard, worse = test(2, 1, 3), test(0.5, -1, 2), test(-2, -3, -1)
    (line,) = readmes.answers({"claims": {"other times": easy, "untrained": hard}})
    assert line == (
        "**undecided**; other times 2.00 (1.00 to 3.00), untrained 0.50 (-1.00 to 2.00); n = 4"
    )
    named = {"claims": {"before": {"a": easy}, "at": {"a": hard, "b": worse}}}
    assert [line.split(";")[0] for line in readmes.answers(named)] == [
        "before: **holds**",
        "at: **reversed**",
    ]
    absent = hard | {"outcome": "absent"}
    assert readmes.answers({"claims": {"a": absent, "b": easy}})[0].startswith("**absent**")


def test_only_tests_about_the_claim_answer_the_paper():
    easy, hard = test(2, 1, 3), test(0.5, -1, 2)
    numbers = {"claims": {"Jacobian": easy, "perturbation": hard}, "rises at every age": False}
    assert readmes.answers(numbers, "/Jacobian") == [
        "**holds**; Jacobian 2.00 (1.00 to 3.00); n = 4",
        "rises at every age: no",
        "beside it, **undecided**; perturbation 0.50 (-1.00 to 2.00); n = 4",
    ]


def test_claims_without_intervals_are_named():
    assert readmes.answers({"claims": {"SSIM": True, "Spearman": False}}) == [
        "SSIM: **holds**",
        "Spearman: **does not hold**",
    ]
    assert readmes.answers({"holds": True}) == ["**holds**"]
    assert readmes.answers({}) == []


def test_a_part_is_replaced_between_its_markers_and_nothing_else():
    text = "a\n<!-- x: of y -->\nold\n<!-- end -->\nb\n<!-- z: of y -->\n<!-- end -->\n"
    filled = readmes.fill(text, "x", "new")
    assert filled == text.replace("old", "\nnew\n")
    assert readmes.fill(filled, "x", "new") == filled
    with pytest.raises(ValueError, match="the markers of 'y' once, found them 0 times"):
        readmes.fill(text, "y", "new")


def test_only_what_differs_is_written(monkeypatch, tmp_path):
    one, two = tmp_path / "one.md", tmp_path / "two.md"
    one.write_text("as it should be")
    monkeypatch.setattr(readmes, "snippet", str)
    monkeypatch.setattr(readmes, "pages", lambda: {one: "as it should be", two: "new"})
    assert readmes.write() == [two]
    assert two.read_text() == "new"


def test_minutes_of_executed_notebooks_are_stored(monkeypatch, tmp_path):
    figure, *others = readmes.list_figures()
    notebook = {"metadata": {"papermill": {"duration": 65.43}}}
    (tmp_path / f"{figure}.ipynb").write_text(json.dumps(notebook))
    record = tmp_path / "figures.json"
    record.write_text(json.dumps({"machine": "x", "note": "n", "seconds": {others[0]: 6}}))
    monkeypatch.setattr(readmes, "BUILD", tmp_path)
    monkeypatch.setattr(readmes, "MINUTES", record)
    readmes.store_minutes()
    stored = json.loads(record.read_text())
    assert stored["seconds"] == {figure: 65.4, others[0]: 6}
    assert " 1.1 |" in readmes.figure_row(figure, stored["seconds"])
    assert readmes.figure_row(others[1], stored["seconds"]).split(" | ")[-2] == "–"


def test_every_claim_of_the_paper_belongs_to_a_notebook():
    import yaml

    claims = yaml.safe_load(readmes.CLAIMS.read_text())
    names = {readmes.notebook_of(figure).stem for figure in readmes.list_figures()}
    assert set(claims) <= names
    for rows in claims.values():
        for row in rows:
            assert set(row) - {"about"} == {"place", "paper", "measured"}
