"""Trials of gaze: read as Atari-HEAD lays them out, aligned as the paper does, damage told."""

import csv
import io
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atarilens import load_agent, measures, play
from atarilens.games.objects import object_boxes
from atarilens.play import synthetic_gaze
from atarilens.play.gaze_trials import READ_BACK
from compendium.cli import main

FRAMES = 60
HEADER = "frame_id,episode_id,score,duration(ms),unclipped_reward,action,gaze_positions"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two synthetic trials of 60 emulator frames. Nothing may write into them."""
    folder = tmp_path_factory.mktemp("trials")
    return play.write_synthetic_trials(
        folder, "breakout", trials=2, frames=FRAMES, player="untrained-breakout", seed=3
    )


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture(scope="module")
def trial(made) -> play.GazeTrial:
    return play.load_gaze_trial(play.list_gaze_trials("breakout", made)[0], "breakout", made)


def text_of(folder: Path) -> Path:
    return sorted(folder.glob("*.txt"))[0]


def reread(folder: Path) -> play.GazeTrial:
    return play.load_gaze_trial(text_of(folder).stem, "breakout", folder)


def change_line(folder: Path, number: int, line: str) -> None:
    """Replace a line of the first trial, counted from 1."""
    lines = text_of(folder).read_text().splitlines()
    lines[number - 1] = line
    text_of(folder).write_text("\n".join(lines) + "\n")


def test_a_trial_is_what_was_played(trial, made):
    assert (len(trial), trial.game, trial.actions.shape) == (15, "breakout", (15,))
    with tarfile.open(made / f"{trial.name}.tar.bz2") as archive:
        names = [f"{trial.name}/SYNTH_3_{number}.png" for number in (24, 25)]
        pair = [np.asarray(Image.open(archive.extractfile(name))) for name in names]
    np.testing.assert_array_equal(trial.frames[6], np.maximum(*pair))
    ram = np.load(made / f"{trial.name}.npy")
    np.testing.assert_array_equal(trial.ram, ram[::4])
    assert trial.rule.startswith("synthetic: the gaze is where the ball was 4 emulator frames")


def test_the_screens_are_those_that_the_agent_would_be_shown(trial):
    agent = load_agent("untrained-breakout")
    ours = play.rollout(agent, seed=3, max_steps=15)
    np.testing.assert_array_equal(trial.frames, ours.frames)
    np.testing.assert_array_equal(trial.ram, ours.ram)
    seen = play.watched(trial, agent)
    np.testing.assert_array_equal(seen.actions, ours.actions)
    np.testing.assert_array_equal(seen.observations, ours.observations)
    np.testing.assert_allclose(seen.action_logits, ours.action_logits, rtol=1e-5, atol=1e-7)


def test_the_gaze_follows_the_ball(made):
    (name, *_) = play.list_gaze_trials("breakout", made)
    trial, ram = play.load_gaze_trial(name, "breakout", made), np.load(made / f"{name}.npy")
    away = []
    for number, points in trial.gaze.items():
        boxes = object_boxes("breakout", ram[max(number - 1 - synthetic_gaze.DELAY, 0)])
        thing = boxes["ball"] if len(boxes["ball"]) else boxes["paddle"]
        if len(points):
            away.append(points - [thing[0, 2:].mean(), thing[0, :2].mean()])
    spread = np.concatenate(away)
    assert len(spread) > 200
    assert np.abs(spread.mean(0)).max() < 1.5
    assert spread.std() == pytest.approx(synthetic_gaze.NOISE, rel=0.1)


def test_fixations_are_the_gaze_of_the_eight_frames_that_a_decision_reads(trial):
    counts = trial.fixations()
    assert counts.shape == (15, 210, 160)
    for step in (0, 2, 14):
        expected = np.zeros((210, 160), int)
        for back in READ_BACK:
            if back > 4 * step:
                continue
            for x, y in trial.gaze[4 * step - back + 1]:
                row, column = round(y), round(x)
                if 0 <= row < 210 and 0 <= column < 160:
                    expected[row, column] += 1
        np.testing.assert_array_equal(counts[step], expected)
    assert sorted(16 - back for back in READ_BACK) == [3, 4, 7, 8, 11, 12, 15, 16]


def test_the_papers_offset_reads_each_frame_one_later(trial):
    late = trial.fixations([5], gaze_offset=0)[0]
    expected = sum(len(trial.gaze[20 - back]) for back in READ_BACK)
    assert late.sum() == expected
    assert (late != trial.fixations([5])[0]).any()


def test_the_last_decision_has_a_frame_after_it(folder):
    lines = text_of(folder).read_text().splitlines()
    for frames, steps in ((60, 15), (58, 15), (57, 14), (5, 1), (2, 1)):
        text_of(folder).write_text("\n".join(lines[: frames + 1]))
        assert len(reread(folder)) == steps


def test_points_outside_the_screen_are_dropped_and_counted(folder):
    gaze = "-0.6,5,159.4,209.4,159.6,3,2.5,nan,0.5,1.5"
    change_line(folder, 2, f"SYNTH_3_1,0,0,50,0,0,{gaze}")
    change_line(folder, 3, "SYNTH_3_2,null,null,null,null,null,null")
    before, trial = reread(text_of(folder).parent).lost, reread(folder)
    assert trial.points(0).tolist() == [[209, 159], [2, 0]]  # 0.5 is rounded to the even 0
    assert before["points outside the screen"] >= 3
    assert trial.lost["frames without gaze"] >= 1
    assert "points outside the screen" in repr(trial)


def test_archives_of_the_dataset_are_read_as_they_are(folder, trial):
    with zipfile.ZipFile(folder / "breakout.zip", "w") as archive:
        for path in [*folder.glob("*_*.*")]:
            if path.name != "meta_data.csv":
                archive.write(path, f"breakout/highscore/{path.name}")
                path.unlink()
    found = play.load_gaze_trial(trial.name, "Breakout", folder)
    np.testing.assert_array_equal(found.frames, trial.frames)
    np.testing.assert_array_equal(found.fixations(), trial.fixations())
    rows = list(csv.reader((folder / "meta_data.csv").read_text().splitlines()))
    older = [["Game", "TrialNumber", "NumberOfFrames"], ["Breakout", "1", "60"]]
    (folder / "meta_data.csv").write_text("\n".join(map(",".join, older)))
    assert play.load_gaze_trial(trial.name, "breakout", folder).rule == ""
    assert play.list_gaze_trials("breakout", folder) == [trial.name]
    assert len(rows) == 3


def test_a_member_with_a_path_outside_is_not_written_anywhere(folder, trial):
    path = folder / f"{trial.name}.tar.bz2"
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(path, "w:bz2") as archive:
        for member, content in members:
            member.name = f"../../outside/{member.name.rpartition('/')[2]}"
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("SYNTH_3_4.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    before = sorted(folder.parent.parent.rglob("*"))
    np.testing.assert_array_equal(reread(folder).frames, trial.frames)
    assert sorted(folder.parent.parent.rglob("*")) == before


def cut_archive(folder):
    path = text_of(folder).with_suffix(".tar.bz2")
    path.write_bytes(path.read_bytes()[:3000])


def repack(folder, change):
    """Write the first trial's archive again, with other members: change(name, content)."""
    path = text_of(folder).with_suffix(".tar.bz2")
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(path, "w:bz2") as archive:
        for member, content in members:
            content = change(member.name, content)
            if content is not None:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def small_picture(name, content):
    file = io.BytesIO()
    Image.new("RGB", (80, 80)).save(file, "PNG")
    return file.getvalue()


