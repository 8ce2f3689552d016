"""What if an object of the game were elsewhere, or gone? Two futures, and what the map promised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets as widgets
import numpy as np

from atarilens.agents import Agent
from atarilens.apps.explorer import drawing
from atarilens.apps.explorer.picture import Picture
from atarilens.games.objects import game, object_boxes, to_observation
from atarilens.games.record import Change
from atarilens.measures.faithfulness import saliency_on
from atarilens.play.interventions import effects, intervene
from atarilens.play.trajectories import Trajectory
from atarilens.saliency.calling import one_torch_thread

HORIZON = 30  # agent steps that both games are played on: 2 s
NEAR = 4  # px between a click and the object that it chooses
NO_OBJECTS = ("tunnel",)  # kinds that are the absence of something
DIRECTIONS = {"x": ("left", "right"), "y": ("up", "down")}


@dataclass(frozen=True)
class Futures:
    """One decision in the game as it was and in the changed game, and what was played then.

    Attributes:
        name: the change, as `play.intervene` spells it.
        words: the change in words.
        screens: `[2, 1 + H, 210, 160, 3]` uint8, as it was and changed.
        actions: two lists of H names: what the agent did after each screen; "" after the end.
        probabilities: two times action -> probability, at the decision.
        values: two values, or None.
        tv: how far the policy moved: total variation distance, 0 to 1.
        points: two sums of the rewards in the H steps.
        promised: object -> share of the actor's map on it, the changed one among them.
        object: key of the changed one in `promised`.
    """

    name: str
    words: str
    screens: np.ndarray
    actions: list[list[str]]
    probabilities: list[dict[str, float]]
    values: tuple[float, float] | None
    tv: float
    points: tuple[float, float]
    promised: dict[str, float]
    object: str


def deeds(game_name: str) -> dict[str, dict[str, str]]:
    """Return object -> what can be done with it, in words -> the change of the game's record."""
    found: dict[str, dict[str, str]] = {}
    for name, change in game(game_name).changes.items():
        if change.kind == "move":
            words = {f"move {way}": name for way in DIRECTIONS[change.axis]}
        elif change.kind == "velocity":
            words = {f"turn its flight around: {name[-1]}": name}
        elif change.kind == "remove":
            words = {"remove all" if _all_of_many(name, change) else "remove": name}
        else:
            continue
        found.setdefault(change.object, {}).update(words)
    return found


def _all_of_many(name: str, change: Change) -> bool:
    return change.units is None and change.object.endswith(("s", "wall"))


def spelling(game_name: str, name: str, words: str, distance: int, unit: Sequence[int]) -> str:
    """Spell a change as `play.intervene` reads it, such as `ball_x-8` or `brick_gone:2,7`.

    Args:
        game_name: of the game.
        name: of the change in the game's record.
        words: what is done, of `deeds`: the last word is a direction.
        distance: px, for moves.
        unit: which one of many objects.
    """
    change = game(game_name).changes[name]
    if change.kind == "move":
        sign = -1 if words.endswith(("left", "up")) else 1
        return f"{name}{sign * distance:+d}"
    return name if change.units is None else f"{name}:{','.join(map(str, unit))}"


def object_at(game_name: str, ram: np.ndarray, row: float, column: float) -> tuple[str, int] | None:
    """Return the object under a point of the screen, and its number among its kind; None if none.

    Args:
        game_name: of the game.
        ram: `[128]` uint8.
        row: px of the screen.
        column: likewise.
    """
    nearest, found = NEAR, None
    for kind, boxes in object_boxes(game_name, ram).items():
        for index, (top, bottom, left, right) in enumerate(boxes):
            away = max(top - row, row - bottom, left - column, column - right, 0)
            if kind not in NO_OBJECTS and away < nearest:
                nearest, found = away, (kind, index)
    return found


def unit_of(game_name: str, name: str, ram: np.ndarray, index: int) -> tuple[int, ...]:
    """Return the unit of a change that is about object number `index` of its kind; () if none."""
    change = game(game_name).changes[name]
    if change.units is None:
        return ()
    units, boxes = change.units(ram), object_boxes(game_name, ram)[change.object]
    if change.unit_box is not None and index < len(boxes):
        same = [unit for unit in units if np.allclose(change.unit_box(ram, unit), boxes[index])]
        units = same or units
    elif index < len(units):
        return tuple(units[index])
    return tuple(units[0]) if units else ()


