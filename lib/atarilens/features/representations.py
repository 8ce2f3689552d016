"""What several agents' games and hidden layers have in common, and maps of both (t-SNE).

Such et al. (2019), section "Dimensionality Reduction": a map of the console's memory shared by all
agents, and a map of each agent's last hidden layer. A map shows neighbourhoods, not distances;
what it suggests is tested on the points themselves, against permutations of whole runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial

import numpy as np
import scipy
import torch

from atarilens.agents import Agent
from atarilens.agents.preprocessing import area84
from atarilens.play import rollout

COMPONENTS = 50  # of the PCA before t-SNE, as in the paper
RESTLESS = 0.9  # a cell that changes at more than this share of steps counts time, not play
MOST_PERMUTATIONS = 10_000


@dataclass(frozen=True, repr=False)
class Watched:
    """Some moments of an agent's games.

    Attributes:
        agent: who played.
        frames: `[n, 210, 160, 3]` uint8.
        observations: `[n, C, H, W]` float32 in [0, 1].
        memory: `[n, k, M]` float32 entering the step.
        hidden: `[n, D]` float32, the last hidden layer.
        ram: `[n, 128]` uint8.
        episode: `[n]` int.
        score: `[n]` float32, the return of the episode before the moment.
        restless: `[128]` bool, cells of the RAM that change at most steps: clocks.
    """

    agent: Agent
    frames: np.ndarray
    observations: np.ndarray
    memory: np.ndarray
    hidden: np.ndarray
    ram: np.ndarray
    episode: np.ndarray
    score: np.ndarray
    restless: np.ndarray

    @property
    def screens(self) -> np.ndarray:
        """Return the frames `[n, 84, 84]`, grey levels of [0, 255], whatever the agent reads."""
        return 255 * area84(self.frames)


def watch(
    agent: Agent,
    *,
    episodes: int = 3,
    steps: int = 150,
    every: int = 5,
    epsilon: float = 0.02,
    seed: int = 0,
    progress: bool = False,
) -> Watched:
    """Let an agent play the beginnings of some games, and keep one moment in so many.

    Args:
        agent: who plays.
        episodes: games, of the seeds from `seed` on.
        steps: agent steps after which a game is cut off.
        every: agent steps between two moments that are kept.
        epsilon: probability of a random action: without it, a greedy agent in a deterministic game
            plays nearly the same game again.
        seed: of the first game.
        progress: show a bar.
    """
    settings = replace(agent.settings, max_frames=steps * agent.settings.skip_range[0])
    played = rollout(
        agent, seed, epsilon=epsilon, episodes=episodes, settings=settings, progress=progress
    )
    starts = np.searchsorted(played.episode, played.episode)
    chosen = np.flatnonzero((np.arange(len(played)) - starts) % every == every - 1)
    before = np.cumsum(played.rewards) - played.rewards
    same = played.episode[1:] == played.episode[:-1]
    changes = (played.ram[1:] != played.ram[:-1])[same].mean(0)
    inputs = (torch.from_numpy(np.ascontiguousarray(x)) for x in played.decision(chosen))
    with torch.inference_mode():
        hidden = agent.network.features(*inputs).numpy()
    return Watched(
        agent,
        played.frames[chosen],
        *played.decision(chosen),
        hidden,
        played.ram[chosen],
        played.episode[chosen],
        (before - before[starts])[chosen],
        changes > RESTLESS,
    )


def ram_points(ram: np.ndarray, restless: np.ndarray, *, bits: bool = True) -> np.ndarray:
    """Turn RAM into points, without clocks and cells that never change.

    Deviation: the code of Such et al. feeds 128 raw bytes, in which a few counters make most of
    the variance; the paper speaks of 1,024 bits, as we take them. `bits=False` gives the bytes.

    Args:
        ram: `[n, 128]` uint8.
        restless: `[128]` bool, cells to leave out.
        bits: return bits, not bytes.

    Returns:
        `[n, D]` float32.
    """
    cells = ram[:, ~np.asarray(restless)]
    points = np.unpackbits(cells, axis=1) if bits else cells
    return points[:, np.ptp(points, axis=0) > 0].astype(np.float32)


class PointMap:
    """A map in two dimensions: PCA, then t-SNE; newcomers find their places in it.

    Deviation: perplexity as in the paper (30), but 750 iterations with openTSNE in place of 3,000.

    Args:
        points: `[n, D]`, more than three times as many as the perplexity.
        perplexity: how many neighbours count.
        seed: of the embedding's start.

    Attributes:
        places: `[n, 2]` float64.

    Raises:
        ValueError: if there are too few points.
    """

    def __init__(self, points: np.ndarray, *, perplexity: float = 30.0, seed: int = 0):
        from openTSNE import TSNE  # slow to import, and no other function needs them
        from sklearn.decomposition import PCA

        if len(points) <= 3 * perplexity:
            raise ValueError(
                f"a map of perplexity {perplexity:g} needs more than {3 * perplexity:g} points, "
                f"received {len(points)}"
            )
        self.pca = PCA(min(COMPONENTS, *points.shape), svd_solver="full").fit(points)
        self._map = TSNE(perplexity=perplexity, random_state=seed, n_jobs=1).fit(
            self.pca.transform(points)
        )
        self.places = np.asarray(self._map)

    def transform(self, points: np.ndarray) -> np.ndarray:
        """Return the places `[m, 2]` of further points `[m, D]`; the map stays as it is."""
        return np.asarray(self._map.transform(self.pca.transform(points)))


def neighbours_kept(points: np.ndarray, places: np.ndarray, k: int = 10) -> float:
    """Return which share of each point's k nearest neighbours is also nearest on the map.

    Args:
        points: `[n, D]`.
        places: `[n, 2]` of the same points.
        k: neighbours.
    """
    near, shown = (_nearest(x, np.eye(len(x), dtype=bool), k) for x in (points, places))
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(near, shown, strict=True)]))


def neighbour_runs(points: np.ndarray, run: Sequence[int], k: int = 10) -> np.ndarray:
    """Return which runs the nearest neighbours of each run's points belong to.

    A run's own points are left out: they are each other's neighbours in time.

    Args:
        points: `[n, D]`.
        run: `[n]` int, 0 to R - 1.
        k: neighbours of each point.

    Returns:
        `[R, R]` float64: share of the neighbours of row's points that belong to column's run. Rows
        sum to 1; the diagonal is 0. If runs have unequal numbers of points, the larger ones are
        found more often.
    """
    run = np.asarray(run)
    count = int(run.max()) + 1
    nearest = run[_nearest(points, run[:, None] == run, k)]
    return np.array(
        [np.mean(nearest[run == r].ravel()[:, None] == range(count), 0) for r in range(count)]
    )


def _nearest(points: np.ndarray, excluded: np.ndarray, k: int) -> np.ndarray:
    """Return the k nearest points of each `[n, k]`, without those excluded `[n, n]` bool."""
    points = np.asarray(points, np.float64)
    squares = (points**2).sum(1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    distances[excluded] = np.inf
    return np.argsort(distances, 1, kind="stable")[:, :k]


@dataclass(frozen=True)
class Kinship:
    """Whether runs of one algorithm are more alike than runs of different ones.

    Attributes:
        same: mean over pairs of runs of one algorithm; NaN if no algorithm has two runs.
        other: mean over pairs of runs of different algorithms.
        p_value: share of the groupings of the runs, in groups of the same sizes, under which the
            difference is at least as large; NaN without two runs of one algorithm.
        groupings: how many there are; the p value cannot be below one over this.
    """

    same: float
    other: float
    p_value: float
    groupings: int


def kinship(alike: np.ndarray, algorithm: Sequence[str]) -> Kinship:
    """Compare pairs of runs of one algorithm with pairs of different ones, by permutation of runs.

    The runs are permuted, not the points: points of one run are no independent evidence about its
    algorithm.

    Args:
        alike: `[R, R]`, how alike two runs are, by any measure; the diagonal does not count.
        algorithm: of each of the R runs.
    """
    alike, names = np.asarray(alike, np.float64), np.asarray(algorithm)
    pairs = ~np.eye(len(names), dtype=bool)

    def means(order: np.ndarray) -> tuple[float, float]:
        same = (names[order][:, None] == names[order]) & pairs
        others = ~same & pairs
        return tuple(float(alike[at].mean()) if at.any() else np.nan for at in (same, others))

    same, other = means(np.arange(len(names)))
    if not np.isfinite(same - other):
        return Kinship(same, other, float("nan"), 1)
    differences = np.array([np.subtract(*means(order)) for order in _groupings(names)])
    share = float((differences >= same - other - 1e-12).mean())
    return Kinship(same, other, share, len(differences))


def _groupings(names: np.ndarray) -> list[np.ndarray]:
    """Return an order of the names for every grouping of the runs, or for a sample of them."""
    if factorial(len(names)) <= 5 * MOST_PERMUTATIONS:
        orders = (np.array(order) for order in permutations(range(len(names))))
    else:
        generator = np.random.default_rng(0)
        drawn = [generator.permutation(len(names)) for _ in range(MOST_PERMUTATIONS - 1)]
        orders = [np.arange(len(names)), *drawn]
    found = {}
    for order in orders:
        moved = names[order].tolist()
        found.setdefault(tuple(moved.index(name) for name in moved), order)
    return list(found.values())


def map_agreement(
    grids: Sequence[np.ndarray], shift: int = 0, *, measure: str = "ranks"
) -> np.ndarray:
    """Return how far saliency maps of several agents agree on the same screens: correlations.

    The scale of an agent's logits does not count.

    Args:
        grids: R times `[T, h, w]`, of the same T screens.
        shift: compare each map with the other agent's map so many screens later, wrapping around:
            a control for maps that agree on every screen, because they lie where things mostly are.
        measure: "ranks" (Spearman), to which all places count alike; or "values" (Pearson), to
            which bright places count more.

    Returns:
        `[T, R, R]` float64; NaN where a map is constant.

    Raises:
        ValueError: for another measure.
    """
    if measure not in ("ranks", "values"):
        raise ValueError(f"measure is {measure!r}, expected 'ranks' or 'values'")
    units = []
    for grid in grids:
        flat = np.reshape(grid, (len(grid), -1)).astype(np.float64)
        flat = scipy.stats.rankdata(flat, axis=1) if measure == "ranks" else flat
        flat = flat - flat.mean(1, keepdims=True)
        size = np.sqrt((flat**2).sum(1, keepdims=True))
        units.append(np.divide(flat, size, out=np.full(flat.shape, np.nan), where=size > 0))
    later = [np.roll(unit, -shift, axis=0) for unit in units]
    return np.einsum("rtp,stp->trs", np.stack(units), np.stack(later))
