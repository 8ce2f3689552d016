"""Which agent cheats? The paper's user study as a quiz: clips without, then with saliency.

Two agents imitated the same expert on screens with bars at the top. The overfit agent's bars showed
the expert's action, and the control agent's bars a random one: only the overfit agent could read
its action off the bars (Greydanus et al. 2018, ICML, section 4.5 on non-experts). Both play well.
As in the paper, each clip comes with two questions: which agent is more robust, and what does each
agent use?
"""

import csv
import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np

from atarilens.agents import Agent, list_agents, load_agent
from atarilens.apps.explorer.panels import box
from atarilens.apps.explorer.picture import style
from atarilens.measures import mean_interval
from atarilens.paths import BUILD, whole_file
from atarilens.play.rollouts import rollout
from atarilens.play.trajectories import Trajectory
from atarilens.saliency import SaliencyMaps, perturbation_saliency
from atarilens.saliency.calling import one_torch_thread
from atarilens.views import common_gain, movie_frames, overlay, save_movie

KINDS = ("overfit", "control")
CONDITIONS = ("without saliency", "with saliency")
SIDES = ("A", "B")
UNSURE = "can't tell"
USES = {"overfit": "the bars", "control": "the game"}  # what each agent's actions depend on
STEPS = 300  # agent steps that each agent plays
CLIP_STEPS = 48
FPS = 8
ENOUGH = 5  # people for an interval
# Shares of 31 students (paper's Table 1), by condition; "bars" is the share who named the hints as
# what the overfit agent uses.
PAPER = {
    "control": (0.355, 0.581),
    "overfit": (0.484, 0.258),
    UNSURE: (0.161, 0.161),
    "bars": (0.0, 0.677),
}
ROWS = {
    "control": "“the agent that reads the game is more robust” (right)",
    "overfit": "“the agent that reads the bars is more robust” (wrong)",
    UNSURE: "“can't tell which one is more robust”",
    "bars": "“it uses the bars”, said of the agent that does",
}


@dataclass(frozen=True)
class Clip:
    """One clip to judge, of two agents side by side.

    Attributes:
        condition: "without saliency" or "with saliency".
        kinds: who plays at A and at B: "overfit" and "control", or the other way round.
        starts: first step of the clip in the episode of A and of B.
    """

    condition: str
    kinds: tuple[str, str]
    starts: tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """The answers to one clip.

    Attributes:
        condition: of the clip.
        robust: kind of the agent that was called more robust, or "can't tell".
        overfit_uses: what the overfit agent was said to use: a value of `USES`, or "can't tell".
        control_uses: the same of the control agent.
    """

    condition: str
    robust: str
    overfit_uses: str
    control_uses: str


def missing_agents(game: str) -> list[str]:
    """Return the agents that the quiz needs and that are not here."""
    return [name for name in (f"{game}-{kind}" for kind in KINDS) if name not in list_agents()]


def make_clips(num_clips: int, length: int, seed: int) -> list[Clip]:
    """Draw the clips: first all without, then all with saliency.

    Args:
        num_clips: per condition.
        length: steps of each agent's episode.
        seed: of the sides and of the moments; no moment comes twice.

    Raises:
        ValueError: if there are no clips, or the episode is too short for them.
    """
    if num_clips < 1:
        raise ValueError(f"num_clips is {num_clips}, expected 1 or more")
    last = length - CLIP_STEPS
    if last + 1 < 2 * num_clips:
        raise ValueError(
            f"{length} steps are too few for {2 * num_clips} clips of {CLIP_STEPS} steps"
        )
    rng = np.random.default_rng(seed)
    starts = {kind: iter(rng.permutation(last + 1).tolist()) for kind in KINDS}
    clips = []
    for condition in CONDITIONS:
        for flipped in rng.permutation(np.arange(num_clips) % 2):
            kinds = KINDS[::-1] if flipped else KINDS
            clips.append(Clip(condition, kinds, tuple(next(starts[kind]) for kind in kinds)))
    return clips


def clip_frames(
    agents: Mapping[str, Agent], trajectories: Mapping[str, Trajectory], clip: Clip, gains=None
) -> np.ndarray:
    """Return the frames `[T, height, width, 3]` uint8 of a clip; the agents are called A and B.

    Args:
        agents: kind -> agent.
        trajectories: kind -> its episode.
        clip: which moments, and whether the actors' saliency is drawn.
        gains: kind -> grey levels per squared logit; by default those of this clip.
    """
    columns = {}
    for side, kind, start in zip(SIDES, clip.kinds, clip.starts, strict=True):
        agent, trajectory = agents[kind], trajectories[kind]
        steps = slice(start, start + CLIP_STEPS)
        frames = trajectory.frames[steps]
        if clip.condition == CONDITIONS[1]:
            inputs = trajectory.observations[steps], trajectory.memory[steps]
            both = perturbation_saliency(agent.network, *inputs)
            # Imitation trains no value: only the actor is drawn.
            maps = SaliencyMaps(both.actor, None, both.actor_grid, None)
            gain = common_gain([maps]) if gains is None else (gains[kind], 0.0)
            drawn = [overlay(frame, maps[t], agent.region, gain) for t, frame in enumerate(frames)]
            frames = np.stack(drawn)
        columns[side] = frames
    return movie_frames(columns, factor=2)


