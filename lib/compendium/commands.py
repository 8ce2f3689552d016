"""What make calls: one verb, one function; its parameters are the variables that people type."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from atarilens.paths import BUILD, ROOT, MissingDataError, runs

FPS = 15  # 60 emulator frames per second, 4 of them per agent step
HARDLY = 0.1  # logits; probabilities then change by a factor of at most e^0.1
STANDARD = ("05_jacobian_vs_perturbation", "06_what_agents_attend_to", "09_movies")


class Count(int):
    """A whole number above 0."""

    def __new__(cls, text: str):
        """Read a number; ValueError if it is not above 0."""
        if int(text) < 1:
            raise ValueError(text)
        return super().__new__(cls, text)


class Natural(int):
    """A whole number, 0 or more."""

    def __new__(cls, text: str):
        """Read a number; ValueError if it is below 0."""
        if int(text) < 0:
            raise ValueError(text)
        return super().__new__(cls, text)


class Chance(float):
    """A probability."""

    def __new__(cls, text: str):
        """Read a number; ValueError if it is not one from 0 to 1."""
        if not 0 <= float(text) <= 1:
            raise ValueError(text)
        return super().__new__(cls, text)


def figures(only: str = "", jobs: Count = 2) -> int:
    """Draw the figures that are out of date, several at a time.

    Args:
        only: start of the names of the figures, or several with spaces between them.
        jobs: notebooks at a time.
    """
    from compendium.figures.drawing import NOT_HERE, draw_all
    from compendium.figures.made_of import out_of_date
    from compendium.figures.params import left_over, list_figures
    from compendium.pages.readmes import write

    names = list_figures(only)
    statuses = draw_all([name for name in names if out_of_date(name)], jobs)
    missing = [name for name, status in statuses.items() if status == NOT_HERE]
    failed = [name for name, status in statuses.items() if status not in (0, NOT_HERE)]
    for name in left_over(only):
        print(f"left over: figures/{name}, which no file in notebooks/params makes")
    for path in write():
        print(f"wrote {path.relative_to(ROOT)}")
    print(f"{len(names) - len(missing) - len(failed)} figures are up to date", end="")
    print(f"; not drawn: {', '.join(missing)}" if missing else "", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "", flush=True)
    return min(len(failed), 1)


def figure(name: str, again: bool = False) -> int:
    """Draw one figure, whether or not it is out of date.

    Args:
        name: of a file in notebooks/params, without .yml.
        again: into build/verify, where it is compared with figures/.
    """
    from compendium.figures.drawing import NOT_HERE, VERIFY, draw

    try:
        draw(name, VERIFY if again else BUILD)
    except MissingDataError as error:
        print(f"not drawn: {name} ({str(error).partition(':')[0]})", flush=True)
        return NOT_HERE
    return 0


def verify(only: str = "", jobs: Count = 2, rows: Natural = 20, seed: Natural | None = None) -> int:
    """Draw the figures again into build/verify and compare every number with figures/.

    With the figure of notebook 61, rows of its table are measured again, drawn at random.

    Args:
        only: start of the names of the figures, or several with spaces between them.
        jobs: notebooks, or episodes, at a time.
        rows: of data/tables/faithfulness.csv that are measured again.
        seed: of the draw of these rows; by default another one each day.
    """
    from compendium.figures.comparing import changed_parameters, compare
    from compendium.figures.drawing import VERIFY, draw_all
    from compendium.figures.params import list_figures

    for line in changed_parameters(only):
        print(f"parameters changed since the figure in figures/ was drawn: {line}", flush=True)
    names = list_figures(only)
    wrong = compare(draw_all(names, jobs, VERIFY), only)
    if rows > 0 and any(name.startswith("61_") for name in names):
        wrong += _rows_measured_again(rows, seed, jobs)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return min(len(wrong), 1)


def _rows_measured_again(count: int, seed: int | None, jobs: int) -> list[str]:
    """Say what came out differently in rows of the table of faithfulness."""
    import joblib

    from compendium.tables import faithfulness

    seed = date.today().toordinal() if seed is None else seed
    print(f"measuring {count} rows of {faithfulness.TABLE}.csv again, SEED={seed}", flush=True)
    with joblib.parallel_config(n_jobs=jobs):
        wrong = faithfulness.check_rows(count, seed)
    print(
        f"{count} rows measured again; numbers compared within {faithfulness.RELATIVE:g} "
        f"(relative) + {faithfulness.ABSOLUTE:g}"
    )
    return [f"{faithfulness.TABLE}.csv: {line}" for line in wrong]


@contextmanager
def whole_files(out_dir: Path) -> Iterator[Path]:
    """Yield a folder whose files move into `out_dir` if all goes well, and vanish otherwise."""
    out_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out_dir, prefix="unfinished-") as folder:
        yield Path(folder)
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            os.replace(path, out_dir / path.name)
            print(out_dir / path.name)


def open_agent(name_or_path: str, game: str | None, out: Path | None) -> tuple:
    """Return the agent, and the folder for what is written about it: build/<agent> unless given."""
    from atarilens import load_agent

    agent = load_agent(name_or_path, game=game)
    return agent, (out or BUILD / agent.name).absolute()  # notebooks run in a folder of their own


def actions_of(agent, greedy: bool | None, epsilon: float) -> str:
    """Say in words how actions are chosen."""
    from atarilens.play.rollouts import plays_greedily

    words = "greedy" if plays_greedily(agent, greedy) else "sampled"
    if agent.network.q_values and greedy is None:
        words += " (its network gives Q-values)"
    return f"{words}, {epsilon:.0%} random" if epsilon else words


def evaluate(
    agent: str,
    game: str | None = None,
    episodes: Count = 30,
    seed: Natural = 0,
    greedy: bool | None = None,
    epsilon: Chance = 0.0,
    sticky: Chance | None = None,
    out: Path | None = None,
) -> None:
    """Play whole episodes and print the mean score with its 95 % interval.

    Args:
        agent: a row of data/agents, or the path of a checkpoint.
        game: needed by most checkpoints of other people.
        episodes: how many, from as many seeds.
        seed: of the first.
        greedy: 1 for the likeliest action, 0 for actions drawn from the policy; by default
            networks that give Q-values are played greedily, others are drawn from.
        epsilon: probability of a random action instead.
        sticky: probability that the emulator repeats an action; by default as in training.
        out: folder for scores.csv; default build/<agent>.
    """
    from atarilens.play import scores

    player, out_dir = open_agent(agent, game, out)
    usual = player.settings.repeat_action_probability
    sticky = usual if sticky is None else sticky
    with whole_files(out_dir) as folder:
        found = scores.evaluate(
            player,
            episodes=episodes,
            seed=seed,
            greedy=greedy,
            epsilon=epsilon,
            settings=replace(player.settings, repeat_action_probability=sticky),
            progress=True,
        )
        interval = "one episode has no interval"
        if episodes > 1:
            interval = "95 % interval {:.2f} to {:.2f}".format(*found.interval)
        cut = f", {found.truncated.sum()} of them cut off" if found.truncated.any() else ""
        count = f"{episodes} episode{'s' if episodes > 1 else ''}"
        print(
            f"{player.name}: mean score {found.mean:.2f}, {interval} ({count}{cut}, seed {seed}, "
            f"actions {actions_of(player, greedy, epsilon)}, stickiness {sticky:g})"
        )
        scores.write_scores([found], folder / "scores.csv")


def movie(
    agent: str,
    game: str | None = None,
    start: Natural = 0,
    steps: Count = 120,
    seed: Natural = 0,
    greedy: bool | None = None,
    epsilon: Chance = 0.0,
    out: Path | None = None,
) -> None:
    """Film a stretch of play with the saliency of every step on it, as GIF and MP4.

    Args:
        agent: a row of data/agents, or the path of a checkpoint.
        game: needed by most checkpoints of other people.
        start: first agent step shown.
        steps: agent steps shown.
        seed: of the game.
        greedy: 1 for the likeliest action, 0 for actions drawn from the policy; by default
            networks that give Q-values are played greedily, others are drawn from.
        epsilon: probability of a random action instead.
        out: folder; default build/<agent>.
    """
    import numpy as np

    from atarilens import play, saliency, views

    player, out_dir = open_agent(agent, game, out)
    print(f"{player.name}: actions {actions_of(player, greedy, epsilon)}")
    with whole_files(out_dir) as folder:
        trajectory = play.rollout(
            player, seed, start + steps, greedy, epsilon=epsilon, progress=True
        )
        shown = np.arange(start, start + steps)
        inputs = trajectory.observations[shown], trajectory.memory[shown]
        maps = saliency.perturbation_saliency(player.network, *inputs, progress=True)
        gain = views.common_gain([maps])
        screens = [
            views.overlay(trajectory.frames[t], maps[i], player.region, gain)
            for i, t in enumerate(shown)
        ]
        done = [player.action_meanings[action] for action in trajectory.actions[shown]]
        captions = [f"step {t}   {name}" for t, name in zip(shown, done, strict=True)]
        frames = views.movie_frames({player.name: np.stack(screens)}, captions)
        for ending in ("mp4", "gif"):
            views.save_movie(frames, folder / f"{player.name}.{ending}", FPS)


def explain(
    agent: str,
    game: str | None = None,
    steps: Count = 1000,
    maps: Count = 60,
    seed: Natural = 0,
    out: Path | None = None,
) -> None:
    """Draw the standard figures of one agent, beside an untrained network, and a film.

    They are those of notebooks 05, 06 and 09, executed for this agent.

    Args:
        agent: a row of data/agents, or the path of a checkpoint.
        game: needed by most checkpoints of other people.
        steps: agent steps played.
        maps: how many of them are measured.
        seed: of the game.
        out: folder; default build/<agent>.
    """
    from papermill import inspect_notebook

    from atarilens import games, list_agents, save_agent
    from compendium.figures import drawing, params

    player, out_dir = open_agent(agent, game, out)
    if player.name.startswith("untrained-"):
        raise ValueError(
            f"expected a trained agent: {player.name} is the control that the figures compare "
            "an agent with"
        )
    print(f"{player.name}: actions {actions_of(player, None, 0.0)}", flush=True)
    print(size_of_reactions(player, seed, steps), flush=True)
    if not games.has_objects(player.game):
        print(f"where the objects of {player.game} are is not known: a film, and no measures")
        movie(agent, game, seed=seed, steps=Count(min(steps, 120)), out=out)
        return
    with whole_files(out_dir) as folder:
        if agent not in list_agents():  # notebooks are given a copy that says which game it plays
            agent = str(save_agent(player, folder / f"{player.name}.safetensors"))
        for name in STANDARD:
            print(f"drawing {name} ...", flush=True)
            notebook = params.notebook_of(name)
            accepted = inspect_notebook(str(notebook))
            given = {
                "watched_agent": agent,
                "watched_replay": "",
                "claim_object": main_object(player.game),
                "max_steps": int(steps),
                "num_maps": int(maps),
                "start": 0,
                "length": min(64, int(steps)),
                "seed": seed,
                "out_dir": str(folder / name),
            }
            given = {key: value for key, value in given.items() if key in accepted}
            running = BUILD / "running" / f"{player.name}--{name}.ipynb"
            running.parent.mkdir(parents=True, exist_ok=True)
            drawing.execute(notebook, running, given)
            shutil.move(running, folder / f"{name}.ipynb")


def audit(
    agent: str,
    game: str | None = None,
    episodes: Count = 8,
    replays: Count = 6,
    steps: Count = 800,
    moments: Count = 16,
    out: Path | None = None,
    jobs: Count = 2,
) -> None:
    """Audit any agent on one page: scores, attention, answers to changes, shortcuts, maps.

    Args:
        agent: a row of data/agents, or the path of a checkpoint.
        game: needed by most checkpoints of other people.
        episodes: games per way of playing, for the scores.
        replays: games that are kept and measured.
        steps: agent steps of each of them, at most.
        moments: decisions that are measured in each of them.
        out: folder; default build/audit-<agent>.
        jobs: games at a time.
    """
    import joblib

    from compendium.audit import audit as write_audit

    player, _ = open_agent(agent, game, out)
    loaded_as = f"load_agent({agent!r})" if game is None else f"load_agent({agent!r}, {game!r})"
    with joblib.parallel_config(n_jobs=jobs):
        print(
            write_audit(
                player,
                out,
                loaded_as=loaded_as,
                episodes=episodes,
                recorded=replays,
                steps=steps,
                decisions=moments,
            )
        )


def main_object(game: str) -> str:
    """Name the object that the standard figures ask about: as for our own agents, or the first."""
    import numpy as np

    from atarilens import games
    from compendium.figures.params import list_figures, read_parameters

    for figure in list_figures("06_what_agents_attend_to"):
        if figure.endswith(f"--{game}"):
            return read_parameters(figure)["claim_object"]
    return next(iter(games.object_boxes(game, np.zeros(128, np.uint8))))


def size_of_reactions(agent, seed: int, steps: int, count: int = 20) -> str:
    """Say how large an agent's saliency is at all, beside an untrained network's."""
    from atarilens import measures, play, saliency
    from atarilens.agents import untrained_control

    trajectory = play.rollout(agent, seed, steps)
    control = untrained_control(agent)
    chosen = measures.spread_steps(trajectory.episode, count)
    own, untrained = (
        saliency.perturbation_saliency(player.network, *seen.decision(chosen)).actor.max()
        for player, seen in ((agent, trajectory), (control, play.seen_by(trajectory, control)))
    )
    words = f"{agent.name}: largest actor score {own:.2g}, of an untrained network {untrained:.2g}"
    moved = (2 * own) ** 0.5  # the score is half the squared distance that the logits move
    if moved < HARDLY:
        words += f": it hardly reacts, no blurred spot moves a logit by more than {moved:.2g}"
    return words


def train(
    game: str,
    from_: str | None = None,
    steps: Count = 10_000_000,
    seed: Natural = 0,
    set_: tuple[str, ...] = (),
    tensorboard: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Train an agent, or go on after an interruption.

    Args:
        game: such as pong.
        from_: an agent whose weights training starts from.
        steps: agent steps in all.
        seed: of the run.
        set_: settings other than the defaults of training.ppo.PPOSettings and of the environment,
            as in SET="clip=0.2 repeat_action_probability=0.25".
        tensorboard: record episodes as movies.
        device: of the network.
    """
    from atarilens import games, load_agent
    from atarilens.games.emulators import EnvironmentSettings
    from compendium.training import ppo
    from compendium.training.settings import changed, run_name

    game = games.game(game).name
    parent = load_agent(from_, game=game) if from_ else None
    settings, environment = changed(
        list(set_), ppo.PPOSettings(total_steps=steps), EnvironmentSettings(game)
    )
    start = f"{game}-{parent.name}" if parent else game
    run_dir = runs() / run_name(start, seed, settings, environment)
    print(f"training in {run_dir}; stop at any time, the same command goes on")
    callbacks = []
    if tensorboard:
        from atarilens.apps.recorder import tensorboard_command, training_callback

        callbacks.append(training_callback(run_dir / "tensorboard", game, seed=seed))
        print(f"to watch: {tensorboard_command(run_dir)}")
    ppo.train(
        game,
        run_dir,
        settings,
        seed=seed,
        environment=environment,
        from_agent=parent,
        device=device,
        callbacks=callbacks,
    )
    print(f"done: the weights of the last checkpoint are in {run_dir / 'checkpoints'}")