def other_game(folder):
    path = folder / "meta_data.csv"
    path.write_text(path.read_text().replace("breakout", "seaquest"))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (cut_archive, ValueError, r"SYNTH_3_.*\.tar\.bz2 is a damaged archive: "),
        (
            lambda f: text_of(f).with_suffix(".tar.bz2").write_bytes(b"nothing"),
            ValueError,
            "is a damaged archive",
        ),
        (
            lambda f: repack(f, lambda name, png: None if name.endswith("_25.png") else png),
            ValueError,
            "is incomplete: it has no picture of frame 25",
        ),
        (
            lambda f: repack(f, lambda name, png: png[:99]),
            ValueError,
            "is a damaged archive: ",
        ),
        (lambda f: repack(f, small_picture), ValueError, r"has \(80, 80\) px, expected \(160, 210"),
        (
            lambda f: repack(f, lambda name, png: bytes(2**20 + 1) if "_5." in name else png),
            ValueError,
            "has 1048577 bytes, expected a PNG",
        ),
        (
            lambda f: text_of(f).with_suffix(".tar.bz2").unlink(),
            FileNotFoundError,
            r"the trial's file .*\.tar\.bz2 is missing",
        ),
        (
            lambda f: change_line(f, 1, HEADER.replace("unclipped_reward,", "")),
            ValueError,
            "has no column 'unclipped_reward', its first line is",
        ),
        (
            lambda f: change_line(f, 1, HEADER + ",more"),
            ValueError,
            "the last column of .* is 'more', expected 'gaze_positions'",
        ),
        (
            lambda f: change_line(f, 7, "SYNTH_3_6,0,0,50,0,0,1,2,3"),
            ValueError,
            "line 7: 3 numbers of gaze, expected pairs; received 'SYNTH_3_6,0",
        ),
        (
            lambda f: change_line(f, 7, "SYNTH_3_6,0,0,50,0,0,left,2"),
            ValueError,
            "line 7: could not convert string to float: 'left'",
        ),
        (lambda f: change_line(f, 7, "SYNTH_3_6,0"), ValueError, "line 7: list index out of range"),
        (
            lambda f: change_line(f, 7, "SYNTH_3_6,0,0,50,0,18,null"),
            ValueError,
            "line 7: frame number or action out of range",
        ),
        (lambda f: text_of(f).write_text(HEADER + "\n"), ValueError, "is empty: it has no frame"),
        (
            lambda f: text_of(f).write_text(f"{HEADER}\nSYNTH_3_1,0,0,50,0,0,null\n"),
            ValueError,
            "is empty: it has 1 frame, expected 2",
        ),
        (lambda f: text_of(f).write_text(""), ValueError, "has no column 'frame_id'"),
        (other_game, ValueError, "is of seaquest, expected one of breakout"),
        (
            lambda f: (f / "meta_data.csv").write_text("GameName,trial_id\nbreakout,99\n"),
            ValueError,
            "is not in meta_data.csv, expected one of breakout",
        ),
        (
            lambda f: (f / "meta_data.csv").write_text("GameName,number\nbreakout,1\n"),
            ValueError,
            "has no column 'trial_id' or 'TrialNumber'",
        ),
        (
            lambda f: (f / "meta_data.csv").unlink(),
            FileNotFoundError,
            "has no meta_data.csv, expected a folder of trials in the layout of Atari-HEAD",
        ),
        (
            lambda f: (f / "breakout.zip").write_bytes(b"PK\x03\x04 cut off"),
            ValueError,
            "breakout.zip is a damaged archive",
        ),
    ],
)
def test_damage_is_one_clear_error(folder, damage, error, message):
    damage(folder)
    with pytest.raises(error, match=message):
        reread(folder)


