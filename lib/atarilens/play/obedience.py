"""Measure whether an agent does what a hint says, whatever it says (the overfit study)."""

import numpy as np
import torch

from atarilens.agents import Agent
from atarilens.games.hints import draw_hint


def follows_random_hint(
    agent: Agent, frames: np.ndarray, memory: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Overwrite each screen's hint by a random one, and compare the likeliest action with it.

    The mean is the hint-following rate; an agent that ignores hints gets 1 / A. The memory that
    enters the step stays as it was.

    Args:
        agent: of recurrent kind, reading one screen at a time.
        frames: `[n, 210, 160, 3]` uint8, screens with or without a hint; not modified.
        memory: `[n, k, M]` float32 entering those steps.
        generator: draws the hints.

    Returns:
        `[n]` bool: the most probable action is the hint's.
    """
    num_actions = len(agent.action_meanings)
    shown = generator.integers(num_actions, size=len(frames))
    hinted = [draw_hint(screen, a, num_actions) for screen, a in zip(frames, shown, strict=True)]
    observations = torch.from_numpy(np.stack([agent.preprocess(screen) for screen in hinted]))
    with torch.inference_mode():
        action_logits = agent.network(observations, torch.from_numpy(memory))[0]
    return action_logits.argmax(1).numpy() == shown