def imitate(
    agent: str,
    hint: Literal["expert", "random"],
    steps: Count = 1_000_000,
    seed: Natural = 1,
    set_: tuple[str, ...] = (),
) -> None:
    """Train a student of the overfit study, or go on after an interruption.

    Args:
        agent: the expert, whose most probable action is learned.
        hint: whose action the student is shown.
        steps: agent steps in all.
        seed: of the run.
        set_: settings other than the defaults of training.imitation.ImitationSettings.
    """
    from atarilens import load_agent
    from compendium.training import imitation
    from compendium.training.settings import changed, run_name

    expert = load_agent(agent)
    (settings,) = changed(list(set_), imitation.ImitationSettings(total_steps=steps))
    run_dir = runs() / run_name(f"{expert.name}-{hint}-hints", seed, settings)
    print(f"training in {run_dir}; stop at any time, the same command goes on")
    imitation.imitate(expert, run_dir, hint, settings, seed=seed)


def zoo(
    only: str = "", table: bool = False, ship: bool = False, jobs: Count = 2, tag: str = ""
) -> None:
    """Train what is missing of the pocket zoo, several runs at a time, or go on with it.

    Args:
        only: start of the names of the runs, such as ppo-pong.
        table: print what stands and what remains, and train nothing.
        ship: measure the runs that have begun and put them into data/zoo, and train nothing.
        jobs: runs at a time, of one thread each.
        tag: rebuild this checkpoint of the runs, such as initial or 6min, and put it into data/zoo.
    """
    from compendium.shipping import zoo

    if tag:
        for cell in zoo.cells(only):
            print(zoo.ship_cell(cell, tag, progress=True), flush=True)
        return
    if ship:
        for cell in zoo.cells(only):
            if zoo.state(cell)["steps"]:
                print(zoo.ship_cell(cell, progress=True), flush=True)
        return
    print(zoo.report(only), flush=True)
    if not table:
        zoo.train_missing(only, jobs)
        print(zoo.report(only))


