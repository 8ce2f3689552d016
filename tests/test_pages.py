"""Generated pages say what the stored numbers say, a line for each claim."""

import json

import pytest

from atarilens.measures import p_value_of_interval
from compendium.pages import claims, readmes


def test(difference: float, low: float, high: float) -> dict:
    holds = low > 0
    return {"difference": difference, "low": low, "high": high, "holds": holds, "episodes": 4}


test.__test__ = False


def test_a_claim_counts_once_and_holds_only_against_every_control():
    easy, hard, worse = test(2, 1, 3), test(0.5, -1, 2), test(-2, -3, -1)
    (line,) = claims.answers({"claims": {"other times": easy, "untrained": hard}})
    assert line == (
        "**undecided**; other times 2.00 (1.00 to 3.00), untrained 0.50 (-1.00 to 2.00); n = 4"
    )
    named = {"claims": {"before": {"a": easy}, "at": {"a": hard, "b": worse}}}
    assert [line.split(";")[0] for line in claims.answers(named)] == [
        "before: **holds**",
        "at: **reversed**",
    ]
    absent = hard | {"outcome": "absent"}
    assert claims.answers({"claims": {"a": absent, "b": easy}})[0].startswith("**absent**")


def test_only_tests_about_the_claim_answer_the_paper():
    easy, hard = test(2, 1, 3), test(0.5, -1, 2)
    numbers = {"claims": {"Jacobian": easy, "perturbation": hard}, "rises at every age": False}
    assert claims.answers(numbers, "/Jacobian") == [
        "**holds**; Jacobian 2.00 (1.00 to 3.00); n = 4",
        "rises at every age: no",
        "beside it, **undecided**; perturbation 0.50 (-1.00 to 2.00); n = 4",
    ]


def test_the_page_lists_onsets_deletions_and_what_stands_beside_a_claim():
    patch = test(13.8, 9.75, 17.9) | {"mean": 28.3, "control": 14.5}
    lines = claims.further(
        {
            "onsets": {"critic": "abrupt rise after step -9"},
            "deletion": {"before, ball": {"same-size patch elsewhere": patch}},
            "deletion, points of the policy": {"ball": [[0.0, 0, 0], [42.77, 35, 50]]},
            "beside": {"itself": test(2, 1, 3), "overlap": {"untrained": test(-2, -3, -1)}},
            "scores: mean, low, high": {
                "a, true hints": [2, 1, 3],
                "a, true hints, sticky": [1, 0, 2],
                "a, no hints": [-2, -3, -1],
                "a, no": [0, 0, 0],
            },
            "likeness": "ratio 1.00 (0.98 to 1.02), equivalent",
            "in words": {"aims at it": "it cannot"},
        }
    )
    assert lines == [
        "onset, critic: abrupt rise after step -9",
        "deleted, it moves the policy by points of 100 (in brackets a same-size patch elsewhere, "
        "and the difference's interval): before, ball 28.3 (14.5; 9.75 to 17.90, holds, n = 4)",
        "the same by age, from untrained to strong: ball 0.0, 42.8",
        "beside it, **holds**; itself 2.00 (1.00 to 3.00); n = 4",
        "beside it, overlap: **reversed**; untrained -2.00 (-3.00 to -1.00); n = 4",
        "score, a agent: true hints 2.0 (1.0 to 3.0); true hints and sticky actions 1.0 "
        "(0.0 to 2.0); no hints -2.0 (-3.0 to -1.0)",
        "scores, overfit under true hints to control: ratio 1.00 (0.98 to 1.02), equivalent",
        "aims at it: it cannot",
    ]
    assert claims.further({"claims": {"a": test(2, 1, 3)}}) == []


def test_claims_without_intervals_are_named():
    assert claims.answers({"claims": {"SSIM": True, "Spearman": False}}) == [
        "SSIM: **holds**",
        "Spearman: **does not hold**",
    ]
    assert claims.answers({"holds": True}) == ["**holds**"]
    assert claims.answers({}) == []


def test_claims_are_corrected_for_their_number_and_shared_numbers_count_once():
    clear, close, lost = test(2, 1.9, 2.1), test(1, 0.05, 1.95), test(-1, -1.9, -0.1)
    both = [
        ({"claims": {"clear": {"a": clear}, "close": {"a": clear, "b": close}}}, ""),
        ({"claims": {"again": {"c": clear}}}, ""),
        ({"claims": {"lost": {"a": clear, "b": lost, "c": test(1, -1, 3)}}}, ""),
        ({"claims": {"open": {"a": test(1, -1, 3)}}}, ""),
        ({"claims": {"a": test(3, 1, 5), "b": close}}, "/a"),
    ]
    levels = claims.corrected(both)
    assert len(levels) == 5
    found = {name: levels[claims.key_of(t)] for name, t in both[0][0]["claims"].items()}
    assert found["clear"].significant
    assert found["close"].p == pytest.approx(claims.p_of({"b": close}))
    assert not found["close"].significant
    assert found["close"].p < 0.05 < found["close"].adjusted
    alone = p_value_of_interval(-1, -1.9, -0.1, 4)
    assert claims.p_of(both[2][0]["claims"]["lost"]) == pytest.approx(3 * alone)
    assert claims.p_of(both[3][0]["claims"]["open"]) == 1
    assert claims.answers(both[1][0], "", levels) == [
        "again: **holds**; Holm's p < 0.001; c 2.00 (1.90 to 2.10); n = 4"
    ]
    assert claims.counted(levels).startswith("5 different claims have an interval; 3 of them")


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

    stated = yaml.safe_load(readmes.CLAIMS.read_text())
    names = {path.stem for path in readmes.NOTEBOOKS.glob("[0-9]*.ipynb")}
    assert set(stated) <= names
    for rows in stated.values():
        for row in rows:
            assert set(row) - {"about", "missing"} == {"place", "paper", "measured"}
    page = readmes.figures_page()
    for name in stated:
        section = page.split(f"## [{name}]")[1].split("\n## ")[0]
        for row in stated[name]:
            assert row["paper"].strip() in section
            assert row.get("missing", "").strip() in section