def shares(answers: Iterable[Answer]) -> dict[str, dict[str, float]]:
    """Return condition -> key of `ROWS` -> share of the clips; only conditions that have clips."""
    found = {}
    for condition in CONDITIONS:
        asked = [answer for answer in answers if answer.condition == condition]
        if asked:
            found[condition] = {
                kind: float(np.mean([answer.robust == kind for answer in asked]))
                for kind in ("control", "overfit", UNSURE)
            }
            named = [answer.overfit_uses == USES["overfit"] for answer in asked]
            found[condition]["bars"] = float(np.mean(named))
    return found


def save_answers(folder: Path, person: str, answers: Sequence[Answer]) -> bool:
    """Write a person's answers as a CSV file, unless this person has answered before.

    Args:
        folder: one file per person.
        person: a name or nickname; the file holds only its hash.
        answers: one row each.

    Returns:
        Whether they were written: only a person's first round counts.
    """
    name = hashlib.sha256(" ".join(person.lower().split()).encode()).hexdigest()[:16]
    path = folder / f"{name}.csv"
    if path.exists():
        return False
    with whole_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, Answer.__dataclass_fields__)
        writer.writeheader()
        writer.writerows(asdict(answer) for answer in answers)
    return True


def read_answers(folder: Path) -> list[list[Answer]]:
    """Return the answers of every person in a folder of `save_answers`."""
    people = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            people.append([Answer(**row) for row in csv.DictReader(file)])
    return people


def results_html(own: Sequence[Answer], people: Sequence[Sequence[Answer]]) -> str:
    """Return a table: own answers, those of everybody here, and the paper's 31 students."""
    mine, theirs = shares(own), [shares(answers) for answers in people]
    heads = "".join(f'<th colspan="3">{condition}</th>' for condition in CONDITIONS)
    groups = "<th>you</th><th>here</th><th>paper</th>" * len(CONDITIONS)
    body = ""
    for key, words in ROWS.items():
        cells = ""
        for condition, paper in zip(CONDITIONS, PAPER[key], strict=True):
            found = [share[condition][key] for share in theirs if condition in share]
            you = mine[condition][key] if condition in mine else float("nan")
            cells += f"<td><b>{you:.0%}</b></td><td>{_mean(found)}</td><td>{paper:.1%}</td>"
        body += f"<tr><td>{escape(words)}</td>{cells}</tr>"
    note = (
        f"“You” counts clips. “Here” is the mean over {len(theirs)} "
        f"{'person' if len(theirs) == 1 else 'people'} on this machine, with its 95 % interval if "
        f"there are {ENOUGH} or more; the first round counts. “Paper”: 31 students, Table 1."
    )
    return (
        f'<table class="al-results"><tr><th></th>{heads}</tr><tr><th></th>{groups}</tr>{body}'
        f'</table><div class="al-note">{note}</div>'
    )


def _mean(values: Sequence[float]) -> str:
    """Return the mean of shares, with its interval if there are enough, as words."""
    if len(values) < ENOUGH:
        return f"{np.mean(values):.0%}" if values else "–"
    low, high = np.clip(mean_interval(values), 0, 1)
    return f"{np.mean(values):.0%} <small>({low:.0%} to {high:.0%})</small>"


