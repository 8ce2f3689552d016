"""The widgets of the explorer's page and their layout; `page` gives them their functions."""

from pathlib import Path

import ipywidgets as widgets

from atarilens.apps.explorer.decision import agents_of, replays_of, trials_of
from atarilens.apps.explorer.picture import Picture
from atarilens.apps.explorer.whatif import WhatIf
from atarilens.games.objects import GAMES
from atarilens.games.objects import game as game_facts

NEW = "play a new one"
PLAYER = "the player"
NOBODY = "nothing"
REPEATS = 8  # maps with jittered masks, of which mean and spread are shown
INSIDE = ["what it reads", "last convolution", "memory", "spread of the maps"]
TICK = 125  # ms per step while the episode plays
HEADS = [("actor and critic", "both"), ("actor", "actor"), ("critic", "critic")]
WAYS = [("sampled", False), ("greedy", True)]  # of choosing actions
METHODS = [("Perturbation", "perturbation"), ("Jacobian", "jacobian")]
OWN_METHOD = ("Own attention", "attention")  # of networks that have one
TRIAL = "gaze: "  # before the name of a trial among the episodes


class Panels:
    """Every widget of the page, `self.page`, laid out by `picture.css`.

    Args:
        game: key of `games.GAMES`.
        agents: names to choose from.
        agent: the one chosen.
        seed: of the episode.
        steps: length of a new episode.
        greedy: take the likeliest action.
        replay: name of the chosen replay, or None.
        gaze: folder of trials of gaze, in the layout of Atari-HEAD; it need not exist.
    """

    def __init__(self, game, agents, agent, seed, steps, greedy, replay, gaze):
        self.gaze_folder = Path(gaze)
        shown = GAMES | {game: game_facts(game)}  # a game without a record can be explored, too
        games = [(facts.title, name) for name, facts in shown.items()]
        self.game = dropdown("Game", games, game)
        self.agent = dropdown("Agent", agents, agent)
        self.episode = dropdown("Episode", self.episodes(game), replay or NEW)
        self.seed = number("Seed", seed, 0, 2**31 - 1)
        self.steps = number("Steps", steps, 10, 3000)
        self.actions = dropdown("Actions", WAYS, greedy)
        self.another = widgets.Button(description="Another episode", button_style="primary")
        self.own_file = widgets.FileUpload(
            description="Open file",
            multiple=True,
            tooltip="a checkpoint of the chosen game, up to 10 MB, and its .yml if it has one",
        )
        self.heading, self.status, self.log = widgets.HTML(), widgets.HTML(), widgets.Output()
        choices = (self.game, self.agent, self.episode, self.seed, self.steps, self.actions)
        self.what_if = WhatIf()
        cards = self._screen(), self._seen(), self._knobs(), self._curves(), self.what_if.card
        self.page = box(
            "atarilens",
            box("al-head", self.heading, self.status),
            self.log,
            box("al-choose", *choices, self.own_file, self.another),
            box("al-body", *cards),
        )

    def episodes(self, game: str) -> list[str]:
        """Return the episodes of a game to choose from."""
        trials = trials_of(game, self.gaze_folder)
        return [NEW, *replays_of(game), *(f"{TRIAL}{name}" for name in trials)]

    def _screen(self) -> widgets.Box:
        self.screen = Picture(label="game screen with saliency")
        self.screen_note = widgets.HTML()
        self.play = widgets.Play(interval=TICK, max=0, show_repeat=False)
        self.back = widgets.Button(icon="step-backward", tooltip="one step back")
        self.forward = widgets.Button(icon="step-forward", tooltip="one step forward")
        self.step = widgets.IntSlider(max=0, description="Step")
        widgets.jslink((self.play, "value"), (self.step, "value"))
        self.save_view = widgets.Button(description="View as PNG", icon="camera")
        self.save_clip = widgets.Button(description="Clip of", icon="film")
        self.clip_steps = widgets.BoundedIntText(60, min=2, max=600)
        self.clip_kind = widgets.Dropdown(options=["GIF", "MP4"])
        clip = self.save_clip, self.clip_steps, widgets.Label("steps as"), self.clip_kind
        self.beside = Picture(label="the same screen with the saliency of another agent")
        self.pair = box("al-pair", self.screen)
        return box(
            "al-card al-screen",
            self.pair,
            self.screen_note,
            box("al-transport", self.play, self.back, self.forward, self.step),
            box("al-saving", self.save_view, *clip),
        )

    def _seen(self) -> widgets.Box:
        self.observed = Picture(label="what the network reads")
        self.observed_note, self.bars = widgets.HTML(), widgets.HTML()
        self.inside = dropdown("Network", INSIDE, INSIDE[0])
        parts = self.inside, self.observed, self.observed_note
        return box("al-card al-seen", *parts, title("Action probabilities"), self.bars)

    def _knobs(self) -> widgets.Box:
        self.method = widgets.ToggleButtons(
            options=METHODS,
            tooltips=[
                "blur each region and measure the change",
                "the gradient at every pixel",
                "what the network itself weighs more strongly",
            ],
        )
        self.network = dropdown("Maps of", [PLAYER], PLAYER)
        self.compared = dropdown("Beside", [NOBODY], NOBODY)
        self.learning = widgets.SelectionSlider(options=[("–", PLAYER)], description="Training")
        self.heads = dropdown("Heads", HEADS, "both")
        self.stride = widgets.IntSlider(5, min=2, max=10, description="Stride")
        self.radius = widgets.FloatSlider(5, min=1, max=12, step=0.5, description="Radius")
        self.radius.readout_format = ".1f"
        self.gain = widgets.FloatLogSlider(1, min=-1.5, max=1.5, step=0.1, description="Gain")
        self.gain.readout_format = ".2f"
        self.objects = widgets.Checkbox(False, description="Show objects", indent=False)
        self.repeats = widgets.Checkbox(
            False, description=f"Mean of {REPEATS} jittered maps", indent=False
        )
        self.probed = widgets.HTML()
        self.forget = widgets.Button(description="Remove the blur", disabled=True)
        knobs = self.method, self.network, self.learning, self.compared, self.heads
        knobs += self.stride, self.radius, self.gain
        knobs += (box("al-row", self.objects, self.repeats),)
        heading = title("Whose maps, and how")
        return box(
            "al-card al-knobs", heading, *knobs, title("One pixel"), self.probed, self.forget
        )

    def _curves(self) -> widgets.Box:
        self.value_curve = Picture(label="value over the episode", drag=True)
        self.attention_curve = Picture(label="attention over the episode", drag=True)
        self.value_legend, self.attention_legend = widgets.HTML(), widgets.HTML()
        for curve in (self.value_curve, self.attention_curve):
            curve.add_class("al-plot")
        value = self.value_legend, self.value_curve
        return box("al-card al-curves", *value, self.attention_legend, self.attention_curve)


def agent_names(game: str, own: dict) -> list[str]:
    """Return the names of a game's agents: the user's own (name -> Agent), then the stored ones."""
    mine = [name for name, agent in own.items() if agent.game == game]
    return [*mine, *(name for name in agents_of(game) if name not in mine)]


def dropdown(label: str, options, value) -> widgets.Dropdown:
    """Make a labelled dropdown."""
    return widgets.Dropdown(options=options, value=value, description=label)


def number(label: str, value: int, low: int, high: int) -> widgets.BoundedIntText:
    """Make a field for a whole number, which takes effect on Enter or on leaving the field."""
    return widgets.BoundedIntText(value, min=low, max=high, description=label)


def box(classes: str, *children) -> widgets.Box:
    """Put widgets into a box of CSS classes."""
    made = widgets.Box(children)
    for name in classes.split():
        made.add_class(name)
    return made


def title(text: str) -> widgets.HTML:
    """Make the heading of a panel."""
    return widgets.HTML(f'<div class="al-heading">{text}</div>')
