"""The tables of insertion, of sanity checks and of rallies: known answers, and resumption."""

import csv

import joblib
import numpy as np
import pytest
from scipy.special import softmax

from atarilens import load_agent, rollout
from compendium.tables import faithfulness, insertion, rally, sanity

AGENT = "pong-strong"
FEW = {"occlusion": {"patch": 20, "stride": 20}, "jacobian": {}, "perturbation": {}, "edges": {}}
OF_A_NETWORK = {"occlusion", "jacobian", "perturbation"}


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Few methods, and the beginning of an episode only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faithfulness, "METHODS", FEW)
        patch.setattr(insertion, "STEPS", 60)
        patch.setattr(insertion, "PIXELS", 800)
        patch.setattr(sanity, "STEPS", 60)
        patch.setattr(rally, "STEPS", 60)
        patch.setattr(rally, "MOMENTS", 2)
        patch.setattr(rally, "HORIZON", 3)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def curves(folder):
    table = folder / "insertion.csv"
    settings = {"episodes": 1, "moments": 2, "folder": folder / "insertion", "progress": False}
    insertion.insertion_table([AGENT], table=table, **settings)
    written, parts = table.read_bytes(), list((folder / "insertion").iterdir())
    table.unlink()
    before = [path.stat().st_mtime_ns for path in parts]
    insertion.insertion_table([AGENT], table=table, **settings)
    assert table.read_bytes() == written
    assert [path.stat().st_mtime_ns for path in parts] == before
    return read(table)


@pytest.fixture(scope="module")
def checks(folder):
    table = folder / "sanity.csv"
    sanity.sanity_table([AGENT], episodes=1, folder=folder, table=table, progress=False)
    return read(table)


def test_a_whole_insertion_ends_where_the_trajectory_was(curves):
    assert list(curves[0]) == insertion.columns()
    trajectory = rollout(load_agent(AGENT), insertion.FIRST_SEED, insertion.STEPS)
    assert len({row["step"] for row in curves}) == 2
    for row in curves:
        logits = trajectory.action_logits[int(row["step"])].astype(float)
        probability = softmax(logits).max() if row["head"] == "actor" else 0
        shown = "at 100" if row["direction"] == "insertion" else "at 0"
        assert float(row[shown]) == pytest.approx(probability, rel=1e-3, abs=1e-5)
        assert float(row["whole_advantage"]) == pytest.approx(
            logits.max() - logits.mean(), rel=1e-3
        )


def test_a_dask_cluster_writes_the_same_table(curves, folder):
    dask = pytest.importorskip("dask.distributed")
    again = {"folder": folder / "dask", "table": folder / "dask.csv", "progress": False}
    with (
        dask.LocalCluster(1, processes=False, protocol="tcp", dashboard_address=None) as cluster,
        dask.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        insertion.insertion_table([AGENT], episodes=1, moments=2, **again)
    assert again["table"].read_bytes() == (folder / "insertion.csv").read_bytes()


def test_all_orders_begin_with_the_same_hidden_screen(curves):
    begins = {}
    for row in curves:
        hidden = "at 0" if row["direction"] == "insertion" else "at 100"
        begins.setdefault((row["step"], row["head"], row["start"]), set()).add(row[hidden])
    assert len(begins) == 8
    for values in begins.values():
        assert np.ptp([float(value) for value in values]) < 1e-4
    methods = {row["method"] for row in curves}
    assert methods == {*FEW, "untrained", "other-times", "occlusion signed"}


def test_edges_do_not_notice_random_weights_and_maps_of_networks_do(checks):
    assert list(checks[0]) == sanity.columns()
    random = [row for row in checks if row["test"] in ("cascading", "independent")]
    of_edges = [row for row in random if row["method"] == "edges"]
    for row in of_edges:
        assert [float(row[measure]) for measure in sanity.MEASURES] == pytest.approx([1, 1, 1])
    layers = ["heads", "lstm", "conv4", "conv3", "conv2", "conv1"]
    assert list(dict.fromkeys(row["layer"] for row in of_edges)) == layers
    for row in random:
        if row["method"] != "edges" and (row["test"], row["layer"]) == ("cascading", "conv1"):
            assert min(float(row["spearman"]), float(row["ssim"])) < 0.95


def test_both_orders_of_randomising_begin_with_the_heads(checks):
    heads = {}
    for row in checks:
        if row["layer"] == "heads":
            key = (row["method"], row["head"])
            heads.setdefault(key, set()).add(tuple(row[name] for name in sanity.MEASURES))
    assert len(heads) == 2 * len(FEW)
    assert all(len(values) == 1 for values in heads.values())


def test_what_nobody_sees_changes_a_map_less_than_another_moment(checks):
    alike = {(row["method"], row["head"], row["test"]): row["spearman"] for row in checks}
    for method in OF_A_NETWORK:
        noise, other = (float(alike[method, "actor", test]) for test in ("noise", "other moment"))
        assert 1 > noise > other
    assert all(float(row["seconds"]) > 0 for row in checks if row["method"] in OF_A_NETWORK)


def test_a_rally_is_measured_in_the_same_game_for_an_agent_of_a_sticky_one(folder):
    table = folder / "rally.csv"
    condition = ("pong-sticky", "sampled", rally.ITSELF)
    rally.measure_rallies([condition], episodes=1, progress=False, table=table)
    rows = rally.read_rallies(table)
    assert tuple(rows[0]) == rally.COLUMNS
    assert {row["change"] for row in rows} == {"unchanged", *rally.CHANGES}
    for row in rows:
        same = row["change"] == "unchanged"
        assert -1 <= int(row["conceded"]) < rally.HORIZON
        assert -2 <= float(row["towards"]) <= 2
        assert (float(row["tv"]) == 0) == same
    written = table.stat().st_mtime_ns
    rally.measure_rallies([condition], episodes=1, progress=False, table=table)
    assert table.stat().st_mtime_ns == written
