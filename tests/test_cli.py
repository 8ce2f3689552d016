"""The command line: what it prints and writes, and one clear line for whatever is wrong."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from atarilens import overlay, rollout
from atarilens.play.scores import read_scores
from atarilens.saliency import SaliencyMaps
from compendium.cli import main

ROOT = Path(__file__).parents[1]


def refused(capsys, *arguments: str) -> str:
    """Return the one line with which the command line refuses its arguments."""
    try:
        status = main(list(arguments))
    except SystemExit as left:
        status = left.code
    said = capsys.readouterr().err
    assert status == 2
    assert sum(not line.startswith("    ") for line in said.splitlines()) == 1  # others are code
    assert said.startswith("atarilens: error: ")
    return said.removeprefix("atarilens: error: ").strip()


def test_every_verb_has_help(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "Play whole episodes and print the mean score with its 95 % interval." in said
    for verb in ("evaluate", "movie", "explain", "train", "imitate", "ship", "bench", "figure"):
        assert f"\n  {verb} " in said
        assert main([verb, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"make {verb}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "evalute",
            "there is no verb 'evalute'; expected one of figures, figure, verify, site, evaluate",
        ),
        ("evaluate", "AGENT= is missing: make evaluate AGENT= [GAME=] [EPISODES=30] [SEED=0]"),
        ("evaluate x", "expected NAME=value, received 'x': make evaluate AGENT="),
        ("evaluate AGENT=x EPISODS=3", "has no variable EPISODS, did you mean EPISODES?"),
        ("evaluate AGENT=x EPISODES=0", "EPISODES=0: expected a whole number above 0"),
        ("evaluate AGENT=x EPISODES=1.5", "EPISODES=1.5: expected a whole number above 0"),
        ("evaluate AGENT=x SEED=one", "SEED=one: expected a whole number"),
        ("evaluate AGENT=x STICKY=often", "STICKY=often: expected a probability from 0 to 1"),
        ("evaluate AGENT=x STICKY=2", "STICKY=2: expected a probability from 0 to 1"),
        ("evaluate AGENT=x SEED=-1", "SEED=-1: expected a whole number, 0 or more"),
        ("evaluate AGENT=x GREEDY=maybe", "GREEDY=maybe: expected 1 or 0"),
        ("evaluate AGENT=x EPSILON=nan", "EPSILON=nan: expected a probability from 0 to 1"),
        ("train GAME=chess", "chess"),
        ("train GAME=pong FROM=untrained-breakout", "plays breakout, not pong"),
        ("train GAME=pong DEVICE=tpu", "DEVICE=tpu: expected cpu or cuda"),
        ("train GAME=pong SET=epoch=4", "no setting 'epoch'; expected one of num_envs"),
        ("train GAME=pong SET=epochs=few", "epochs must be of type int, received 'few'"),
        ("train GAME=pong SET=life_loss=1", "life_loss must be true or false, received '1'"),
        ("train GAME=pong SET=minibatches=5", "must be a multiple of minibatches (5)"),
        ("imitate AGENT=untrained-pong", "HINT= is missing: make imitate AGENT= HINT= [STEPS="),
        ("imitate AGENT=untrained-pong HINT=x", "HINT=x: expected expert or random"),
        (
            "imitate AGENT=untrained-pong HINT=random SET=clip=0.2",
            "no setting 'clip'; expected one of num_envs, rollout_steps, epochs,",
        ),
        ("ship CHECKPOINT=a.safetensors NAME=x LIKE=y", "LIKE= chooses among the checkpoints of a"),
        ("ship CHECKPOINT=no/run NAME=../mine", "name '../mine' must consist of letters, digits"),
        ("ship CHECKPOINT=no/run NAME=mine", "no/run has no curve.csv, expected the folder of a"),
        ("evaluate AGENT=pong-storng", "unknown agent 'pong-storng', did you mean pong-strong"),
        ("states AGENT=nobody", "unknown agent 'nobody'. Known are breakout-"),
        ("verify ONLY=99", "no figure starts with '99'; expected the start of a name in note"),
        ("evaluate AGENT=untrained-pong GAME=breakout", "plays pong, not breakout"),
        ("explain AGENT=untrained-pong", "untrained-pong is the control that the figures compare"),
        ("explain AGENT=no/such/file.tar GAME=pong", "no/such/file.tar"),
        ("movie AGENT=untrained-pong START=-1", "START=-1: expected a whole number, 0 or more"),
        ("figure NAME=99_none", "no params file for the figure '99_none'; expected one of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, line, expected):
    assert expected in refused(capsys, *line.split())


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip", b"\x80\x02]"]
)
def test_a_file_that_is_no_checkpoint_is_refused(capsys, tmp_path, content):
    path = tmp_path / "model.tar"
    path.write_bytes(content)
    assert "model.tar" in refused(capsys, "evaluate", f"AGENT={path}", "GAME=pong")


def test_a_folder_and_a_file_without_its_game_are_refused(capsys, tmp_path, untrained_agent):
    path = tmp_path / "model.pt"
    assert "which is a folder" in refused(capsys, "evaluate", f"AGENT={tmp_path}", "GAME=pong")
    torch.save(untrained_agent.network.state_dict(), path)
    said = refused(capsys, "evaluate", f"AGENT={path}")
    assert 'expected game="pong" (GAME=pong for make), or another of pong, breakout' in said


def test_code_that_an_error_proposes_can_be_run(capsys, tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3, 3)}, path)
    said = refused(capsys, "evaluate", f"AGENT={path}", "GAME=pong")
    code = "\n".join(line.strip() for line in said.splitlines() if line.startswith("    "))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 84 * 84, 6))
    names = {"module": module}
    exec(code, names)
    assert names["agent"].game == "pong"


def test_a_truncated_agent_is_refused(capsys, tmp_path, untrained_agent):
    from atarilens import save_agent

    path = save_agent(untrained_agent, tmp_path / "mine")
    path.write_bytes(path.read_bytes()[:-100])
    assert "mine" in refused(capsys, "evaluate", f"AGENT={path}", "GAME=pong")


def test_evaluate_prints_the_mean_with_its_interval_and_writes_a_row_per_episode(capsys, tmp_path):
    words = ["AGENT=untrained-breakout", "EPISODES=2", "SEED=5", f"OUT={tmp_path}"]
    assert main(["evaluate", *words]) == 0
    rows = read_scores(tmp_path / "scores.csv")
    assert [row["seed"] for row in rows] == [5, 6]
    assert all(0 <= row["return"] <= 10 for row in rows)
    mean = sum(row["return"] for row in rows) / 2
    said = capsys.readouterr().out
    assert f"untrained-breakout: mean score {mean:.2f}, 95 % interval " in said
    assert "(2 episodes, seed 5, actions sampled, stickiness 0)" in said


def test_one_episode_has_no_interval(capsys, tmp_path):
    words = ["AGENT=untrained-breakout", "EPISODES=1", "EPSILON=0.5", f"OUT={tmp_path}"]
    assert main(["evaluate", *words]) == 0
    said = capsys.readouterr().out
    assert ", one episode has no interval (1 episode, seed 0, " in said
    assert "actions sampled, 50% random, stickiness 0)" in said
    assert (tmp_path / "scores.csv").read_text().splitlines()[0].endswith(",epsilon")


def test_q_values_are_played_greedily_unless_told_otherwise(capsys, tmp_path):
    from atarilens import save_agent
    from atarilens.agents import agent_from_module, build_network

    network = build_network("nature-q", num_actions=4)
    agent = agent_from_module(network, game="breakout", preprocessing="area84-stack4", name="q")
    words = ["evaluate", f"AGENT={save_agent(agent, tmp_path / 'q')}", f"OUT={tmp_path}"]
    for word, said, greedy in (
        ("SEED=1", "actions greedy (its network gives Q-values)", True),
        ("GREEDY=0", "actions sampled,", False),
    ):
        assert main([*words, "EPISODES=1", word]) == 0
        assert said in capsys.readouterr().out
        assert [row["greedy"] for row in read_scores(tmp_path / "scores.csv")] == [greedy]


def test_evaluate_plays_nothing_if_the_result_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").touch()
    wanted = ["evaluate", "AGENT=untrained-pong", "EPISODES=1000000"]  # days of play
    for out_dir in (tmp_path / "file", tmp_path / "file" / "folder"):
        assert str(out_dir) in refused(capsys, *wanted, f"OUT={out_dir}")


def test_the_movie_shows_the_steps_asked_for(capsys, tmp_path, untrained_agent):
    words = ["AGENT=untrained-pong", "SEED=2", "START=4", "STEPS=3", f"OUT={tmp_path}"]
    assert main(["movie", *words]) == 0
    names = ["untrained-pong.gif", "untrained-pong.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    said, *paths = capsys.readouterr().out.splitlines()
    assert said == "untrained-pong: actions sampled"
    assert paths == [str(tmp_path / name) for name in names]
    assert (tmp_path / names[1]).read_bytes()[4:8] == b"ftyp"
    with Image.open(tmp_path / names[0]) as gif:
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    screens = rollout(untrained_agent, seed=2, max_steps=7).frames[4:]
    band = (shown[0].shape[0] - 2 * 210) // 2
    nothing = SaliencyMaps(*[np.zeros((80, 80), np.float32)] * 4)
    for image, screen in zip(shown, screens, strict=True):
        bare = overlay(screen, nothing, untrained_agent.region, gain=1.0)
        enlarged = bare.repeat(2, 0).repeat(2, 1).astype(int)
        area = image[band : band + 420, :320].astype(int)
        outside = np.abs(area[:66] - enlarged[:66])  # above the play field there is no saliency
        assert outside.mean() < 3  # but for the palette's rounding
        added = area[70:390] - enlarged[70:390]
        assert added[..., 2].max() > 60  # the actor's blue


def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(tmp_path):
    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # bytes

    evaluate = ["evaluate", "AGENT=untrained-breakout", "EPISODES=1", f"OUT={tmp_path}"]
    run = subprocess.run(
        [sys.executable, "-B", "-m", "compendium", *evaluate],  # -B: it would cut .pyc files
        preexec_fn=limit_file_size,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("atarilens: error: [Errno 27] File too large")
    assert "Traceback" not in run.stderr
    assert "untrained-breakout: mean score " in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_to_go_on_with_another_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("compendium.commands.runs", lambda: tmp_path)
    (tmp_path / "pong-7").mkdir()
    (tmp_path / "pong-7" / "settings.json").write_text('{"game": "breakout"}')
    wanted = f"{tmp_path / 'pong-7'} holds a run with game = breakout, asked for pong"
    assert refused(capsys, "train", "GAME=pong", "SEED=7").startswith(wanted)


def make(*arguments: str) -> subprocess.CompletedProcess:
    """Run make as a person would, not as a part of a make around the tests."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", f"PY={sys.executable}", *arguments],
        cwd=ROOT,
        env=outside | {"PYTHONPATH": str(ROOT / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_variables_of_make_reach_the_verb_as_they_were_typed(tmp_path):
    path = tmp_path / "my 'model';.tar"
    run = make("evaluate", f"AGENT={path}", "GAME=pong", "GREEDY=", "EPISODES=3")
    assert run.returncode != 0
    assert f"atarilens: error: no checkpoint file at {path}\n" in run.stderr


def test_a_misspelt_variable_of_make_is_named():
    run = make("train", "GAME=pong", "STEP=3", 'SET="clip=0.2 epochs=4"')
    assert run.returncode != 0
    assert "error: make train has no variable STEP, did you mean STEPS?" in run.stderr


@pytest.mark.parametrize(
    ("target", "typed"), [("test", "TEST=tests/test_games.py"), ("app", "AGNET=a b"), ("lab", "X=")]
)
def test_a_misspelt_variable_of_other_programs_is_named_before_they_start(target, typed):
    run = make(target, "APP=--no-browser --port=1", typed)
    assert run.returncode == 2
    assert f"make {target} has no variable {typed.partition('=')[0]}; expected" in run.stderr
    assert run.stdout == ""
