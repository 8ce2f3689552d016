"""A page of playing clips of the zoo; a click on one opens its agent in the explorer."""

import base64
import io
from html import escape

import ipywidgets
import numpy as np
import pandas as pd
from PIL import Image

from atarilens.agents import zoo
from atarilens.apps.explorer.page import Explorer, explore
from atarilens.apps.explorer.picture import Picture
from atarilens.play.archive import zoo_rollout
from atarilens.views import gif, halved

EVERY = "all"
ADDRESS = ("algorithm", "game", "run", "tag")
FPS = 15  # agent steps per second, as the game runs


class ZooBrowser(ipywidgets.VBox):
    """Clips by algorithm, game, run and tag, and below them the explorer of the one clicked.

    Args:
        start: agent step at which the clips begin.
        length: agent steps of a clip.
        steps: agent steps that a clicked agent plays in the explorer.

    Attributes:
        choices: name of a column of `zoo.available` -> its dropdown.
        clips: name of an agent -> the picture that plays it; made when it is first shown.
        explorer: of the agent that was clicked last, or None.
        words: what the page says.
    """

    def __init__(self, start: int = 60, length: int = 90, steps: int = 300):
        self.start, self.length, self.steps = start, length, steps
        self.rows, self.clips = zoo.available(), {}
        self.explorer: Explorer | None = None
        self.choices = {
            column: ipywidgets.Dropdown(
                options=[EVERY, *sorted(self.rows[column].unique())],
                description=column,
                layout={"width": "210px"},
            )
            for column in ADDRESS
        }
        self.words = ipywidgets.HTML()
        self.grid = ipywidgets.Box(layout={"flex_flow": "row wrap"})
        self.opened = ipywidgets.VBox()
        for choice in self.choices.values():
            choice.observe(lambda _: self.show(), "value")
        choices = ipywidgets.HBox(list(self.choices.values()), layout={"flex_flow": "row wrap"})
        super().__init__([choices, self.words, self.grid, self.opened])
        self.show()

    @property
    def chosen(self) -> pd.DataFrame:
        """Return the rows of `zoo.available` that the dropdowns choose."""
        kept = np.ones(len(self.rows), bool)
        for column, choice in self.choices.items():
            if choice.value != EVERY:
                kept &= (self.rows[column] == choice.value).to_numpy()
        return self.rows[kept]

    def show(self) -> None:
        """Show the clips of the chosen agents, one after the other as they are made."""
        rows = self.chosen
        self.grid.children = ()
        for count, row in enumerate(rows.itertuples(index=False), 1):
            self.words.value = f"clip {count} of {len(rows)} …"
            self.grid.children += (self._place(row),)
        agents = "1 agent" if len(rows) == 1 else f"{len(rows)} agents"
        found = f"{agents}; click a clip to open its agent in the explorer"
        self.words.value = found if len(rows) else "the zoo has no such agent: choose another"

    def open_agent(self, algorithm: str, game: str, run: int = 1, tag: str = zoo.FINAL) -> Explorer:
        """Open an agent in the explorer below the clips.

        Args:
            algorithm: see `zoo.load`, as the others.
            game: likewise.
            run: likewise.
            tag: likewise.
        """
        agent = zoo.load(algorithm, game, run, tag)
        self.words.value = f"opening {escape(agent.name)} …"
        self.explorer = explore(agent, steps=self.steps)
        self.opened.children = (self.explorer.page,)
        self.words.value = f"{escape(agent.name)} is open below"
        return self.explorer

    def _place(self, row) -> ipywidgets.VBox:
        """Return the place of one agent in the grid: its clip, and what it is."""
        address = [getattr(row, column) for column in ADDRESS]
        name = f"{row.algorithm} {row.game} {row.run}" + (f" {row.tag}" * (row.tag != zoo.FINAL))
        if name not in self.clips:
            kept = zoo_rollout(*address, steps=self.start + self.length)
            frames = halved(kept.read("frames", slice(self.start, None)))
            clip = base64.b64encode(gif(frames, FPS)).decode()
            still = io.BytesIO()
            Image.fromarray(frames[0]).save(still, "PNG")
            picture = Picture(
                image=still.getvalue(),
                drawing=f'<img src="data:image/gif;base64,{clip}" style="width:100%">',
                label=f"{name}, playing; a click opens it",
                layout={"width": "160px"},
            )
            picture.observe(lambda change: self._on_event(change["new"], address), "event")
            self.clips[name] = picture
        score = "not measured" if pd.isna(row.score) else f"{row.score:.1f}"
        words = ipywidgets.HTML(f"<b>{escape(name)}</b><br>{score}")
        return ipywidgets.VBox([self.clips[name], words], layout={"margin": "4px"})

    def _on_event(self, event: dict, address: list) -> None:
        if event["kind"] == "click":
            self.open_agent(*address)


def browse(**settings) -> ZooBrowser:
    """Make the browser; a notebook shows it as the last expression of a cell. See `ZooBrowser`."""
    return ZooBrowser(**settings)
