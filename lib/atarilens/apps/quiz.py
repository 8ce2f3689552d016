"""Which agent cheats? The paper's user study as a quiz: clips without, then with saliency.

Two agents imitated the same expert on screens with bars at the top. The overfit agent's bars showed
the expert's action, and the control agent's bars a random one: only the overfit agent could read
its action off the bars (Greydanus et al. 2018, ICML, section 4.5 on non-experts). Both play well.
"""

import csv
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from scipy.stats import binomtest

from atarilens.agents import Agent, list_agents, load_agent
from atarilens.apps.explorer.panels import box
from atarilens.apps.explorer.picture import style
from atarilens.paths import BUILD
from atarilens.play.rollouts import rollout
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import SaliencyMaps, perturbation_saliency
from atarilens.saliency.calling import one_torch_thread
from atarilens.views import common_gain, movie_frames, overlay, save_movie

KINDS = ("overfit", "control")
CONDITIONS = ("without saliency", "with saliency")
ANSWERS = {"overfit": "It reads the bars: it cheats", "control": "It watches the game"}
QUESTION = "Take the bars at the top away, and one of the two agents is lost. Is it this one?"
STEPS = 300  # agent steps that each agent plays
CLIP_STEPS = 48
FPS = 8


@dataclass(frozen=True)
class Question:
    """One clip to judge.

    Attributes:
        kind: "overfit" or "control": the truth.
        condition: "without saliency" or "with saliency".
        start: first step of the clip in the agent's episode.
    """

    kind: str
    condition: str
    start: int


@dataclass(frozen=True)
class Answer:
    """What somebody answered: the condition, the truth, and the kind that was chosen."""

    condition: str
    kind: str
    chosen: str


def missing_agents(game: str) -> list[str]:
    """Return the agents that the quiz needs and that are not here."""
    return [name for name in (f"{game}-{kind}" for kind in KINDS) if name not in list_agents()]


