"""The table of maps and effects: its columns, its resumption, and rows that can be recomputed."""

import csv

import numpy as np
import pytest

from atarilens import load_agent, play
from compendium.tables import faithfulness, parts

AGENT = "spaceinvaders-strong"  # whose games are short
FULL = {"perturbation": {}, "jacobian": {}, "edges": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faithfulness")


@pytest.fixture(scope="module", autouse=True)
def _few_methods():
    """The other map types have tests of their own and would take minutes."""
    whole = dict(faithfulness.METHODS)
    faithfulness.METHODS.clear()
    faithfulness.METHODS.update(FULL)
    yield
    faithfulness.METHODS.clear()
    faithfulness.METHODS.update(whole)


@pytest.fixture(scope="module")
def table(folder):
    return faithfulness.faithfulness_table(
        [AGENT], episodes=1, moments=3, folder=folder, table=folder / "table.csv", progress=False
    )


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_has_an_object_its_effects_and_its_maps(table):
    rows = read(table)
    assert list(rows[0]) == faithfulness.columns()
    assert len({row["step"] for row in rows}) == 3
    assert {"ship", "aliens", "shields"} <= {row["kind"] for row in rows}
    assert len({(row["step"], row["object"]) for row in rows}) == len(rows)
    assert max(sum(row["kind"] == "aliens" and row["step"] == t for row in rows)
               for t in {row["step"] for row in rows}) == faithfulness.MOST  # fmt: skip
    for row in rows:
        assert 0 <= float(row["painted_tv"]) <= 1
        assert 0 <= float(row["actor_share:perturbation"]) <= 1
        assert row["actor_share:edges"] == row["critic_share:edges"]
    assert sum(float(row["painted_tv"]) for row in rows) > 0
    ships = [row for row in rows if row["kind"] == "ship"]
    assert any(float(row["moved_tv"] or 0) > 0 for row in ships)
    assert not any(row["removed_tv"] for row in ships)  # the console cannot remove it
    aliens = [row for row in rows if row["kind"] == "aliens" and row["removed_tv"]]
    assert aliens
    for row in aliens:  # where nothing overlaps, paint and RAM agree
        assert float(row["removed_tv"]) == pytest.approx(float(row["painted_tv"]), abs=0.1)


def test_the_same_rows_come_out_of_a_new_replay(table, folder):
    """No file of the first run is used: the episode is played again."""
    rows = {(int(row["step"]), row["object"]): row for row in read(table)}
    for row in faithfulness.measure_episode(AGENT, faithfulness.FIRST_SEED, 3, ["effects"]):
        kept = rows[row["step"], row["object"]]
        assert float(kept["painted_tv"]) == pytest.approx(row["painted_tv"], rel=2e-3, abs=1e-5)
        assert float(kept["area"]) == pytest.approx(row["area"], rel=1e-3)


def test_finished_parts_are_not_measured_again(table, folder):
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("*--*.csv")}
    assert len(parts) == 2
    written = table.read_bytes()
    table.unlink()
    faithfulness.faithfulness_table(
        [AGENT], episodes=1, moments=3, folder=folder, table=table, progress=False
    )
    assert table.read_bytes() == written
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*--*.csv")} == parts


def test_rows_drawn_at_random_are_measured_again(table, folder):
    assert faithfulness.check_rows(3, seed=1, table=table, progress=False) == []


def test_a_number_that_no_longer_comes_out_is_named(table, folder):
    rows = read(table)
    changed = next(row for row in rows if float(row["painted_tv"]) > 0.01)
    before, changed["painted_tv"] = changed["painted_tv"], "0.999"
    moved = dict(changed, object="aliens:999", painted_tv=before)
    wrong = folder / "wrong.csv"
    parts.write_rows([changed, moved], list(changed), wrong)
    found = faithfulness.check_rows(20, table=wrong, progress=False)
    step = f"{AGENT}, seed {faithfulness.FIRST_SEED}, step {changed['step']}"
    assert len(found) == 2
    assert f"{step}, {changed['object']}: painted_tv: stored 0.999, now {before[:4]}" in found[0]
    assert found[1] == f"{step}, aliens:999: not there when the episode is played again"


def test_an_object_that_is_painted_over_is_gone(folder):
    agent = load_agent(AGENT)
    trajectory = play.replay(next(folder.glob("*.npz")), agent)
    t = len(trajectory) // 2
    objects = faithfulness._objects(agent.game, trajectory.ram[t], [0])
    read_ = faithfulness.painted_observation(agent, trajectory.frames[t], "ship", objects["ship"])
    changed = np.argwhere(read_[0] != trajectory.observations[t][0])
    top, bottom, left, right = (objects["ship"][0] - [35, 35, 0, 0]) / 2
    assert len(changed)
    assert (changed >= [top - 2, left - 2]).all()
    assert (changed <= [bottom + 2, right + 2]).all()


def test_an_agent_that_stacks_screens_is_refused():
    with pytest.raises(ValueError, match="stacks screens, expected one that reads a single"):
        next(faithfulness.measure_episode("untrained-pong-nature", 0, 1))