def ship(checkpoint: Path, name: str, like: str | None = None, command: str | None = None) -> None:
    """Measure a checkpoint and put it into data/agents, with its row, scores and curve.

    Args:
        checkpoint: <run>/checkpoints/<step>.safetensors, or <run>: the best of its last is chosen.
        name: of the agent, such as pong-strong.
        like: choose the checkpoint that scores most like this agent.
        command: that made it; for its row.
    """
    from atarilens import load_agent
    from compendium import shipping

    facts = {"command": command}
    is_file = checkpoint.suffix == ".safetensors"
    if is_file and like:
        raise ValueError(f"LIKE= chooses among the checkpoints of a run, received {checkpoint}")
    shipping.check_order(checkpoint.parent.parent if is_file else checkpoint, name)
    if not is_file:
        model = load_agent(like) if like else None
        checkpoint = shipping.choose_checkpoint(checkpoint, like=model)
        facts["chosen"] = f"scores {f'most like {model.name}' if model else 'best'} on other seeds"
        print(f"chosen: {checkpoint}")
    facts["hours"] = shipping.training_hours(checkpoint)
    print(shipping.ship(checkpoint, name, facts=facts, progress=True))
    print(shipping.thin_curve(checkpoint.parent.parent, name))


def faithfulness(jobs: Count = 1) -> None:
    """Measure how far each kind of map can be trusted, or go on after an interruption.

    Three tables: what changing an object does, insertion and deletion, sanity checks.

    Args:
        jobs: episodes at a time.
    """
    import joblib

    from compendium.tables.faithfulness import faithfulness_table
    from compendium.tables.insertion import insertion_table
    from compendium.tables.sanity import sanity_table

    with joblib.parallel_config(n_jobs=jobs):
        for measure in (faithfulness_table, insertion_table, sanity_table):
            print(measure().relative_to(ROOT), flush=True)


