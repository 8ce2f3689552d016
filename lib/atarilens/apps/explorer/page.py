"""The explorer in a notebook or, through Voilà, as a web page."""

import asyncio
import os
import tempfile
import time
from html import escape
from pathlib import Path

import numpy as np

from atarilens.agents import Agent, list_agents, load_agent
from atarilens.apps.activations import memory_channels
from atarilens.apps.explorer import drawing, export
from atarilens.apps.explorer.decision import (
    Explanation,
    Knobs,
    Probe,
    agents_of,
    checkpoints,
    first_step,
)
from atarilens.apps.explorer.exploration import Exploration
from atarilens.apps.explorer.panels import (
    INSIDE,
    METHODS,
    NEW,
    NOBODY,
    OWN_METHOD,
    PLAYER,
    REPEATS,
    TRIAL,
    WAYS,
    Panels,
    agent_names,
)
from atarilens.games.objects import game as game_facts
from atarilens.paths import BUILD, ROOT
from atarilens.play.gaze_trials import GazeTrial, gaze_folder, load_gaze_trial, watched
from atarilens.play.rollouts import replay, rollout
from atarilens.saliency.calling import one_torch_thread

IDLE = 0.4  # s without a change after which attention is computed in the background
RESOLUTION = 2  # steps between the points of the attention curves
WRITTEN = BUILD / "explorer"
MOVES = {"ArrowLeft": -1, "ArrowDown": -1, "ArrowRight": 1, "ArrowUp": 1}
MOVES |= {"PageDown": -10, "PageUp": 10, "Home": -(10**6), "End": 10**6}
SHIFTS = {"ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1)}


class Explorer(Panels):
    """The page. Its widgets are attributes, see `Panels`.

    Args:
        agent: name of the agent that plays first, or a checkpoint's path, or an `Agent` of your
            own; by default the first strong agent that is here.
        game: of a checkpoint that does not say which game it plays.
        seed: of its episode.
        steps: length of an episode that is played anew.
        greedy: take the likeliest action, as an agent with Q-values always does; otherwise actions
            are drawn from the policy.
        replay: name of a stored replay to show first, or None.
        gaze: folder of trials of gaze in the layout of Atari-HEAD, which join the episodes to
            choose from; by default the one that `make gaze-data` fetches into.

    Attributes:
        exploration: the episode, and the maps that were computed for it.
        centre: (row, column) of the probed pixel of the observation, or None.
        trial: of gaze that is shown, or None.
    """

    def __init__(
        self,
        agent: str | Agent = "",
        seed: int = 0,
        steps: int = 300,
        greedy: bool = False,
        replay: str | None = None,
        game: str | None = None,
        gaze: str | Path = "",
    ):
        first = agent if isinstance(agent, Agent) else open_agent(agent or default_agent(), game)
        self._own = {} if agent in ("", first.name) else {first.name: first}
        names = agent_names(first.game, self._own)
        folder = gaze or gaze_folder()
        super().__init__(first.game, names, first.name, seed, steps, greedy, replay, folder)
        self.trial: GazeTrial | None = None
        self.exploration: Exploration | None = None
        self.centre: tuple[int, int] | None = None
        self._quiet = False  # while widgets change together
        self._changed_at = 0.0
        self._task: asyncio.Task | None = None
        self._connect()
        # The cell that makes the page must not write into `log`: nbclient, which runs it for
        # Voilà, would then write to the kernel in between, and now and then never notice that the
        # cell has ended (about one page of 75 loaded for ever).
        self._guarded(self._load)

    def _connect(self) -> None:
        self.game.observe(self._on_game, "value")
        self.agent.observe(self._on_agent, "value")
        for part in (self.episode, self.seed, self.steps, self.actions):
            part.observe(lambda _: self.load(), "value")
        self.another.on_click(lambda _: self.play_another())
        self.own_file.observe(self._on_file, "value")
        self.network.observe(self._on_network, "value")
        self.compared.observe(self._on_network, "value")
        self.learning.observe(self._on_learning, "value")
        knobs = self.method, self.heads, self.stride, self.radius, self.gain, self.objects
        knobs += self.repeats, self.inside
        for part in (self.step, *knobs):
            part.observe(lambda _: self.draw(), "value")
        self.back.on_click(lambda _: self.go(self.step.value - 1))
        self.forward.on_click(lambda _: self.go(self.step.value + 1))
        self.forget.on_click(lambda _: self.probe(None))
        pictures = self.screen, self.beside, self.observed, self.value_curve, self.attention_curve
        for part in pictures:
            part.observe(self._on_picture, "event")
        self.save_view.on_click(lambda _: self._guarded(self.write_view))
        self.save_clip.on_click(lambda _: self._guarded(self.write_clip))

    # -- events of the widgets

    def _on_game(self, change) -> None:
        if self._quiet:
            return
        self._quiet = True
        self.agent.options = agent_names(change["new"], self._own)
        self.episode.options = self.episodes(change["new"])
        self._quiet = False
        self.load()

    def _on_agent(self, change) -> None:
        if not self._quiet:
            self._quiet, self.episode.value = True, NEW
            self._quiet = False
            self.load()

    def _on_file(self, change) -> None:
        if change["new"]:
            self._guarded(
                self.open_files, {file["name"]: bytes(file["content"]) for file in change["new"]}
            )
            self.own_file.value = ()  # the same file can be opened again

    def _on_network(self, change) -> None:
        if self._quiet:
            return
        self._say("")
        if change["new"] not in (PLAYER, NOBODY):
            try:
                self.exploration.seen_by(change["new"])
            except (ValueError, OSError) as error:  # its weights are not here: keep the old choice
                self._say(str(error), error=True)
                self._quiet, change["owner"].value = True, change["old"]
        self._quiet = True
        if self.onlooker in [name for _, name in self.learning.options]:
            self.learning.value = self.onlooker
        self._quiet = False
        self.draw()

    def _on_learning(self, change) -> None:
        if not self._quiet:
            self.network.value = PLAYER if change["new"] == self.player else change["new"]

    def _on_picture(self, change) -> None:
        event, picture = change["new"], change["owner"]
        if event["kind"] == "key":
            self._on_key(event)
        elif picture in (self.value_curve, self.attention_curve):
            self.go(round(event["x"] * self.step.max))
        elif picture is not self.observed or self.inside.value in (INSIDE[0], INSIDE[3]):
            agent, seen = self.exploration.seen_by(self.onlooker)
            region = None if picture is self.observed else agent.region
            shape = seen.observations.shape[-2:]
            if picture is self.screen:
                self.what_if.choose(event["y"] * 210, event["x"] * 160)
            self.probe(drawing.pixel_at(event["x"], event["y"], region, shape))

    def _on_key(self, event) -> None:
        key = event["key"]
        if key == " ":
            self.play.playing = not self.play.playing
        elif key == "Escape":
            self.probe(None)
        elif event["shift"] and key in SHIFTS and self.centre:
            self.probe(tuple(np.add(self.centre, SHIFTS[key]).tolist()))
        else:
            self.go(self.step.value + MOVES[key])

    # -- for callers

    @property
    def player(self) -> str:
        """Name of the agent that played."""
        return self.exploration.player.name

    @property
    def onlooker(self) -> str:
        """Name of the agent whose maps are shown."""
        return self.player if self.network.value == PLAYER else self.network.value

    @property
    def knobs(self) -> Knobs:
        """Settings of the maps, as the widgets have them."""
        parts = self.method, self.stride, self.radius, self.gain, self.heads
        return Knobs(*(part.value for part in parts), REPEATS if self.repeats.value else 1)

    def open_files(self, files: dict[str, bytes]) -> None:
        """Load an agent from a checkpoint, and let it play.

        Args:
            files: name -> content: the checkpoint and, if it has one, its `.yml`.

        Raises:
            ValueError: if the files hold no agent of the chosen game; see `load_agent`.
        """
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / Path(name).name for name in files]
            for path, content in zip(paths, files.values(), strict=True):
                path.write_bytes(content)
            checkpoints = [path for path in paths if path.suffix != ".yml"]
            if len(checkpoints) != 1:
                names = ", ".join(path.name for path in paths)
                raise ValueError(f"expected one checkpoint and perhaps its .yml, received {names}")
            agent = load_agent(checkpoints[0], self.game.value)
        self._own[agent.name] = agent
        self._quiet = True
        self.agent.options = agent_names(agent.game, self._own)
        self.agent.value, self.episode.value = agent.name, NEW
        self._quiet = False
        self.load()

    def load(self) -> None:
        """Play an episode with the chosen agent, or re-create the chosen replay."""
        if not self._quiet:
            with self.log:  # shows progress bars, and the traceback of an unexpected error
                self._guarded(self._load)
                self.log.clear_output()

    def play_another(self) -> None:
        """Play the episode of the next seed."""
        self._quiet, self.episode.value = True, NEW
        self._quiet = False
        self.seed.value += 1

    def _load(self) -> None:
        self.play.playing, trial = False, None
        if self.episode.value == NEW:
            name = self.agent.value
            self._say(f"{name} is playing …")
            agent = self._own.get(name) or load_agent(name)
            settings = {"greedy": self.actions.value or agent.network.q_values}
            with one_torch_thread():  # with one screen at a time, more threads are slower
                trajectory = rollout(agent, self.seed.value, self.steps.value, **settings)
        elif self.episode.value.startswith(TRIAL):
            name = self.episode.value.removeprefix(TRIAL)
            self._say(f"reading trial {name} …")
            agent = self._own.get(self.agent.value) or load_agent(self.agent.value)
            with one_torch_thread():
                folder, steps = self.gaze_folder, self.steps.value
                trial = load_gaze_trial(name, agent.game, folder, max_steps=steps)
                trajectory = watched(trial, agent)
        else:
            self._say(f"replaying {self.episode.value} …")
            with one_torch_thread():
                trajectory = replay(self.episode.value)
            agent = load_agent(trajectory.origin["agent"])
        self._quiet = True
        try:
            self.exploration = Exploration(agent, trajectory, self._own)
            self.centre, self.trial = None, trial
            self.agent.value = agent.name
            ways = WAYS[1:] if agent.network.q_values else WAYS
            if len(self.actions.options) != len(ways):
                self.actions.options = ways
            self.step.value = self.play.value = 0
            self.step.max = self.play.max = len(trajectory) - 1
            self.step.value = self.play.value = first_step(trajectory)
            others = [name for name in self.agent.options if name != agent.name]
            self.network.options, self.compared.options = [PLAYER, *others], [NOBODY, *others]
            self.network.value, self.compared.value = PLAYER, NOBODY
            stages = {} if agent.name in self._own else checkpoints(agent.name)
            self.learning.disabled = len(stages) < 2
            if self.learning.disabled:
                self.learning.options = [("no checkpoints", PLAYER)]
            else:
                named = [(f"{drawing.brief(n)} steps", name) for name, n in stages.items()]
                self.learning.options = named
                self.learning.value = agent.name if agent.name in stages else named[-1][1]
        finally:
            self._quiet = False
        self._say("")
        self.draw()

    def go(self, step: int) -> None:
        """Show another step."""
        self.step.value = int(np.clip(step, 0, self.step.max))

    def probe(self, centre: tuple[int, int] | None) -> None:
        """Perturb one pixel (row, column) of the observation, or none."""
        shape = self.exploration.seen_by(self.onlooker)[1].observations.shape[-2:]
        self.centre = None if centre is None else tuple(np.clip(centre, 0, np.subtract(shape, 1)))
        self.draw()

    def write_view(self) -> Path:
        """Write this view as a figure (PNG, JSON) into `build/explorer`."""
        shown = self.exploration, self.onlooker, self.step.value, self.knobs
        return self._written(export.write_view(*shown, WRITTEN, self.centre))

    def write_clip(self) -> Path:
        """Write the next steps with their maps as a GIF or MP4 into `build/explorer`."""
        first = self.step.value
        steps = range(first, min(first + self.clip_steps.value, len(self.exploration)))
        self._say(f"writing a clip of {len(steps)} steps …")
        stem = export.stem(self.exploration, self.onlooker, first)
        path = WRITTEN / f"{stem}.{self.clip_kind.value.lower()}"
        onlookers = [self.onlooker, *self._compared()]
        return self._written(
            export.write_clip(self.exploration, onlookers, steps, self.knobs, path)
        )

    def _compared(self) -> list[str]:
        """Return the name of the agent whose maps are shown beside, if there is one."""
        return [self.compared.value] if self.compared.value not in (NOBODY, self.onlooker) else []

    def _written(self, path: Path) -> Path:
        self._say(f"written: {path.relative_to(BUILD.parent)}")
        return path

    # -- drawing

    def draw(self) -> None:
        """Bring every panel up to date."""
        if self._quiet or self.exploration is None:
            return
        self._changed_at = time.monotonic()
        self._guarded(self._draw)
        self._fill_in_when_idle()

    def _draw(self) -> None:
        step, onlooker = self.step.value, self.onlooker
        agent, seen = self.exploration.seen_by(onlooker)
        self._offer_methods(agent)
        knobs = self.knobs
        explanation = self.exploration.explain(onlooker, step, knobs)
        probe = self.centre and self.exploration.probe(onlooker, step, self.centre, knobs)
        shape = height, width = seen.observations.shape[-2:]
        marks = explanation.boxes if self.objects.value else {}, self.centre, knobs.radius
        self.screen.image = drawing.png(explanation.image)
        self.screen.drawing = drawing.marks_svg((210, 160), *marks, agent.region, shape)
        if self.trial:
            points = self.trial.points(step)
            self.screen.drawing = drawing.with_gaze(self.screen.drawing, points)
        self._draw_beside(step, knobs, marks)
        self.observed.drawing = drawing.marks_svg(shape, *marks, (0, height, 0, width), shape)
        self._draw_inside(explanation, probe, step)
        self.heading.value = drawing.heading_html(self.exploration, step, explanation.action)
        gain = self.exploration.gain(onlooker, knobs)
        beside = self._compared()
        note = drawing.screen_note_html(self.player, [onlooker, *beside], gain, knobs)
        self.screen_note.value = note
        self.bars.value = drawing.bars_html(explanation, probe)
        self.probed.value = drawing.probe_html(probe, self.centre, agent.action_meanings)
        self.forget.disabled = self.centre is None
        self.stride.disabled = self.radius.disabled = knobs.method != "perturbation"
        self.repeats.disabled = knobs.method != "perturbation"
        self.radius.disabled &= self.centre is None
        self._draw_curves(step, knobs)
        self.what_if.show(agent, seen, step, explanation.maps.actor)

    def _offer_methods(self, agent: Agent) -> None:
        """Offer the network's own attention if it has one, and keep the choice if it still can."""
        offered = [*METHODS, *([OWN_METHOD] if hasattr(agent.network, "attention") else [])]
        if list(self.method.options) != offered:
            chosen, self._quiet = self.method.value, True
            self.method.options = offered
            self.method.value = chosen if chosen in dict(map(reversed, offered)) else METHODS[0][1]
            self._quiet = False

    def _draw_beside(self, step: int, knobs: Knobs, marks: tuple) -> None:
        """Draw the maps of another agent beside those of the onlooker."""
        shown = [self.screen]
        for name in self._compared():
            shown.append(self.beside)
            agent, seen = self.exploration.seen_by(name)
            self.beside.image = drawing.png(self.exploration.explain(name, step, knobs).image)
            shape = seen.observations.shape[-2:]
            self.beside.drawing = drawing.marks_svg((210, 160), {}, *marks[1:], agent.region, shape)
        if len(shown) != len(self.pair.children):
            self.pair.children = shown
            (self.page.add_class if shown[1:] else self.page.remove_class)("al-two")

    def _draw_inside(self, explanation: Explanation, probe: Probe | None, step: int) -> None:
        """Draw what is inside the network: its input, activations, or the spread of its maps."""
        kind = self.inside.value
        if kind == INSIDE[3]:
            gain = self.exploration.gain(self.onlooker, self.knobs)
            image, note = drawing.spread_image(explanation.maps, gain, self.knobs)
        elif kind == INSIDE[0]:
            image = probe.observation[-1] if probe else explanation.observation
            note = drawing.observed_note(self.centre)
        else:
            self.observed.drawing = ""
            found = self.exploration.activations(self.onlooker, step)
            states = None if found.memory is None else memory_channels(found.memory)
            channels = found.channels if kind == INSIDE[1] else states
            image, note = drawing.activations_image(channels, kind)
        self.observed.image = drawing.png(image)
        self.observed_note.value = f'<div class="al-note">{note}</div>'

    def _draw_curves(self, step: int, knobs: Knobs) -> None:
        exploration, onlooker = self.exploration, self.onlooker
        values = drawing.value_curves(exploration, onlooker)
        self.value_curve.drawing = drawing.curve_svg(values, exploration.trajectory)
        self.value_legend.value = drawing.legend_html(
            "Value", values, step, "marks below: points won and lost"
        )
        attention = drawing.attention_curves(exploration, onlooker, knobs)
        svg = drawing.curve_svg(attention, exploration.trajectory, zero=True)
        self.attention_curve.drawing = svg
        head = "critic" if knobs.heads == "critic" else "actor"
        self.attention_legend.value = drawing.legend_html(
            f"Attention of the {head}", attention, step, "standardised; 0 is chance"
        )
        cursor = step / max(len(exploration) - 1, 1)
        self.value_curve.cursor = self.attention_curve.cursor = cursor

    def _fill_in_when_idle(self) -> None:
        """Compute the attention curves in the background, if there is an event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._fill_in())

    async def _fill_in(self) -> None:
        drawn = time.monotonic()
        while True:
            await asyncio.sleep(0.005)  # the events of the widgets come first
            if time.monotonic() - self._changed_at < IDLE:
                continue
            shown = self.onlooker, self.knobs
            step = self.exploration.next_unknown(*shown, RESOLUTION)
            if step is not None:
                self.exploration.explain(shown[0], step, shown[1])
            if step is None or time.monotonic() - drawn > 1:
                self._draw_curves(self.step.value, shown[1])
                drawn = time.monotonic()
            if step is None:
                return

    def _say(self, text: str, error: bool = False) -> None:
        kind = "al-error" if error else "al-status"
        self.status.value = f'<div class="{kind}">{escape(text)}</div>' if text else ""

    def _guarded(self, work, *arguments) -> None:
        """Do some work; show the message of an error that a user's choice can cause."""
        try:
            work(*arguments)
        except (ValueError, OSError) as error:
            self._say(str(error), error=True)

    def _repr_mimebundle_(self, **kwargs):
        return self.page._repr_mimebundle_(**kwargs)


