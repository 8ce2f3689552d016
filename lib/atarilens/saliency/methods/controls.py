"""Maps that know nothing of the agent: what every method has to beat."""

from zlib import crc32

import numpy as np
from scipy.ndimage import sobel

from atarilens.saliency.maps import SaliencyMaps, upsample
from atarilens.saliency.perturbation import perturbation_saliency


def _for_both_heads(maps: np.ndarray, grids: np.ndarray | None = None) -> SaliencyMaps:
    maps = maps.astype(np.float32)
    grids = maps if grids is None else grids.astype(np.float32)
    return SaliencyMaps(maps, maps, grids, grids)


def centre(network, observation, memory, action, *, width: float = 0.25):
    """A Gaussian in the middle; its standard deviation is `width` of each side."""
    rows, columns = (
        np.exp(-0.5 * np.square((np.arange(size) - (size - 1) / 2) / (width * size)))
        for size in observation.shape[-2:]
    )
    return _for_both_heads(np.repeat(np.outer(rows, columns)[None], len(observation), 0))


def edges(network, observation, memory, action):
    """Strength of the edges: the length of Sobel's gradient, summed over channels."""
    images = observation.double().numpy()
    maps = [sum(np.hypot(sobel(each, 0), sobel(each, 1)) for each in image) for image in images]
    return _for_both_heads(np.stack(maps))


def random(network, observation, memory, action, *, stride: int = 5, seed: int = 0):
    """Uniform noise on a grid. The same observation and seed always get the same map."""
    shape = tuple(observation.shape[-2:])
    size = tuple(len(range(0, side, int(stride))) for side in shape)
    grids = np.stack(
        [
            np.random.default_rng([seed, crc32(image.numpy().tobytes())]).random(size)
            for image in observation
        ]
    )
    return _for_both_heads(upsample(grids, shape, int(stride)), grids)


def image_change(
    network,
    observation,
    memory,
    action,
    *,
    stride: int = 5,
    mask_sigma: float = 5.0,
    blur_sigma: float = 3.0,
):
    """How strongly each blur changes the image itself: the perturbation map of no network.

    Half the squared distance between the observation and its blurred copy. Divide a network's map
    by it, and an object's saliency no longer depends on how strongly the blur changes it.
    """

    def image_itself(observation, memory):
        return observation.flatten(1), None, memory

    maps = perturbation_saliency(
        image_itself,
        observation,
        method="torch",
        stride=stride,
        mask_sigma=mask_sigma,
        blur_sigma=blur_sigma,
    )
    return _for_both_heads(maps.actor, maps.actor_grid)