class Quiz:
    """The quiz as a page; a notebook shows `self.page`.

    Args:
        agents: kind -> agent, for "overfit" and "control".
        num_clips: per condition.
        seed: of the episodes, the moments and the sides.
        folder: for the answers, see `save_answers`.
    """

    def __init__(self, agents: dict[str, Agent], num_clips: int, seed: int, folder: Path):
        self.agents, self.num_clips, self.seed, self.folder = agents, num_clips, seed, folder
        self.answers: list[Answer] = []
        self.heading, self.feedback = widgets.HTML(), widgets.HTML()
        self.clip = widgets.Image(format="gif")
        self.person = widgets.Text(description="Name", placeholder="or a nickname")
        self.start = widgets.Button(description="Start", button_style="primary")
        self.start.on_click(lambda _: self.play())
        self.robust = _choice([*SIDES, UNSURE])
        self.uses = {side: _choice([*USES.values(), UNSURE]) for side in SIDES}
        for question in (self.robust, *self.uses.values()):
            question.observe(lambda _: self._answered(), "value")
        self.check = widgets.Button(description="Check", button_style="primary")
        self.check.on_click(lambda _: self.submit())
        self.next = widgets.Button(description="Next clip", button_style="primary")
        self.next.on_click(lambda _: self.show_next())
        self.again = widgets.Button(description="Other clips", button_style="primary")
        self.again.on_click(lambda _: self.play_other_clips())
        questions = [
            _words(
                "<b>Which agent is more robust?</b> It still plays well if the bars "
                "at the top become random."
            ),
            self.robust,
        ]
        for side in SIDES:
            questions += [_words(f"<b>What does agent {side} use</b> to choose its actions?")]
            questions += [self.uses[side]]
        self.questions = box("al-questions", *questions, self.check, self.feedback, self.next)
        self.body = box("al-clip", self.clip, self.questions)
        self.page = box("atarilens al-quiz", style(), self.heading)
        self.heading.value = (
            '<div class="al-title"><h1>Which agent cheats?</h1></div><p>Each clip shows two '
            f"agents, A and B. First come {num_clips} clips as they are, then {num_clips} with "
            "saliency. "
            "Your name counts you once among those who answer on this machine; the file holds only "
            "a hash of it.</p>"
        )
        self.page.children = (style(), self.heading, box("al-choose", self.person, self.start))

    def play(self) -> None:
        """Let the agents play, draw the clips and show the first."""
        self.start.disabled = self.again.disabled = True
        with one_torch_thread():
            self.trajectories = {
                kind: rollout(self.agents[kind], self.seed, STEPS) for kind in KINDS
            }
        self.clips = make_clips(self.num_clips, STEPS, self.seed)
        self.answers = []
        self.page.children = (style(), self.heading, self.body)
        self.show_next()

    def play_other_clips(self) -> None:
        """Start another round, with clips of other episodes."""
        self.seed += 1
        self.play()

    def show_next(self) -> None:
        """Show the next clip, or the results after the last."""
        number = len(self.answers)
        if number == len(self.clips):
            self._finish()
            return
        clip = self.clips[number]
        self.clip.add_class("al-waiting")
        self.feedback.value = ""
        for question in (self.robust, *self.uses.values()):
            question.value, question.disabled = None, False
        self._answered()
        self.next.layout.display, self.check.layout.display = "none", ""
        frames = clip_frames(self.agents, self.trajectories, clip)
        with tempfile.TemporaryDirectory() as folder:
            self.clip.value = save_movie(frames, Path(folder) / "clip.gif", FPS).read_bytes()
        hint = ". Blue: blurring the screen here would change what the agent does."
        self.heading.value = (
            f'<div class="al-title"><h1>Clip {number + 1} of {len(self.clips)}</h1>'
            f"<span>{clip.condition}{hint if clip.condition == CONDITIONS[1] else ''}</span></div>"
        )
        self.clip.remove_class("al-waiting")

    def _answered(self) -> None:
        """Allow checking once all questions have an answer."""
        answers = [question.value for question in (self.robust, *self.uses.values())]
        self.check.disabled = None in answers

    def submit(self) -> None:
        """Record the answers to this clip, and say what was right."""
        clip = self.clips[len(self.answers)]
        sides = dict(zip(SIDES, clip.kinds, strict=True))
        side_of = {kind: side for side, kind in sides.items()}
        uses = {sides[side]: self.uses[side].value for side in SIDES}
        robust = sides.get(self.robust.value, UNSURE)
        self.answers.append(Answer(clip.condition, robust, uses["overfit"], uses["control"]))
        right = [robust == "control", *(uses[kind] == USES[kind] for kind in KINDS)]
        self.feedback.value = (
            f'<div class="al-feedback"><b>{sum(right)} of 3 right.</b> Agent '
            f"<b>{side_of['overfit']}</b> uses the bars and is lost when they are random. Agent "
            f"<b>{side_of['control']}</b> uses the game, and is more robust.</div>"
        )
        for question in (self.robust, *self.uses.values(), self.check):
            question.disabled = True
        self.check.layout.display, self.next.layout.display = "none", ""
        last = len(self.answers) == len(self.clips)
        self.next.description = "See the results" if last else "Next clip"

    def _finish(self) -> None:
        person = self.person.value.strip()
        counted = save_answers(self.folder, person or self.page.model_id, self.answers)
        self.again.disabled = False
        people = read_answers(self.folder)
        self.heading.value = (
            '<div class="al-title"><h1>What you found</h1></div>'
            + results_html(self.answers, people)
            + (
                ""
                if counted
                else "<p>You had answered before: this round is not counted again.</p>"
            )
        )
        self.page.children = (style(), self.heading, box("al-choose", self.again))

    def _repr_mimebundle_(self, **kwargs):
        return self.page._repr_mimebundle_(**kwargs)


def _choice(options: Sequence[str]) -> widgets.ToggleButtons:
    """Make the buttons of a question, none of them pressed."""
    return widgets.ToggleButtons(options=options, value=None)


def _words(html: str) -> widgets.HTML:
    return widgets.HTML(f"<div>{html}</div>")


def quiz(game: str = "pong", num_clips: int = 3, seed: int = 0) -> Quiz | widgets.HTML:
    """Make the quiz of a game, or say which agents it lacks.

    Args:
        game: key of `games.GAMES`.
        num_clips: per condition.
        seed: of the episodes, the moments and the sides.
    """
    if missing := missing_agents(game):
        return widgets.HTML(
            f"The quiz on {escape(game)} needs the agents {' and '.join(missing)}, which are not "
            f"in data/agents. They are made by imitation of {escape(game)}-strong."
        )
    agents = {kind: load_agent(f"{game}-{kind}") for kind in KINDS}
    return Quiz(agents, num_clips, seed, BUILD / "quiz" / game)