def test_wrong_names_are_told(made, trial):
    with pytest.raises(FileNotFoundError, match=r"no trial '7_X' in .*; of breakout: 1_SYNTH_3_"):
        play.load_gaze_trial("7_X", "breakout", made)
    with pytest.raises(ValueError, match="has no trial of pong"):
        play.open_gaze_trials("pong", made)
    with pytest.raises(ValueError, match="plays pong, the trial breakout"):
        play.watched(trial, load_agent("untrained-pong"))
    with pytest.raises(ValueError, match="received 60 frames and the object 'cat'; expected 2"):
        play.write_synthetic_trials(made, "breakout", frames=60, follows="cat")


def test_a_map_of_where_the_gaze_has_to_be_wins(trial, made):
    fixations, ram = trial.fixations(), np.load(made / f"{trial.name}.npy")
    row, column = np.mgrid[:210, :160]
    maps = []
    for frame in np.maximum(4 * np.arange(15) - synthetic_gaze.DELAY - 4, 0):
        boxes = object_boxes("breakout", ram[frame])
        (thing,) = boxes["ball"] if len(boxes["ball"]) else boxes["paddle"]
        away = (row - thing[:2].mean()) ** 2 + (column - thing[2:].mean()) ** 2
        maps.append(np.exp(-away / 200))
    maps = np.stack(maps)
    found = measures.gaze_scores(maps, fixations, splits=10).columns
    wrong = measures.gaze_scores(maps[:, ::-1], fixations, splits=10).columns
    assert np.nanmean(found["nss"]) > 3 > 0.5 > np.nanmean(wrong["nss"])
    assert np.nanmean(found["kl_corrected"]) < 2 < np.nanmean(wrong["kl_corrected"])