def rally(episodes: Count = 20) -> None:
    """Move Pong's ball and count lost points, into data/tables/rally.csv; goes on if interrupted.

    Args:
        episodes: per agent and player.
    """
    from compendium.tables.rally import measure_rallies

    print(f"written to {measure_rallies(episodes=episodes).relative_to(ROOT)}")


def gaze_data(game: str) -> None:
    """Fetch where people looked while they played a game (Atari-HEAD) into the user's cache.

    Args:
        game: such as breakout.
    """
    from atarilens.games.objects import game as record_of
    from atarilens.play import list_gaze_trials
    from compendium.tables.gaze_data import fetch_gaze_data

    folder = fetch_gaze_data(game)
    found = list_gaze_trials(game, folder)
    print(f"{len(found)} trials of {record_of(game).title} in {folder}")


def noise(only: str = "", episodes: Count = 3) -> None:
    """Measure how the zoo's agents play under noise, into data/tables, or go on after a stop.

    Args:
        only: start of the agents' names, such as ga-freeway.
        episodes: per agent, kind and level of noise.
    """
    from compendium.tables.noise import measure_noise

    print(f"written to {measure_noise(only, episodes=episodes).relative_to(ROOT)}")


def bench() -> None:
    """Measure the speed of this machine and write data/benchmarks/<machine>.json."""
    from compendium import benchmark

    path = benchmark.write()
    print(f"{path.read_text()}written to {path.relative_to(ROOT)}")


