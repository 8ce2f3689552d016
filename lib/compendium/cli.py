"""The command line behind the Makefile: one verb, one function; one clear line for each error."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from atarilens.paths import BUILD, ROOT, MissingDataError, runs


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and that takes no shortened option."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str):
        """Print the line and leave with status 2."""
        self.exit(2, f"atarilens: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = _Parser(prog="atarilens", description="See why an Atari agent does what it does.")
    verbs = parser.add_subparsers(metavar="verb", required=True)

    def verb(name: str, function, takes_agent: bool = False) -> argparse.ArgumentParser:
        child = verbs.add_parser(
            name,
            help=function.__doc__.splitlines()[0].replace("%", "%%"),
            prog=f"atarilens {name}",
        )
        child.set_defaults(run=function)
        if takes_agent:
            child.add_argument("agent", help="a row of data/agents, or the path of a checkpoint")
            child.add_argument("--game", help="needed by most foreign checkpoints")
            child.add_argument("--seed", type=int, default=0)
            child.add_argument(
                "--greedy", action="store_true", help="most probable action, not sampled"
            )
            child.add_argument("--out", type=Path, help="folder; default build/<agent>")
        return child

    evaluate = verb("evaluate", evaluate_agent, takes_agent=True)
    evaluate.add_argument("--episodes", type=_positive, default=30)
    evaluate.add_argument(
        "--sticky", type=float, help="probability that the emulator repeats an action"
    )
    movie = verb("movie", make_movie, takes_agent=True)
    movie.add_argument("--steps", type=_positive, default=120, help="agent steps shown")
    movie.add_argument("--start", type=int, default=0, help="first step shown")
    explain = verb("explain", explain_agent, takes_agent=True)
    explain.add_argument("--steps", type=_positive, default=400, help="agent steps played")
    train = verb("train", train_agent)
    train.add_argument("game")
    train.add_argument("--from", dest="from_agent", metavar="AGENT", help="start from its weights")
    train.add_argument("--steps", type=_positive, default=10_000_000, help="agent steps in all")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    train.add_argument("--tensorboard", action="store_true", help="record episodes as movies")
    imitate = verb("imitate", train_student)
    imitate.add_argument("expert", metavar="agent", help="whose most probable action is learned")
    imitate.add_argument("--hint", required=True, choices=("expert", "random"))
    imitate.add_argument("--steps", type=_positive, default=1_000_000, help="agent steps in all")
    imitate.add_argument("--seed", type=int, default=1)
    for learner, settings in ((train, "ppo.PPOSettings"), (imitate, "imitation.ImitationSettings")):
        learner.add_argument(
            "--set",
            dest="changed",
            metavar="NAME=VALUE",
            nargs="+",
            default=[],
            help=f"settings other than the defaults of training.{settings}",
        )
    ship = verb("ship", ship_agent)
    ship.add_argument(
        "checkpoint",
        type=Path,
        help="<run>/checkpoints/<step>.safetensors, or <run>: the best of its last is chosen",
    )
    ship.add_argument("name", help="of the agent, such as pong-strong")
    ship.add_argument(
        "--like", metavar="AGENT", help="choose the checkpoint that scores most like this agent"
    )
    ship.add_argument("--command", help="that made it; for its row")
    verb("bench", measure_machine)
    verb("doctor", look_for_what_is_missing)

    figure = verb("figure", draw_figure)
    figure.add_argument("figure", help="name of a file in notebooks/params, without .yml")
    figure.add_argument("--verify", action="store_true", help="into build/verify")
    for name, function in (("figures", draw_figures), ("verify", verify_figures)):
        verb(name, function).add_argument("only", nargs="?", default="", help="start of the names")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _load(options: argparse.Namespace):
    """Load the agent that the options name, and name the folder for what is written about it."""
    from atarilens import load_agent

    agent = load_agent(options.agent, game=options.game)
    return agent, options.out or BUILD / agent.name


@contextmanager
def _whole_files(out_dir: Path) -> Iterator[Path]:
    """Yield a folder whose files move into `out_dir` if all goes well, and vanish otherwise."""
    out_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out_dir, prefix="unfinished-") as folder:
        yield Path(folder)
        for path in sorted(Path(folder).iterdir()):
            os.replace(path, out_dir / path.name)
            print(out_dir / path.name)


def evaluate_agent(options: argparse.Namespace) -> None:
    """Play whole episodes and print the mean score with its 95 % interval."""
    from atarilens.play.scores import evaluate, write_scores

    agent, out_dir = _load(options)
    sticky = agent.settings.repeat_action_probability if options.sticky is None else options.sticky
    with _whole_files(out_dir) as folder:
        scores = evaluate(
            agent,
            episodes=options.episodes,
            seed=options.seed,
            greedy=options.greedy,
            settings=replace(agent.settings, repeat_action_probability=sticky),
            progress=True,
        )
        low, high = scores.interval
        cut = f", {scores.truncated.sum()} of them cut off" if scores.truncated.any() else ""
        print(
            f"{agent.name}: mean score {scores.mean:.2f}, 95 % interval {low:.2f} to {high:.2f} "
            f"({len(scores.returns)} episodes{cut}, seed {options.seed}, "
            f"{'greedy' if options.greedy else 'sampled'} actions, stickiness {sticky:g})"
        )
        write_scores([scores], folder / "scores.csv")


def make_movie(options: argparse.Namespace) -> None:
    """Make a saliency movie of one stretch of play, GIF and MP4."""
    from compendium.explanations import saliency_movie

    agent, out_dir = _load(options)
    shown = {"start": options.start, "steps": options.steps, "greedy": options.greedy}
    with _whole_files(out_dir) as folder:
        saliency_movie(agent, folder, seed=options.seed, **shown)


def explain_agent(options: argparse.Namespace) -> None:
    """Draw the standard figures of one agent."""
    from compendium.explanations import standard_figures

    agent, out_dir = _load(options)
    played = {"seed": options.seed, "steps": options.steps, "greedy": options.greedy}
    with _whole_files(out_dir) as folder:
        standard_figures(agent, folder, **played)


def train_agent(options: argparse.Namespace) -> None:
    """Train an agent, or go on after an interruption."""
    from atarilens import games, load_agent
    from atarilens.games.emulators import EnvironmentSettings
    from compendium.training.ppo import PPOSettings, train
    from compendium.training.settings import changed, run_name

    game = games.game(options.game).name
    parent = load_agent(options.from_agent, game=game) if options.from_agent else None
    settings, environment = changed(
        options.changed, PPOSettings(total_steps=options.steps), EnvironmentSettings(game)
    )
    start = f"{game}-{parent.name}" if parent else game
    run_dir = runs() / run_name(start, options.seed, settings, environment)
    print(f"training in {run_dir}; stop at any time, the same command goes on")
    callbacks = []
    if options.tensorboard:
        from atarilens.apps.recorder import training_callback

        callbacks.append(training_callback(run_dir / "tensorboard", game, seed=options.seed))
        print(f"to watch: python -m tensorboard.main --host 127.0.0.1 --logdir {run_dir}")
    train(
        game,
        run_dir,
        settings,
        seed=options.seed,
        environment=environment,
        from_agent=parent,
        device=options.device,
        callbacks=callbacks,
    )
    print(f"done: the weights of the last checkpoint are in {run_dir / 'checkpoints'}")


def train_student(options: argparse.Namespace) -> None:
    """Train a student of the overfit study, or go on after an interruption."""
    from atarilens import load_agent
    from compendium.training.imitation import ImitationSettings, imitate
    from compendium.training.settings import changed, run_name

    expert = load_agent(options.expert)
    (settings,) = changed(options.changed, ImitationSettings(total_steps=options.steps))
    run_dir = runs() / run_name(f"{expert.name}-{options.hint}-hints", options.seed, settings)
    print(f"training in {run_dir}; stop at any time, the same command goes on")
    imitate(expert, run_dir, options.hint, settings, seed=options.seed)


def ship_agent(options: argparse.Namespace) -> None:
    """Measure a checkpoint and put it into data/agents, with its row, scores and curve."""
    from atarilens import load_agent
    from compendium.shipping import check_order, choose_checkpoint, ship, thin_curve, training_hours

    checkpoint, facts = options.checkpoint, {"command": options.command}
    is_file = checkpoint.suffix == ".safetensors"
    if is_file and options.like:
        raise ValueError(f"--like chooses among the checkpoints of a run, received {checkpoint}")
    check_order(checkpoint.parent.parent if is_file else checkpoint, options.name)
    if not is_file:
        like = load_agent(options.like) if options.like else None
        checkpoint = choose_checkpoint(checkpoint, like=like)
        facts["chosen"] = f"scores {f'most like {like.name}' if like else 'best'} on other seeds"
        print(f"chosen: {checkpoint}")
    facts["hours"] = training_hours(checkpoint)
    print(ship(checkpoint, options.name, facts=facts, progress=True))
    print(thin_curve(checkpoint.parent.parent, options.name))


def measure_machine(options: argparse.Namespace) -> None:
    """Measure the speed of this machine and write data/benchmarks/<machine>.json."""
    from compendium.benchmark import write

    path = write()
    print(f"{path.read_text()}written to {path.relative_to(ROOT)}")


def look_for_what_is_missing(options: argparse.Namespace) -> int:
    """Say in words what this machine lacks."""
    from compendium.doctor import main as doctor

    return doctor()


def draw_figures(options: argparse.Namespace) -> int:
    """Draw the figures that are out of date, several at a time."""
    from compendium.figures.drawing import NOT_HERE, draw_all
    from compendium.figures.made_of import out_of_date
    from compendium.figures.params import left_over, list_figures

    figures = list_figures(options.only)
    statuses = draw_all([figure for figure in figures if out_of_date(figure)], _jobs())
    missing = [figure for figure, status in statuses.items() if status == NOT_HERE]
    failed = [figure for figure, status in statuses.items() if status not in (0, NOT_HERE)]
    for name in left_over(options.only):
        print(f"left over: figures/{name}, which no file in notebooks/params makes")
    print(f"{len(figures) - len(missing) - len(failed)} figures are up to date", end="")
    print(f"; not drawn: {', '.join(missing)}" if missing else "", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "", flush=True)
    return min(len(failed), 1)


def draw_figure(options: argparse.Namespace) -> int:
    """Draw one figure, whether or not it is out of date."""
    from compendium.figures.drawing import NOT_HERE, VERIFY, draw

    try:
        draw(options.figure, VERIFY if options.verify else BUILD)
    except MissingDataError as error:
        print(f"not drawn: {options.figure} ({str(error).partition(':')[0]})", flush=True)
        return NOT_HERE
    return 0


def verify_figures(options: argparse.Namespace) -> int:
    """Draw the figures again into build/verify and compare every number with figures/."""
    from compendium.figures.comparing import changed_parameters, compare
    from compendium.figures.drawing import VERIFY, draw_all
    from compendium.figures.params import list_figures

    for line in changed_parameters(options.only):
        print(f"parameters changed since the figure in figures/ was drawn: {line}", flush=True)
    statuses = draw_all(list_figures(options.only), _jobs(), VERIFY)
    wrong = compare(statuses, options.only)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return min(len(wrong), 1)


def _jobs() -> int:
    return _positive(os.environ.get("JOBS") or "2")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return 0, or 2 after one line that says what is wrong."""
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        print(f"atarilens: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("atarilens: interrupted", file=sys.stderr)
        return 130
