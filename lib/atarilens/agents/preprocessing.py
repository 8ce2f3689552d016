"""Turn screens into observations, in named styles; every agent records the style it needs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SCREEN_SHAPE = (210, 160, 3)
PLAY_FIELD = (35, 195, 0, 160)  # px (top, bottom, left, right) of the screen; half-open
WHOLE_SCREEN = (0, 210, 0, 160)
LUMA_WEIGHTS = np.array([299, 587, 114], np.float32)  # ITU-R BT.601 luma of R, G, B, in thousandths
LUMA_MAX = 4 * 255 * 1000  # the largest sum over 2x2 px


@dataclass(frozen=True)
class Preprocessing:
    """A named function from the emulator's screens to the observation of a network.

    Attributes:
        name: key in `STYLES`; recorded with every agent.
        shape: (C, H, W) of the observation.
        region: px (top, bottom, left, right) of the screen that the observation covers, half-open.
        screens: how many successive screens one observation stacks (1 for recurrent agents).
        function: `[..., 210, 160, 3]` uint8 -> `[..., H, W]` float32 in [0, 1], a screen at a time.
    """

    name: str
    shape: tuple[int, int, int]
    region: tuple[int, int, int, int]
    screens: int
    function: Callable[[np.ndarray], np.ndarray]

    def __call__(self, screen: np.ndarray) -> np.ndarray:
        """Turn one screen, or the screens that one observation stacks, into an observation.

        Args:
            screen: `[210, 160, 3]` uint8, or `[screens, 210, 160, 3]` uint8, oldest first.

        Returns:
            `[C, H, W]` float32 in [0, 1].

        Raises:
            ValueError: if the shape or the dtype differs.
        """
        screen = np.asarray(screen)
        screens = screen[None] if screen.ndim == 3 else screen
        if screens.shape != (self.screens, *SCREEN_SHAPE) or screens.dtype != np.uint8:
            raise ValueError(
                f"preprocessing {self.name!r} expects {self.screens} screen(s) of shape "
                f"{list(SCREEN_SHAPE)} uint8, received {list(screen.shape)} {screen.dtype}"
            )
        return self.function(screens)

    def picture(self, screen: np.ndarray) -> np.ndarray:
        """Turn one screen `[210, 160, 3]` uint8 into its part `[H, W]` of a stacked observation.

        Stacking the pictures of successive screens equals calling the style on those screens.
        """
        if screen.shape != SCREEN_SHAPE or screen.dtype != np.uint8:
            raise ValueError(
                f"preprocessing {self.name!r} expects a screen of shape {list(SCREEN_SHAPE)} "
                f"uint8, received {list(screen.shape)} {screen.dtype}"
            )
        return self.function(screen[None])[0]


def luma80(screens: np.ndarray) -> np.ndarray:
    """Sum the luma over 2x2 px of rows 35:195 and divide once: bit-equal on every device.

    Args:
        screens: `[..., 210, 160, 3]` uint8.

    Returns:
        `[..., 80, 80]` float32 in [0, 1]: (299 R + 587 G + 114 B) / 1,020,000 summed over 2x2 px.
        The sum is an integer below 2**24, so that the one division is the only rounding.
    """
    top, bottom, left, right = PLAY_FIELD
    field = screens[..., top:bottom, left:right, :]
    rows = np.add(field[..., 0::2, :, :], field[..., 1::2, :, :], dtype=np.uint16)
    pairs = rows.astype(np.float32).reshape(*rows.shape[:-2], -1, 6)  # R, G, B, R, G, B
    # Products and sums of integers below 2**24 are exact in float32, in whatever order.
    return (pairs @ np.tile(LUMA_WEIGHTS, 2)) / np.float32(LUMA_MAX)


def baby_a3c(screens: np.ndarray) -> np.ndarray:
    """Reproduce the preprocessing of greydanus/baby-a3c bit for bit, in integers.

    The original takes the mean over RGB of rows 35:195, stretches each screen to its own darkest
    and brightest pixel (`scipy.misc.bytescale`) and halves it with Pillow's bilinear filter, which
    is separable [1, 3, 3, 1] / 8 with 8-bit rounding after the columns and after the rows. Its
    agents need all of this: without the stretch, the score in Pong falls from 18 to -21.

    Args:
        screens: `[..., 210, 160, 3]` uint8.

    Returns:
        `[..., 80, 80]` float32 in [0, 1], multiples of 1/255.
    """
    top, bottom, left, right = PLAY_FIELD
    red, green, blue = np.moveaxis(screens[..., top:bottom, left:right, :], -1, 0)
    sums = np.add(red, green, dtype=np.uint16) + blue
    stretched = np.empty(sums.shape, np.int16)
    for index in np.ndindex(sums.shape[:-2]):
        first, last = int(sums[index].min()), int(sums[index].max())
        # The original computes this in float64 for every pixel; each sum needs it only once.
        means = np.arange(first, last + 1) / 3.0
        levels = (means - means[0]) * (255.0 / (means[-1] - means[0] or 1.0)) + 0.5
        stretched[index] = levels.astype(np.int16)[sums[index] - first]
    halved = _halve(_halve(stretched).swapaxes(-1, -2)).swapaxes(-1, -2)
    return np.ascontiguousarray(halved, dtype=np.float32) / np.float32(255)


def _halve(image: np.ndarray) -> np.ndarray:
    """Filter the last axis by [1, 3, 3, 1] at every other pixel, rounding half up to integers.

    At both ends the tap outside is dropped and the weights are [3, 3, 1] / 7.

    Args:
        image: `[..., n]` int16 in 0 to 255, n even.

    Returns:
        `[..., n / 2]` int16 in 0 to 255.
    """
    even, odd = image[..., 0::2], image[..., 1::2]
    total = 3 * (even + odd)
    total[..., 1:] += odd[..., :-1]
    total[..., :-1] += even[..., 1:]
    halved = (total + 4) >> 3
    halved[..., [0, -1]] = (2 * total[..., [0, -1]] + 7) // 14
    return halved


def area84(screens: np.ndarray) -> np.ndarray:
    """Average the grey levels of the whole screen over the area of each of 84x84 pixels.

    All sums are of integers, so the result is bit-equal on every device. A pixel covers 5/2 rows
    and 40/21 columns.
    Deviation: the usual wrappers use OpenCV (`INTER_AREA`), which is not a dependency here. On 90
    screens of three games, against OpenCV 5.0: 0.03 % of the pixels differ, each by 1/255 (its
    rounding of ties). CleanRL resizes each colour before it mixes the grey: 1.4 %, each by 1/255.

    Args:
        screens: `[..., 210, 160, 3]` uint8.

    Returns:
        `[..., 84, 84]` float32 in [0, 1], multiples of 1/255.

    Reference:
        Mnih et al. (2015), "Human-level control through deep reinforcement learning", Methods.
    """
    red, green, blue = (screens[..., channel].astype(np.int64) for channel in range(3))
    grey = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14  # BT.601 luma, as OpenCV
    rows, columns = _overlaps(210), _overlaps(160)
    # Sums of integers below 2**53 are exact in float64, in whatever order they are added.
    total = (rows @ grey.astype(np.float64) @ columns.T).astype(np.int64)
    area = int(rows[0].sum() * columns[0].sum())
    return ((2 * total + area) // (2 * area)).astype(np.float32) / np.float32(255)


def _overlaps(size: int, target: int = 84) -> np.ndarray:
    """Return `[target, size]` float64: overlap of pixel i of `target` with pixel j of `size`.

    Lengths are counted in units of 1 / (size * target) of the axis, so that they are integers.
    """
    ends, sources = np.arange(target + 1) * size, np.arange(size + 1) * target
    right = np.minimum(ends[1:, None], sources[None, 1:])
    left = np.maximum(ends[:-1, None], sources[None, :-1])
    return np.maximum(right - left, 0).astype(np.float64)


STYLES = {
    style.name: style
    for style in (
        Preprocessing("luma80", (1, 80, 80), PLAY_FIELD, 1, luma80),
        Preprocessing("baby-a3c", (1, 80, 80), PLAY_FIELD, 1, baby_a3c),
        Preprocessing("area84", (1, 84, 84), WHOLE_SCREEN, 1, area84),
        Preprocessing("area84-stack4", (4, 84, 84), WHOLE_SCREEN, 4, area84),
    )
}


def preprocessing(name: str) -> Preprocessing:
    """Return the style of this name.

    Raises:
        ValueError: if there is none of this name.
    """
    if name not in STYLES:
        raise ValueError(f"unknown preprocessing {name!r}; known: {', '.join(sorted(STYLES))}")
    return STYLES[name]
