"""The command line: what it prints and writes, and one clear line for whatever is wrong."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from atarilens.play.scores import read_scores
from compendium.cli import main


def refused(capsys, *arguments: str) -> str:
    """Return the one line with which the command line refuses its arguments."""
    try:
        status = main(list(arguments))
    except SystemExit as left:
        status = left.code
    said = capsys.readouterr().err
    assert status == 2
    assert said.count("\n") == 1
    assert said.startswith("atarilens: error: ")
    return said.removeprefix("atarilens: error: ").strip()


def test_every_verb_has_help(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    said = " ".join(said.split())
    assert "evaluate Play whole episodes and print the mean score with its 95 % interval." in said
    for verb in ("evaluate", "movie", "explain", "train", "imitate", "ship", "bench", "figure"):
        with pytest.raises(SystemExit) as left:
            main([verb, "--help"])
        assert left.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: atarilens {verb}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: verb (see atarilens --help)"),
        (["evalute"], "argument verb: invalid choice: 'evalute'"),
        (
            ["evaluate"],
            "the following arguments are required: agent (see atarilens evaluate --help)",
        ),
        (["evaluate", "x", "--episods", "3"], "unrecognized arguments: --episods 3"),
        (["evaluate", "x", "--episode", "3"], "unrecognized arguments: --episode 3"),
        (["evaluate", "x", "--episodes", "0"], "expected a whole number above 0, got '0'"),
        (["evaluate", "x", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["train", "tetris"], "tetris"),
        (["train", "pong", "--from", "untrained-breakout"], "plays breakout, not pong"),
        (
            ["train", "pong", "--set", "epoch=4"],
            "no setting 'epoch'; expected one of num_envs",
        ),
        (["train", "pong", "--set", "epochs=few"], "epochs must be of type int, received 'few'"),
        (
            ["train", "pong", "--set", "life_loss=1"],
            "life_loss must be true or false, received '1'",
        ),
        (
            ["imitate", "untrained-pong", "--hint", "random", "--set", "clip=0.2"],
            "no setting 'clip'; expected one of num_envs, rollout_steps, epochs,",
        ),
        (["train", "pong", "--set", "minibatches=5"], "must be a multiple of minibatches (5)"),
        (
            ["ship", "a.safetensors", "x", "--like", "y"],
            "--like chooses among the checkpoints of a",
        ),
        (["evaluate", "pong-storng"], "unknown agent 'pong-storng'"),
        (["evaluate", "untrained-pong", "--game", "breakout"], "plays pong, not breakout"),
        (["explain", "no/such/file.tar", "--game", "pong"], "no/such/file.tar"),
        (["movie", "untrained-pong", "--start", "-1"], "start is -1, expected 0 or more"),
        (["explain", "untrained-pong", "--steps", "1"], "steps is 1, expected 2 or more"),
        (["ship", "no/run", "../mine"], "name '../mine' must consist of letters, digits, _ and -"),
        (["ship", "no/run", "mine"], "no/run has no curve.csv, expected the folder of a training"),
        (["figure", "99_none"], "no params file for the figure '99_none'; expected one of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, arguments, expected):
    assert expected in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip", b"\x80\x02]"]
)
def test_a_file_that_is_no_checkpoint_is_refused(capsys, tmp_path, content):
    path = tmp_path / "model.tar"
    path.write_bytes(content)
    assert "model.tar" in refused(capsys, "evaluate", str(path), "--game", "pong")


def test_a_truncated_agent_is_refused(capsys, tmp_path, untrained_agent):
    from atarilens import save_agent

    path = save_agent(untrained_agent, tmp_path / "mine")
    path.write_bytes(path.read_bytes()[:-100])
    assert "mine" in refused(capsys, "evaluate", str(path), "--game", "pong")


def test_evaluate_prints_the_mean_with_its_interval_and_writes_a_row_per_episode(capsys, tmp_path):
    arguments = ["--episodes", "2", "--seed", "5", "--out", str(tmp_path)]
    assert main(["evaluate", "untrained-breakout", *arguments]) == 0
    rows = read_scores(tmp_path / "scores.csv")
    assert [row["seed"] for row in rows] == [5, 6]
    assert all(0 <= row["return"] <= 10 for row in rows)
    mean = sum(row["return"] for row in rows) / 2
    said = capsys.readouterr().out
    assert f"untrained-breakout: mean score {mean:.2f}, 95 % interval " in said
    assert "(2 episodes, seed 5, sampled actions, stickiness 0)" in said


def test_evaluate_plays_nothing_if_the_result_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").touch()
    wanted = ["evaluate", "untrained-pong", "--episodes", "1000000", "--out"]  # days of play
    for out_dir in (tmp_path / "file", tmp_path / "file" / "folder"):
        assert str(out_dir) in refused(capsys, *wanted, str(out_dir))


def test_movie_is_a_gif_and_an_mp4(capsys, tmp_path):
    shown = ["--start", "2", "--steps", "3"]
    assert main(["movie", "untrained-pong", *shown, "--out", str(tmp_path)]) == 0
    names = ["untrained-pong.gif", "untrained-pong.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    from PIL import Image

    with Image.open(tmp_path / names[0]) as gif:
        assert gif.n_frames == 3
    assert (tmp_path / names[1]).read_bytes()[4:8] == b"ftyp"


def test_explain_draws_the_standard_figures(capsys, tmp_path):
    assert main(["explain", "untrained-pong", "--steps", "30", "--out", str(tmp_path)]) == 0
    stems = ["untrained-pong--attention", "untrained-pong--saliency"]
    names = sorted(f"{stem}.{end}" for stem in stems for end in ("json", "png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    numbers = json.loads((tmp_path / f"{stems[1]}.json").read_text())
    assert numbers["shown"] == [3, 9, 15, 21, 27]
    assert numbers["settings"]["game"] == "pong"


def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(tmp_path):
    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # bytes

    evaluate = ["evaluate", "untrained-breakout", "--episodes", "1", "--out", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "compendium", *evaluate],
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
    monkeypatch.setattr("compendium.cli.runs", lambda: tmp_path)
    (tmp_path / "pong-7").mkdir()
    (tmp_path / "pong-7" / "settings.json").write_text('{"game": "breakout"}')
    wanted = f"{tmp_path / 'pong-7'} holds a run with game = breakout, asked for pong"
    assert refused(capsys, "train", "pong", "--seed", "7").startswith(wanted)


def would_run(*arguments: str) -> str:
    """Return what make would run."""
    return subprocess.run(
        ["make", "--dry-run", f"PY={sys.executable}", *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_make_hands_its_variables_to_the_command_line():
    given = ["AGENT=path/my model.tar", "GAME=pong", "EPISODES=3", "SEED=4", "GREEDY=1"]
    wanted = 'compendium evaluate "path/my model.tar" --game "pong" --seed 4 --greedy --episodes 3'
    assert wanted in would_run("evaluate", *given)


@pytest.mark.parametrize(
    ("target", "variable"),
    [("evaluate", "GREEDY"), ("explain", "GREEDY"), ("train", "TENSORBOARD")],
)
def test_0_and_empty_mean_no_to_make(target, variable):
    for value, given in (("1", True), ("0", False), ("", False)):
        shown = would_run(target, "AGENT=untrained-pong", "GAME=pong", f"{variable}={value}")
        assert (f" --{variable.lower()}" in shown) == given