def default_agent(game: str | None = None) -> str:
    """Return the strong agent of a game, else its first one; by default of the first strong one."""
    games = [game_facts(game).name] if game else ["breakout", "pong", "spaceinvaders"]
    strong = [f"{name}-strong" for name in games]
    found = next((name for name in strong if name in list_agents()), None)
    return found or agents_of(game or "pong")[0]


def open_agent(name_or_path: str, game: str | None) -> Agent:
    """Load an agent by name, or from a checkpoint; a path may start from the repository's root."""
    from_root = ROOT / name_or_path
    if not Path(name_or_path).exists() and from_root.is_file():
        return load_agent(from_root, game)
    return load_agent(name_or_path, game)


def explore(agent: str | Agent = "", **settings) -> Explorer:
    """Make the explorer; a notebook shows it as the last expression of a cell. See `Explorer`.

    Without an agent, the environment variables ATARILENS_AGENT (a name, or a checkpoint's path) and
    ATARILENS_GAME choose it, as `make app AGENT= GAME=` sets them. If that agent cannot be loaded,
    the page says why, and shows the default agent.
    """
    if agent:
        return Explorer(agent, **settings)
    game = os.environ.get("ATARILENS_GAME") or None
    try:
        asked = os.environ.get("ATARILENS_AGENT") or default_agent(game)
        return Explorer(asked, game=game, **settings)
    except (ValueError, OSError) as error:
        explorer = Explorer(**settings)
        explorer._say(str(error), error=True)
        return explorer