def test_maps_are_put_where_the_observation_is():
    maps = np.zeros((1, 80, 80), np.float32)
    maps[0, 40, 20] = 1
    spread = measures.maps_on_screen(maps, (35, 195, 0, 160))
    assert spread.shape == (1, 210, 160)
    assert not spread[0, :35].any()
    assert not spread[0, 195:].any()
    rows, columns = np.nonzero(spread[0] == spread.max())
    assert (rows.mean(), columns.mean()) == (35 + 80.5, 40.5)
    whole = measures.maps_on_screen(np.ones((2, 84, 84)))
    np.testing.assert_allclose(whole, 1, rtol=1e-6)


@pytest.fixture
def fetch(tmp_path, monkeypatch, capsys):
    """Do what `make gaze-data GAME=breakout` does, in a world without a network."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path))

    def run(address: str = "") -> tuple[int, str, str]:
        monkeypatch.setenv("ATARILENS_GAZE_URL", address)
        status = main(["gaze-data", "GAME=breakout"])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_without_a_network_one_line_says_what_is_missing(fetch, tmp_path):
    status, _, error = fetch()
    assert status == 2
    assert error.count("\n") == 1
    for words in ("breakout.zip and meta_data.csv", "doi:10.5281/zenodo.3451402", str(tmp_path)):
        assert words in error


@pytest.fixture
def mirror(folder, tmp_path):
    """A server of this machine that has the dataset, and a registry of its checksums."""
    served = tmp_path / "served"
    served.mkdir()
    with zipfile.ZipFile(served / "breakout.zip", "w") as archive:
        for path in folder.glob("*_SYNTH_*"):
            archive.write(path, f"breakout/{path.name}")
    shutil.copy(folder / "meta_data.csv", served)
    lines = [f"{p.name} md5:{md5(p.read_bytes()).hexdigest()}" for p in sorted(served.iterdir())]
    (served / "registry.txt").write_text("\n".join(lines))
    handler = partial(SimpleHTTPRequestHandler, directory=served)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_is_fetched_is_checked_and_can_be_read(mirror, fetch, tmp_path):
    served, address = mirror
    status, said, error = fetch(address)
    assert status == 0, error
    assert f"2 trials of Breakout in {tmp_path / 'gaze'}" in said
    assert len(play.open_gaze_trials("breakout", tmp_path / "gaze", steps=3)) == 2
    status, said, _ = fetch("http://127.0.0.1:9")
    assert status == 0
    assert "cannot be reached: the checksums were not compared" in said
    (served / "meta_data.csv").write_text("GameName,trial_id\n")
    shutil.rmtree(tmp_path / "gaze")
    status, _, error = fetch(address)
    assert status == 2
    assert "hash" in error.splitlines()[-1]
    assert not (tmp_path / "gaze" / "meta_data.csv").exists()


def test_a_game_that_the_dataset_lacks_is_told(mirror, fetch):
    served, address = mirror
    lines = (served / "registry.txt").read_text().splitlines()
    (served / "registry.txt").write_text("\n".join(line for line in lines if "zip" not in line))
    assert "has no breakout.zip: nobody's gaze on Breakout is there" in fetch(address)[2]
