"""Where the objects of a game are, read from the 128 bytes of the console's RAM."""

from collections.abc import Sequence

import numpy as np

from atarilens.games.catalogue import GAMES, game
from atarilens.games.catalogue.breakout import bricks
from atarilens.games.catalogue.spaceinvaders import aliens

__all__ = [
    "GAMES",
    "aliens",
    "boxes_at",
    "bricks",
    "cell",
    "game",
    "has_objects",
    "object_boxes",
    "to_observation",
]


def cell(name: str, cell_name: str, ram: np.ndarray) -> np.ndarray:
    """Read a cell: `[...]` int64 of ram `[..., 128]` uint8, or `[..., n]` for a cell of n bytes."""
    addresses, _ = game(name).cells[cell_name]
    values = np.asarray(ram)[..., list(addresses)].astype(np.int64)
    return values[..., 0] if len(addresses) == 1 else values


def has_objects(name: str) -> bool:
    """Return whether the record of a game says where its objects are."""
    return game(name).boxes is not None


def object_boxes(name: str, ram: np.ndarray) -> dict[str, np.ndarray]:
    """Return where the objects of a game are at the moment of its RAM.

    The function `boxes` of each module of `games.catalogue` says which objects there are.

    Args:
        name: of the game.
        ram: `[128]` uint8.

    Returns:
        Object -> `[n, 4]` float64, (top, bottom, left, right) in px of the screen, half-open, cut
        at the border of the play field; n is 0 for what is absent. The keys are always the same.

    Raises:
        ValueError: if there is no such game, its record has no objects, or `ram` is not `[128]`
            uint8.
    """
    record = game(name)
    if record.boxes is None:
        raise ValueError(
            f"where the objects of {record.title} are is not known; it is for "
            f"{', '.join(sorted(GAMES))}"
        )
    ram = np.asarray(ram)
    if ram.shape != (128,) or ram.dtype != np.uint8:
        raise ValueError(f"ram must be [128] uint8, received {list(ram.shape)} {ram.dtype}")
    found = record.boxes(ram)
    return {kind: np.array(places, np.float64).reshape(-1, 4) for kind, places in found.items()}


def to_observation(
    boxes: dict[str, np.ndarray],
    region: tuple[int, int, int, int],
    shape: tuple[int, int] = (80, 80),
) -> dict[str, np.ndarray]:
    """Move boxes from the screen into an observation that shows a region of it.

    Args:
        boxes: object -> `[n, 4]`, px of the screen.
        region: (top, bottom, left, right) of the screen that the observation covers.
        shape: (H, W) of the observation.

    Returns:
        Object -> `[m, 4]` float64 in px of the observation, cut at its border; boxes that lie
        outside of it are left out.
    """
    top, bottom, left, right = region
    scale = np.array([shape[0] / (bottom - top)] * 2 + [shape[1] / (right - left)] * 2)
    limit = np.array([shape[0]] * 2 + [shape[1]] * 2, np.float64)
    moved = {}
    for kind, found in boxes.items():
        inside = np.clip((found - [top, top, left, left]) * scale, 0, limit)
        moved[kind] = inside[(inside[:, 1] > inside[:, 0]) & (inside[:, 3] > inside[:, 2])]
    return moved


def boxes_at(
    game: str, ram: np.ndarray, region: Sequence[int], shape: tuple[int, int] = (80, 80)
) -> list[dict[str, np.ndarray]]:
    """Return the objects' boxes of n steps in observation pixels.

    Args:
        game: name of the game.
        ram: `[n, 128]` uint8.
        region: (top, bottom, left, right) of the screen that the observation covers.
        shape: (H, W) of the observation.
    """
    return [to_observation(object_boxes(game, row), tuple(region), shape) for row in ram]
