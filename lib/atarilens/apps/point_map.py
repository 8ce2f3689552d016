"""A map of moments that one can click: the nearest point shows its screen and its saliency."""

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from PIL import Image, ImageDraw

from atarilens.apps.explorer.drawing import png
from atarilens.apps.explorer.picture import Picture
from atarilens.features import Watched
from atarilens.saliency import perturbation_saliency
from atarilens.views import algorithm_colour, common_gain, enlarge, overlay

SIDE = 520  # px of the drawn map
EDGE = 14  # px between its border and the outermost points
RADIUS = 3  # px of a point
FACTOR = 2  # px of the picture per px of a screen


class ClickableMap:
    """The page: the map at the left, the chosen moment at the right.

    Args:
        places: `[n, 2]`, of the moments of all agents, one agent after the other.
        watched: whose moments these are; together n.
        algorithms: of each agent, for its colour and its name in the legend.

    Attributes:
        chosen: index of the moment that is shown; None before the first click.

    Raises:
        ValueError: if there are not as many places as moments.
    """

    def __init__(
        self, places: np.ndarray, watched: Sequence[Watched], algorithms: Sequence[str] = ()
    ):
        counts = [len(seen.frames) for seen in watched]
        if len(places) != sum(counts):
            raise ValueError(f"{len(places)} places, but {sum(counts)} moments")
        self.watched, self.chosen = list(watched), None
        self.algorithms = list(algorithms) or [seen.agent.name for seen in watched]
        self.agent_of = np.repeat(np.arange(len(counts)), counts)
        self.moment = np.concatenate([np.arange(count) for count in counts])
        low, high = places.min(0), places.max(0)
        shares = (places - low) / np.where(high > low, high - low, 1)
        self.pixels = EDGE + shares * [1, -1] * (SIDE - 2 * EDGE) + [0, SIDE - 2 * EDGE]
        self.map = Picture(label="map of moments; click one", layout={"width": f"{SIDE}px"})
        self.map.image = png(self._drawn())
        self.map.observe(lambda change: self._clicked(change["new"]), "event")
        self.saliency = widgets.Checkbox(True, description="what the agent attends to")
        self.saliency.observe(lambda _: self.chosen is not None and self.show(self.chosen), "value")
        self.screen, self.words = widgets.Image(format="png"), widgets.HTML("Click a point.")
        colours = "".join(
            f'<span style="color:{algorithm_colour(name)}">&#9679;</span> {name} &nbsp;'
            for name in dict.fromkeys(self.algorithms)
        )
        side = widgets.VBox([self.saliency, self.screen, self.words])
        self.page = widgets.VBox([widgets.HTML(colours), widgets.HBox([self.map, side])])

    def _drawn(self) -> np.ndarray:
        picture = Image.new("RGB", (SIDE, SIDE), "white")
        draw = ImageDraw.Draw(picture)
        order = np.random.default_rng(0).permutation(len(self.pixels))  # no agent hides another
        for index in order:
            x, y = self.pixels[index]
            colour = algorithm_colour(self.algorithms[self.agent_of[index]])
            draw.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=colour)
        return np.asarray(picture)

    def _clicked(self, event: dict) -> None:
        if event.get("kind") == "click":
            at = np.array([event["x"], event["y"]]) * SIDE
            self.show(int(np.linalg.norm(self.pixels - at, axis=1).argmin()))

    def show(self, index: int) -> None:
        """Show a moment: its screen, with the agent's map if asked for."""
        self.chosen = index
        seen, moment = self.watched[self.agent_of[index]], self.moment[index]
        picture = seen.frames[moment]
        if self.saliency.value:
            inputs = seen.observations[moment], seen.memory[moment]
            maps = perturbation_saliency(seen.agent.network, *inputs)
            picture = overlay(picture, maps, seen.agent.region, common_gain([maps]))
        self.screen.value = png(enlarge(picture, FACTOR))
        self.words.value = (
            f"<b>{seen.agent.name}</b>, game {seen.episode[moment]}, "
            f"score so far {seen.score[moment]:g}"
        )
        x, y = self.pixels[index] / SIDE
        self.map.drawing = (
            '<svg viewBox="0 0 1 1" preserveAspectRatio="none">'
            f'<circle cx="{x:.4f}" cy="{y:.4f}" r="0.016" fill="none" stroke="black" '
            'stroke-width="2"/></svg>'
        )


def show_map(
    places: np.ndarray, watched: Sequence[Watched], algorithms: Sequence[str] = ()
) -> ClickableMap:
    """Open the page of a map and show it; see `ClickableMap`."""
    page = ClickableMap(places, watched, algorithms)
    display(page.page)
    return page
