"""Gaussian masks and blurs, as the original computes them with SciPy."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d


def gaussian_mask(centre: tuple[int, int], shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Return the mask around a pixel: a 5-pixel plus, Gaussian-filtered, divided by its maximum.

    Args:
        centre: (row, column).
        shape: (H, W).
        sigma: px. The filter is cut at 4 sigma and reflects at the edges, as SciPy's does.

    Returns:
        `[H, W]` float64 in [0, 1].
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    plus = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= 1
    mask = gaussian_filter(plus.astype(np.float64), sigma, mode="reflect", truncate=4.0)
    return mask / mask.max()


def perturb(observation, centre, *, mask_sigma: float = 5.0, blur_sigma: float = 3.0) -> np.ndarray:
    """Return the observation `[C, H, W]` float32 with the region around one pixel blurred."""
    observation = np.asarray(observation, np.float32)
    mask = gaussian_mask(centre, observation.shape[-2:], mask_sigma)
    blurred = gaussian_filter(observation, (0, blur_sigma, blur_sigma))
    return (observation * (1 - mask) + blurred * mask).astype(np.float32)


@lru_cache(maxsize=16)
def mask_factors(
    shape: tuple[int, int], stride: int, sigma: float, jitter: int = 0
) -> tuple[np.ndarray, ...]:
    """Return every mask of a grid as the sum of two outer products.

    The filter is linear and separable, and a plus is a row of three plus a column of two, so

        mask(i, j) = rows[0, i] (x) columns[0, j] + rows[1, i] (x) columns[1, j], over peak[i, j]

    equals `gaussian_mask` to rounding, at a fraction of its cost and memory.

    Args:
        shape: (H, W).
        stride: px between neighbouring centres.
        sigma: px, standard deviation of the masks.
        jitter: 0 for centres at the multiples of the stride; otherwise the seed of a shift of each
            row and each column of masks, drawn from -stride // 2 to stride // 2 px (at least 1 px)
            and cut at the border.

    Returns:
        rows `[2, n, H]`, columns `[2, m, W]` and 1 / peak `[n, m]`, float32.
    """
    factors, generator, most = [], np.random.default_rng(jitter), max(1, stride // 2)
    for size in shape:
        spread = gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=4.0)
        spread = np.pad(spread.T, ((1, 1), (0, 0)))  # [size + 2, size], zeros beyond the edges
        centres = np.arange(0, size, stride)
        if jitter:
            shift = generator.integers(-most, most, len(centres), endpoint=True)
            centres = np.clip(centres + shift, 0, size - 1)
        centres = centres + 1  # of the padded array
        factors.append((spread[centres], spread[centres - 1] + spread[centres + 1]))
    (row, row_pair), (column, column_pair) = factors
    rows, columns = np.stack((row + row_pair, row)), np.stack((column, column_pair))
    # [n, m]: the maximum over the mask, one row of masks at a time
    peaks = np.stack(
        [np.einsum("ry,rjx->jyx", rows[:, i], columns).max((1, 2)) for i in range(len(row))]
    )
    return tuple(array.astype(np.float32) for array in (rows, columns, 1 / peaks))


@lru_cache(maxsize=16)
def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the `[size, size]` float64 matrix of SciPy's `gaussian_filter1d` (reflecting)."""
    return gaussian_filter1d(np.eye(size), sigma, axis=0)
