"""Walk through the latent space of a state model and watch an agent answer.

Sliders move the latents that change the picture most, a search runs towards a target before one's
eyes, and the agent's saliency map can be laid on what it is shown.
"""

from pathlib import Path

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import display
from scipy.special import softmax

from atarilens import paths
from atarilens.agents import Agent, load_agent
from atarilens.apps.explorer.drawing import png
from atarilens.features import StateModel, list_state_models, pictures_of, synthesize
from atarilens.features.states import observations_of
from atarilens.features.synthesis import TARGETS
from atarilens.saliency import perturbation_saliency
from atarilens.views import common_gain, enlarge, overlay

SLIDERS = 6  # latents that one can move by hand
REACH = 3.0  # standard deviations of the prior
FACTOR = 5  # screen pixels per pixel of a state
SHOWN_EVERY = 5  # steps of a search between two pictures


class LatentWalk:
    """The page: state, agent and widgets. `latent` `[100]` is where the walk stands.

    Args:
        agent: who answers.
        model: of this agent.
        seed: of the first latent and of searches.
        folder: where kept states are written as PNG.
    """

    def __init__(self, agent: Agent, model: StateModel, seed: int = 0, folder: Path | None = None):
        model.require(agent)
        self.agent, self.model = agent, model
        self.folder = folder or paths.BUILD / "latent_walk"
        self.generator = np.random.default_rng(seed)
        self.dimensions = liveliest_latents(model, SLIDERS)
        self.memory = model.memories[0]
        self.kept: list[np.ndarray] = []
        targets = [target for target in TARGETS if ":" not in target]
        targets += [f"action:{name}" for name in agent.action_meanings]
        self.sliders = [
            widgets.FloatSlider(0.0, min=-REACH, max=REACH, step=0.1, description=f"latent {d}")
            for d in self.dimensions
        ]
        self.target = widgets.Dropdown(options=targets, description="search for")
        self.steps = widgets.IntSlider(60, min=10, max=200, step=10, description="steps")
        self.map = widgets.Checkbox(False, description="show what the agent attends to")
        self.picture, self.words = widgets.Image(format="png"), widgets.HTML()
        self.gallery = widgets.HBox()
        buttons = {"search": self.search, "random state": self.random, "keep": self.keep}
        self.buttons = {label: widgets.Button(description=label) for label in buttons}
        for label, action in buttons.items():
            self.buttons[label].on_click(lambda _, action=action: action())
        for slider in self.sliders:
            slider.observe(lambda _: self._moved(), "value")
        self.map.observe(lambda _: self.show(), "value")
        self.latent = np.zeros(self.model.network.mean.out_features, np.float32)
        self._setting = False
        controls = [*self.sliders, self.target, self.steps, self.map, *self.buttons.values()]
        side = widgets.VBox([*controls, self.words])
        self.page = widgets.VBox([widgets.HBox([self.picture, side]), self.gallery])
        self.random()

    def go_to(self, latent: np.ndarray) -> None:
        """Stand at a latent `[100]`: move the sliders there and show it."""
        self.latent = np.asarray(latent, np.float32)
        self._setting = True
        for slider, dimension in zip(self.sliders, self.dimensions, strict=True):
            slider.value = float(np.clip(self.latent[dimension], -REACH, REACH))
        self._setting = False
        self.show()

    def _moved(self) -> None:
        if not self._setting:
            for slider, dimension in zip(self.sliders, self.dimensions, strict=True):
                self.latent[dimension] = slider.value
            self.show()

    def random(self) -> None:
        """Go to a latent drawn from the prior."""
        self.go_to(self.generator.normal(size=len(self.latent)))

    def search(self) -> None:
        """Search for the target from here, and show the states on the way."""

        def on_step(step: int, states: torch.Tensor) -> None:
            if step % SHOWN_EVERY == 0:
                self._draw(states.numpy())

        found = synthesize(
            self.agent,
            self.model,
            self.target.value,
            count=1,
            restarts=1,
            seed=int(self.generator.integers(2**31)),
            steps=self.steps.value,
            start=self.latent[None],
            on_step=on_step,
        )
        self.memory = found.memory[0]
        self.go_to(found.latent[0])

    def keep(self) -> Path:
        """Put the picture into the row below, and write it as a PNG."""
        state = self.state()
        path = self.folder / f"{self.agent.name}-{len(self.kept):02d}.png"
        content = png(enlarge(pictures_of(state)[0], FACTOR))
        with paths.whole_file(path) as beside:
            beside.write_bytes(content)
        self.kept.append(self.latent.copy())
        self.gallery.children += (widgets.Image(value=content, format="png", width=120),)
        return path

    @torch.no_grad()
    def state(self) -> np.ndarray:
        """Return the state `[1, C, H, W]` of the latent that the walk stands at."""
        return self.model.network.decode(torch.from_numpy(self.latent)[None]).numpy()

    def show(self) -> None:
        """Draw the state and what the agent answers."""
        self._draw(self.state())

    @torch.no_grad()
    def _draw(self, state: np.ndarray) -> None:
        observation = observations_of(self.agent, torch.from_numpy(state))
        memory = torch.from_numpy(self.memory)[None]
        action_logits, value, _ = self.agent.network(observation, memory)
        picture = pictures_of(state)[0]
        if self.map.value:
            maps = perturbation_saliency(self.agent.network, observation[0].numpy(), self.memory)
            picture = overlay(
                picture, maps, (0, *picture.shape[:1], 0, picture.shape[1]), common_gain([maps])
            )
        self.picture.value = png(enlarge(picture, FACTOR))
        shares = softmax(action_logits[0].numpy())
        rows = "".join(
            f"<tr><td>{name}</td><td>{100 * share:.0f} %</td></tr>"
            for name, share in zip(self.agent.action_meanings, shares, strict=True)
        )
        told = "" if value is None else f"value {float(value[0]):.2f}"
        self.words.value = f"<b>{told}</b><table>{rows}</table>"


@torch.no_grad()
def liveliest_latents(model: StateModel, count: int, samples: int = 2) -> list[int]:
    """Return the latents whose change by two standard deviations changes pictures most.

    Args:
        model: whose decoder is asked.
        count: how many, the liveliest first.
        samples: latents drawn from the prior, from which each one is moved.
    """
    generator = torch.Generator().manual_seed(0)
    size = model.network.mean.out_features
    base = torch.randn(samples, size, generator=generator)
    change = torch.empty(size)
    for dimension in range(size):
        ends = [base.clone(), base.clone()]
        ends[0][:, dimension], ends[1][:, dimension] = -1.0, 1.0
        low, high = (model.network.decode(end) for end in ends)
        change[dimension] = (high - low).abs().mean()
    return change.argsort(descending=True)[:count].tolist()


def walk(name: str | None = None) -> LatentWalk:
    """Open the page for an agent that has a state model, by default the first; and show it.

    Raises:
        FileNotFoundError: if there is no state model.
    """
    name = name or next(iter(list_state_models()), "none")
    page = LatentWalk(load_agent(name), StateModel.load(name))
    display(page.page)
    return page