def ask(
    agent: Agent, trajectory: Trajectory, step: int, name: str, saliency: np.ndarray
) -> Futures:
    """Change the game just before a decision, and let the agent play on in both games.

    An agent that stacks screens sees the change in all of them.

    Args:
        agent: who decides.
        trajectory: with this agent's memory.
        step: of the decision.
        name: of the change, as `play.intervene` spells it.
        saliency: `[H, W]`, the actor's map of this decision, which promises what matters.

    Raises:
        ValueError: saying why the change cannot be made at this step.
    """
    history = agent.preprocessing.screens - 1
    with one_torch_thread():
        (both,) = intervene(
            trajectory, agent, [step], [name], history=history, horizon=HORIZON, film=True
        )
    if name in both.skipped:
        raise ValueError(f"not possible at this step: {both.skipped[name]}")
    named, meanings, future = both.named[0], list(both.action_meanings), both.future
    screens = np.concatenate([both.screens[:, None], future.screens], axis=1)
    logits = both.action_logits.astype(np.float64)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    shares = weights / weights.sum(1, keepdims=True)
    ram = trajectory.ram[step]
    boxes = {k: v for k, v in object_boxes(agent.game, ram).items() if k not in NO_OBJECTS}
    thing = named.change.object
    if named.unit and named.change.unit_box is not None:
        thing = f"{thing} {', '.join(map(str, named.unit))}"
        boxes[thing] = np.array([named.change.unit_box(ram, named.unit)], np.float64)
    shape = trajectory.observations.shape[-2:]
    promised = saliency_on(saliency, to_observation(boxes, agent.region, shape))
    return Futures(
        name=name,
        words=named.words,
        screens=screens,
        actions=[["" if a < 0 else meanings[a] for a in row] for row in future.actions],
        probabilities=[dict(zip(meanings, row.tolist(), strict=True)) for row in shares],
        values=None if both.values is None else tuple(both.values.tolist()),
        tv=float(effects([both])["tv"][0]),
        points=tuple(future.rewards.sum(1).tolist()),
        promised=promised,
        object=thing,
    )


def answer_html(found: Futures) -> str:
    """Set the map's promise beside the measured effect."""
    before, after = found.probabilities
    was, now = (max(each, key=each.get) for each in found.probabilities)
    own = found.promised.get(found.object, np.nan)
    others = [share for share in found.promised.values() if np.isfinite(share)]
    promise = "its map is zero, or the object lies outside of what it reads"
    if np.isfinite(own):
        place = 1 + sum(share > own for share in others)
        promise = f"<b>{own:.0%}</b> of the actor's map lies on the {escape(found.object)}"
        promise += f": number {place} of {len(others)} objects"
    decision = f"{was} stays" if was == now else f"{was} becomes <b>{now}</b>"
    rows = [
        ("The map promises", promise),
        ("Measured", f"the policy moves by <b>{found.tv:.0%}</b>; likeliest: {decision}"),
    ]
    if found.values is not None:
        rows.append(("Value", f"{found.values[0]:.2f} → {found.values[1]:.2f}"))
    points = f"{found.points[0]:+g} as it was, <b>{found.points[1]:+g}</b> changed"
    rows.append((f"Points in {HORIZON} steps", points))
    cells = "".join(f"<tr><td>{head}</td><td>{words}</td></tr>" for head, words in rows)
    bars = drawing.shares_html(before, after)
    return f'<div class="al-answer"><table>{cells}</table>{bars}</div>'


