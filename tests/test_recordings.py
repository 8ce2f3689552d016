"""Files of trajectories and replays: complete, or refused with one clear error."""

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest

from atarilens import paths
from atarilens.play.trajectories import (
    ARRAYS,
    load_replay,
    load_trajectory,
    replay_path,
    save_replay,
    save_trajectory,
)


def test_a_trajectory_comes_back_as_it_was(short_trajectory, tmp_path):
    hinted = replace(short_trajectory, hints=np.arange(12), values=None)
    for trajectory in (short_trajectory, hinted):
        path = save_trajectory(trajectory, tmp_path / "folder" / "a.h5")
        again = load_trajectory(path)
        for name in ARRAYS:
            before, after = getattr(trajectory, name), getattr(again, name)
            if before is None:
                assert after is None
            else:
                assert before.dtype == after.dtype
                assert np.array_equal(before, after), name
        assert (again.settings, again.origin) == (trajectory.settings, trajectory.origin)
    assert [file.name for file in path.parent.iterdir()] == ["a.h5"]  # no partial file
    with h5py.File(path) as file:
        assert file["frames"].chunks == (12, 210, 160, 3)
        assert (file["frames"].compression, file["frames"].compression_opts) == ("gzip", 4)


def test_a_feed_forward_networks_empty_memory_is_kept(short_trajectory, tmp_path):
    empty = replace(short_trajectory, memory=np.zeros((12, 0, 0), np.float32))
    assert load_trajectory(save_trajectory(empty, tmp_path / "a.h5")).memory.shape == (12, 0, 0)


def test_damaged_and_foreign_trajectories_are_refused(short_trajectory, tmp_path):
    path = save_trajectory(short_trajectory, tmp_path / "a.h5")
    content = path.read_bytes()
    message = f"{path} is no atarilens-trajectory-1 file, or a damaged one: "

    def refuses(detail=""):
        with pytest.raises(ValueError, match=re.escape(message) + detail):
            load_trajectory(path)

    path.write_bytes(content[: len(content) // 2])
    refuses(".*truncated")
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    refuses()
    path.write_bytes(b"not HDF5 at all")
    refuses()
    path.write_bytes(b"")
    refuses()
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros(3)
    refuses()
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "atarilens-trajectory-9"
    refuses("its format is 'atarilens-trajectory-9'")
    with pytest.raises(FileNotFoundError, match=r"there is no trajectory .*b\.h5"):
        load_trajectory(tmp_path / "b.h5")


def test_a_replay_is_small_plain_and_the_same_every_time(short_trajectory, tmp_path):
    first = save_replay(short_trajectory, tmp_path / "a.npz")
    second = save_replay(short_trajectory, tmp_path / "b.npz")
    assert first.read_bytes() == second.read_bytes()
    facts, actions, hints = load_replay(first)
    assert hints is None
    assert np.array_equal(actions, short_trajectory.actions)
    assert facts["settings"] == short_trajectory.settings.as_dict()
    assert facts["origin"] == short_trajectory.origin
    assert sorted(facts["sha256"]) == ["frames", "ram", "rewards"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_damaged_and_foreign_replays_are_refused(short_trajectory, tmp_path):
    path = save_replay(short_trajectory, tmp_path / "a.npz")
    content = path.read_bytes()
    files = {
        "truncated": content[: len(content) // 2],
        "flipped": content[:200] + bytes([content[200] ^ 255]) + content[201:],
        "empty": b"",
        "text": b"actions: 1, 2, 3",
        "pickle": b"\x80\x04]\x94.",
    }
    for name, damaged in files.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(damaged)
        message = re.escape(f"{path} is no atarilens-replay-1 file, or a damaged one: ")
        with pytest.raises(ValueError, match=message):
            load_replay(path)
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, weights=np.zeros(3))
    with pytest.raises(ValueError, match="is no atarilens-replay-1 file"):
        load_replay(foreign)


def test_a_name_is_looked_up_among_the_replays(tmp_path):
    assert replay_path("pong-strong") == paths.REPLAYS / "pong-strong.npz"
    assert replay_path(tmp_path / "x") == tmp_path / "x"
    with pytest.raises(FileNotFoundError, match=r"there is no replay .*nowhere\.npz; in replays: "):
        load_replay("nowhere")