def make_questions(num_clips: int, length: int, seed: int) -> list[Question]:
    """Draw the questions: first all without, then all with saliency, half of each kind.

    Args:
        num_clips: per condition; an even number.
        length: steps of each agent's episode.
        seed: of the order and of the moments; no moment comes twice.

    Raises:
        ValueError: if the number of clips is not even and positive, or the episode too short.
    """
    if num_clips < 2 or num_clips % 2:
        raise ValueError(f"num_clips is {num_clips}, expected an even number from 2")
    last = length - CLIP_STEPS
    if last + 1 < num_clips:
        raise ValueError(
            f"{length} steps are too few for {num_clips} clips of {CLIP_STEPS} steps of each agent"
        )
    rng = np.random.default_rng(seed)
    moments = {kind: iter(rng.permutation(last + 1).tolist()) for kind in KINDS}
    questions = []
    for condition in CONDITIONS:
        kinds = rng.permutation(np.repeat(KINDS, num_clips // 2)).tolist()
        questions += [Question(kind, condition, next(moments[kind])) for kind in kinds]
    return questions


def make_clip(agent: Agent, trajectory: Trajectory, question: Question, gain=None) -> np.ndarray:
    """Return the frames `[T, height, width, 3]` uint8 of a question, without the agent's name.

    Args:
        agent: who plays.
        trajectory: its episode.
        question: which moment, and whether the actor's saliency is drawn.
        gain: grey levels per squared logit; by default of this clip.
    """
    steps = slice(question.start, question.start + CLIP_STEPS)
    frames = trajectory.frames[steps]
    if question.condition == CONDITIONS[1]:
        seen = trajectory.observations[steps], trajectory.memory[steps]
        both = perturbation_saliency(agent.network, *seen)
        # Imitation trains no value: only the actor is drawn.
        maps = SaliencyMaps(both.actor, None, both.actor_grid, None)
        gain = common_gain([maps]) if gain is None else (gain, 0.0)
        frames = np.stack(
            [overlay(frame, maps[t], agent.region, gain) for t, frame in enumerate(frames)]
        )
    return movie_frames({"": frames}, factor=2)


def count_answers(answers: Iterable[Answer]) -> dict[str, dict[str, float]]:
    """Count the right answers of each condition.

    Returns:
        Condition -> "right", "asked", "share", and "low" and "high" of its 95 % interval (Wilson
        1927, exact enough from one answer on). A condition that was not asked is left out.
    """
    answers = list(answers)
    counted = {}
    for condition in CONDITIONS:
        right = [
            answer.kind == answer.chosen for answer in answers if answer.condition == condition
        ]
        if right:
            interval = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
            counted[condition] = {
                "right": sum(right),
                "asked": len(right),
                "share": sum(right) / len(right),
                "low": float(interval.low),
                "high": float(interval.high),
            }
    return counted


def append_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Add answers to a CSV file, one row each, so that those of a class can be counted together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["condition", "kind", "chosen"])
        if new:
            writer.writeheader()
        writer.writerows(asdict(answer) for answer in answers)


def read_answers(path: Path) -> list[Answer]:
    """Read what `append_answers` wrote; nothing where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Answer(**row) for row in csv.DictReader(file)]


def results_html(counted: dict[str, dict[str, float]], whose: str) -> str:
    """Draw the shares of right answers with their intervals; half is guessing."""
    rows = [
        f'<div class="al-bar"><span>{escape(condition)}</span><div>'
        f'<i style="width:{found["share"]:.1%}"></i></div><b>{found["right"]} of {found["asked"]} '
        f"right, 95 % interval {found['low']:.0%} to {found['high']:.0%}</b></div>"
        for condition, found in counted.items()
    ]
    note = '<div class="al-note">Guessing is right half of the time.</div>'
    heading = f'<div class="al-heading">{escape(whose)}</div>'
    return f'{heading}<div class="al-bars al-wide">{"".join(rows)}</div>{note}'


class Quiz:
    """The quiz as a page; `self.page` is shown.

    Args:
        agents: kind -> agent, for "overfit" and "control".
        num_clips: per condition; an even number.
        seed: of the episodes, the moments and their order.
        path: CSV file to which the answers are added at the end.
    """

    def __init__(self, agents: dict[str, Agent], num_clips: int, seed: int, path: Path):
        self.agents, self.path = agents, path
        with one_torch_thread():
            self.trajectories = {kind: rollout(agents[kind], seed, STEPS) for kind in KINDS}
        self.questions = make_questions(num_clips, STEPS, seed)
        self.answers: list[Answer] = []
        self.heading, self.clip = widgets.HTML(), widgets.Image(format="gif")
        self.buttons = {kind: widgets.Button(description=words) for kind, words in ANSWERS.items()}
        for kind, button in self.buttons.items():
            button.on_click(self._choose(kind))
        buttons = box("al-choose", *self.buttons.values())
        self.page = box("atarilens al-quiz", style(), self.heading, self.clip, buttons)
        self._show()

    def _choose(self, kind: str) -> Callable[[widgets.Button], None]:
        return lambda _: self.answer(kind)

    def answer(self, chosen: str) -> None:
        """Answer the question that is shown, and go on; nothing happens after the last."""
        if len(self.answers) < len(self.questions):
            question = self.questions[len(self.answers)]
            self.answers.append(Answer(question.condition, question.kind, chosen))
            self._show()

    def _show(self) -> None:
        number = len(self.answers)
        if number == len(self.questions):
            self._finish()
            return
        question = self.questions[number]
        self._wait(True)
        frames = make_clip(self.agents[question.kind], self.trajectories[question.kind], question)
        with tempfile.TemporaryDirectory() as folder:
            self.clip.value = save_movie(frames, Path(folder) / "clip.gif", FPS).read_bytes()
        blue = " Blue is where blurring the screen would change what it does."
        hint = blue if question.condition == CONDITIONS[1] else ""
        self.heading.value = (
            f'<div class="al-title"><h1>Clip {number + 1} of {len(self.questions)}</h1>'
            f"<span>{question.condition}</span></div><p>{QUESTION}{hint}</p>"
        )
        self._wait(False)

    def _wait(self, waiting: bool) -> None:
        """Take no answer, and dim the clip, while the next one is made."""
        (self.clip.add_class if waiting else self.clip.remove_class)("al-waiting")
        for button in self.buttons.values():
            button.disabled = waiting

    def _finish(self) -> None:
        append_answers(self.path, self.answers)
        self.page.children = (style(), self.heading)
        everybody = count_answers(read_answers(self.path))
        self.heading.value = (
            '<div class="al-title"><h1>What you found</h1></div>'
            + results_html(count_answers(self.answers), "You")
            + results_html(everybody, "Everybody who answered here")
        )

    def _repr_mimebundle_(self, **kwargs):
        return self.page._repr_mimebundle_(**kwargs)


def quiz(game: str = "pong", num_clips: int = 6, seed: int = 0) -> Quiz | widgets.HTML:
    """Make the quiz of a game, or say which agents it lacks.

    Args:
        game: key of `games.GAMES`.
        num_clips: per condition; an even number.
        seed: of the episodes, the moments and their order.
    """
    if missing := missing_agents(game):
        return widgets.HTML(
            f"The quiz on {escape(game)} needs the agents {' and '.join(missing)}, which are not "
            f"in data/agents. They are made by imitation of {escape(game)}-strong."
        )
    agents = {kind: load_agent(f"{game}-{kind}") for kind in KINDS}
    return Quiz(agents, num_clips, seed, BUILD / "quiz" / f"{game}.csv")