class WhatIf:
    """The card: choose an object and what happens to it, then look at both futures.

    Attributes:
        card: the widget to lay out.
        futures: of the last question, or None.
    """

    def __init__(self):
        self.object = widgets.Dropdown(description="Object")
        self.deed = widgets.Dropdown(description="Change")
        self.distance = widgets.IntSlider(8, min=2, max=24, step=2, description="By, px")
        self.unit: int = 0
        self.start = widgets.Button(description="Play both games", button_style="primary")
        self.answer = widgets.HTML()
        self.was, self.now = (
            Picture(label=label) for label in ("the game as it was", "the changed game")
        )
        self.captions = widgets.HTML(), widgets.HTML()
        self.later = widgets.IntSlider(0, max=HORIZON, description="Later by")
        self.film = widgets.Play(interval=125, max=HORIZON, show_repeat=False)
        widgets.jslink((self.film, "value"), (self.later, "value"))
        self.hint = widgets.HTML()
        self.futures: Futures | None = None
        self._agent: Agent | None = None
        self._seen: tuple[Trajectory, int, Mapping] | None = None
        self.card = self._lay_out()
        self.object.observe(lambda _: self._choose_deeds(), "value")
        self.deed.observe(lambda _: self._enable(), "value")
        self.later.observe(lambda _: self._show(), "value")
        self.start.on_click(lambda _: self.play())

    def _lay_out(self) -> widgets.Box:
        asked = _box("al-ask", self.object, self.deed, self.distance, self.start, self.answer)
        games = [
            _box("al-future", caption, picture)
            for caption, picture in zip(self.captions, (self.was, self.now), strict=True)
        ]
        self._films = _box(
            "al-films", _box("al-pair", *games), _box("al-transport", self.film, self.later)
        )
        heading = widgets.HTML('<div class="al-heading">What if …</div>')
        return _box("al-card al-whatif", heading, self.hint, _box("al-both", asked, self._films))

    def show(self, agent: Agent, trajectory: Trajectory, step: int, saliency: np.ndarray) -> None:
        """Take another decision; what was asked about the last one is forgotten."""
        new_game = self._agent is None or self._agent.game != agent.game
        same = self._seen is not None and self._seen[:2] == (id(trajectory), step)
        self._agent, self._given = agent, (trajectory, step, saliency)
        if same and not new_game:
            return
        self._seen = (id(trajectory), step)
        if new_game:
            self.object.options = list(deeds(agent.game))
        known = bool(self.object.options)
        self.start.disabled = not known
        words = (
            "Click an object on the screen, or choose one. The game is changed, not the picture."
        )
        if not known:
            words = f"{game(agent.game).title} has no table of changes: nothing can be moved in it."
        self._hint(words)
        self._forget()

    def choose(self, row: float, column: float) -> bool:
        """Choose the object under a point of the screen, px; return whether there is one."""
        if self._agent is None or not self.object.options:
            return False
        trajectory, step, _ = self._given
        found = object_at(self._agent.game, trajectory.ram[step], row, column)
        if found is None or found[0] not in self.object.options:
            return False
        self.object.value, self.unit = found
        return True

    def play(self) -> None:
        """Answer the question as it stands."""
        self._forget()
        self._hint("Playing both games …")
        trajectory, step, saliency = self._given
        agent, words = self._agent, self.deed.value
        name = deeds(agent.game)[self.object.value][words]
        unit = unit_of(agent.game, name, trajectory.ram[step], self.unit)
        try:
            change = game(agent.game).changes[name]
            if change.units is not None and not unit:
                raise ValueError(f"not possible at this step: {change.object}: there is none")
            asked = spelling(agent.game, name, words, self.distance.value, unit)
            self.futures = ask(agent, trajectory, step, asked, saliency)
        except ValueError as error:
            self._hint(str(error), error=True)
            return
        self._hint(
            f"Both games have the same past and the same draws. Changed: {self.futures.words}."
        )
        self.answer.value = answer_html(self.futures)
        self._films.layout.display = ""
        self.later.value = self.film.value = 0
        self._show()

    def _forget(self) -> None:
        """Remove the answer to the last question."""
        self.futures, self.answer.value = None, ""
        self._films.layout.display = "none"

    def _hint(self, words: str, error: bool = False) -> None:
        kind = "al-error" if error else "al-note"
        self.hint.value = f'<div class="{kind}">{escape(words)}</div>'

    def _choose_deeds(self) -> None:
        if self.object.value is not None:
            self.unit = 0
            self.deed.options = list(deeds(self._agent.game)[self.object.value])
            self._enable()

    def _enable(self) -> None:
        self.distance.disabled = not (self.deed.value or "").startswith("move ")

    def _show(self) -> None:
        """Draw both games so many steps after the decision."""
        if self.futures is None:
            return
        later = self.later.value
        titles = "as it was", self.futures.words
        pictures = self.was, self.now
        for i, (picture, caption) in enumerate(zip(pictures, self.captions, strict=True)):
            done = self.futures.actions[i][later] if later < HORIZON else "the end"
            picture.image = drawing.png(self.futures.screens[i, later])
            words = f"<b>{escape(titles[i])}</b> · {done or 'the game is over'}"
            caption.value = f'<div class="al-note">{words}</div>'


def _box(classes: str, *children) -> widgets.Box:
    made = widgets.Box(children)
    for name in classes.split():
        made.add_class(name)
    return made