def doctor() -> int:
    """Say in words what this machine lacks."""
    from compendium import doctor

    return doctor.main()


def states(
    agent: str,
    game: str | None = None,
    seed: Natural = 0,
    set_: tuple[str, ...] = (),
    goggles: bool = False,
    variants: bool = False,
) -> None:
    """Train the state model of an agent, or go on; put it into data/states, or build/states.

    Args:
        agent: a row of data/agents, or the path of a checkpoint: its model goes to build/states.
        game: needed by most checkpoints of other people.
        seed: of the recordings, the weights and the order of the frames.
        set_: settings other than the defaults of training.state_model.StateModelSettings.
        goggles: play with reconstructions in place of screens, too, into data/tables.
        variants: train a plain and an attentive-only model with these settings as well, and play
            with the shipped model and with each of them, into data/tables. Nothing else is stored.
    """
    from atarilens import list_agents
    from atarilens.features import StateModel
    from atarilens.paths import STATES
    from compendium.tables.goggles import goggle_scores, variant_models
    from compendium.training.settings import changed, run_name
    from compendium.training.state_model import StateModelSettings, train_state_model

    player, _ = open_agent(agent, game, None)  # an unknown name is an error before all else
    shipped = agent in list_agents()
    if (goggles or variants) and not shipped:
        raise ValueError(f"GOGGLES and VARIANTS need a row of data/agents, received {agent!r}")
    (settings,) = changed(list(set_), StateModelSettings())
    run_dir = runs() / run_name(f"{player.name}-states", seed, settings)
    print(f"training in {run_dir}; look at {run_dir / 'preview.png'} as it learns")
    if variants:
        models = {"full": StateModel.load(agent)}
        models |= variant_models(agent, settings, run_dir, seed=seed)
        print(goggle_scores(agent, models))
        return
    folder = STATES if shipped else BUILD / "states"
    print(train_state_model(player, run_dir, settings, seed=seed).save(folder / player.name))
    if goggles:
        print(goggle_scores(agent))


def site() -> int:
    """Write notebooks, glossary, lesson, library and the explorer as pages for a browser alone."""
    from compendium.pages import site

    for line in site.write_site():
        print(f"note: {line}")
    wrong = site.check_links()
    for line in wrong:
        print(f"leads nowhere: {line}", file=sys.stderr)
    files = [path for path in site.SITE.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{len(files)} files, {size:.0f} MB: open {site.SITE.relative_to(ROOT)}/index.html")
    return min(len(wrong), 1)


VERBS = (
    *(figures, figure, verify, site, evaluate, movie, explain, audit),
    *(train, imitate, zoo, ship, states, faithfulness, rally, gaze_data),
    *(noise, bench, doctor),
)
