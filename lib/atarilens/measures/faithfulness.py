"""Can a map be trusted? Insertion, deletion, sanity checks, stability, agreement with effects."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from scipy.ndimage import gaussian_filter

from atarilens.saliency import baseline_image
from atarilens.saliency.calling import as_batch, network_outputs

RESAMPLES = 1_000
SEED = 0
HOG_CELL, HOG_BINS = 3, 9  # px, and orientations of 20 degrees each


@dataclass(frozen=True)
class Curve:
    """The output of a network while pixels are shown, or hidden, in the order of a map.

    Attributes:
        shown: `[K]`, share of the pixels of the observation that are visible, 0 to 1 or 1 to 0.
        probability: `[K]`, probability of the action that the network prefers unperturbed.
        advantage: `[K]`, that action's logit minus the mean of all logits.
        logit: `[K]`, that action's logit (Q-value of a Q-network).
        value: `[K]`, or None without a value.
    """

    shown: np.ndarray
    probability: np.ndarray
    advantage: np.ndarray
    logit: np.ndarray
    value: np.ndarray | None


def insertion_curve(
    network,
    observation,
    saliency,
    memory=None,
    *,
    action: int | None = None,
    start="black",
    pixels: int = 80,
    seed: int = SEED,
) -> Curve:
    """Show the pixels of an observation in the order of a map, the most salient first.

    Args:
        network: see `atarilens.saliency`.
        observation: `[C, H, W]`, in [0, 1].
        saliency: `[H, W]`; pixels of equal saliency come in random order.
        memory: `[k, M]`, entering the step; None for a network without memory.
        action: index; None takes the likeliest action of the unperturbed decision.
        start: the image before the first insertion: "black" (Huber et al.), "noise",
            "background", "blur", a number or an image, see `atarilens.saliency.baseline_image`.
        pixels: inserted between two points of the curve, in all channels at once.
        seed: of the order of ties, and of the noise.

    Returns:
        ceil(H W / pixels) + 1 points; the last has the unperturbed output.

    Raises:
        ValueError: if a shape is not as described.

    Reference:
        Huber, Limmer and André (2022), "Benchmarking perturbation-based saliency maps for
        explaining Atari agents"; Petsiuk et al. (2018), arXiv:1806.07421.
    """
    return _curve(network, observation, saliency, memory, action, start, pixels, seed, True)


def deletion_curve(
    network,
    observation,
    saliency,
    memory=None,
    *,
    action: int | None = None,
    start="black",
    pixels: int = 80,
    seed: int = SEED,
) -> Curve:
    """Hide the pixels of an observation in the order of a map, the most salient first.

    Arguments as for `insertion_curve`; `start` is what hidden pixels show. The first point has the
    unperturbed output.
    """
    return _curve(network, observation, saliency, memory, action, start, pixels, seed, False)


def _curve(network, observation, saliency, memory, action, start, pixels, seed, insert) -> Curve:
    observation, memory, _ = as_batch(network, observation, memory)
    saliency = np.asarray(saliency, np.float64)
    if len(observation) != 1 or saliency.shape != tuple(observation.shape[-2:]):
        raise ValueError(
            f"observation has shape {tuple(observation.shape)} and saliency {saliency.shape}, "
            "expected [C, H, W] and [H, W] of one decision"
        )
    if pixels < 1:
        raise ValueError(f"pixels is {pixels}, expected 1 or more")
    x = observation[0]
    other = torch.from_numpy(baseline_image(x, start, seed=seed))
    ties = np.random.default_rng(seed).random(saliency.size)
    place = np.empty(saliency.size, np.int64)  # 0 is the most salient pixel
    place[np.lexsort((ties, -saliency.ravel()))] = np.arange(saliency.size)
    done = np.minimum(np.arange(-(-saliency.size // pixels) + 1) * pixels, saliency.size)
    moved = torch.from_numpy(place.reshape(saliency.shape)) < torch.from_numpy(done)[:, None, None]
    visible = moved if insert else ~moved
    images = torch.where(visible[:, None], x, other)
    logits, value = network_outputs(network, images, memory)
    if action is None:
        action = int(logits[-1 if insert else 0].argmax())
    logits = logits.astype(np.float64)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return Curve(
        visible.flatten(1).double().mean(1).numpy(),
        weights[:, action] / weights.sum(1),
        logits[:, action] - logits.mean(1),
        logits[:, action],
        None if value is None else value.astype(np.float64),
    )


def area(points) -> float:
    """Return the mean height of a curve: its trapezoids' area over the number of steps.

    Args:
        points: `[K]`, one column of a `Curve`.
    """
    points = np.asarray(points, np.float64)
    return float(np.trapezoid(points) / (len(points) - 1))


def restored(points) -> float:
    """Return how fast an insertion curve reaches the unperturbed output, whatever its sign.

    1 minus the mean distance from the last point, in units of the first point's distance: 1 if the
    first pixels restore the output, 0.5 for a straight line, below 0 if the output first moves
    away. NaN if the first point already has the unperturbed output.

    Args:
        points: `[K]`, one column of the `Curve` of an insertion (of a deletion: reversed).
    """
    points = np.asarray(points, np.float64)
    start = abs(points[0] - points[-1])
    if start <= 1e-9 * max(1.0, np.abs(points).max()):
        return float("nan")
    return 1 - area(np.abs(points - points[-1])) / start


def weight_layers(network) -> list[str]:
    """List the names of the modules that hold weights themselves, the last registered first."""
    return [
        name
        for name, module in network.named_modules()
        if any(p.ndim > 1 for p in module.parameters(recurse=False))
    ][::-1]


def randomised(network, fresh, layers: Iterable[str]):
    """Copy a network, with all parameters of some layers taken from a fresh one.

    Args:
        network: left as it is.
        fresh: of the same architecture, with new weights of its own initialiser.
        layers: names of modules.

    Raises:
        ValueError: if a layer has no parameters.
    """
    mixed = copy.deepcopy(network)
    weights, drawn = network.state_dict(), fresh.state_dict()
    for layer in layers:
        names = [name for name in weights if name.startswith(f"{layer}.")]
        if not names:
            known = ", ".join(weight_layers(network))
            raise ValueError(f"no layer is called {layer!r}, expected some of {known}")
        weights |= {name: drawn[name] for name in names}
    mixed.load_state_dict(weights)
    return mixed


def sanity_check(
    explain: Callable,
    network,
    fresh,
    layers: Sequence[str | Sequence[str]] | None = None,
    *,
    cascading: bool = True,
    either_sign: bool = True,
) -> dict[str, dict[str, np.ndarray]]:
    """Randomise a network layer by layer and compare its maps with the original ones.

    A map that hardly changes cannot be about what was learned.

    Args:
        explain: (network) -> maps `[T, H, W]`. It must explain the ORIGINAL actions each time.
        network: left as it is.
        fresh: of the same architecture, with new weights.
        layers: names from the output to the input; several in a list are one step. Default:
            `weight_layers`, one at a time.
        cascading: keep what was randomised before; otherwise each step by itself.
        either_sign: see `map_similarity`.

    Returns:
        Step (its names joined by "+") -> "spearman", "ssim", "hog" -> `[T]`.

    Reference:
        Adebayo et al. (2018), "Sanity checks for saliency maps", arXiv:1810.03292.
    """
    steps = [
        [step] if isinstance(step, str) else list(step) for step in layers or weight_layers(network)
    ]
    originals, found, before = explain(network), {}, []
    for step in steps:
        before = [*before, *step] if cascading else step
        maps = explain(randomised(network, fresh, before))
        pairs = [map_similarity(a, b, either_sign) for a, b in zip(originals, maps, strict=True)]
        found["+".join(step)] = {
            name: np.array([pair[name] for pair in pairs]) for name in ("spearman", "ssim", "hog")
        }
    return found


def map_similarity(a, b, either_sign: bool = True) -> dict[str, float]:
    """Compare two maps after each was stretched to 0..1.

    Args:
        a: `[H, W]`.
        b: `[H, W]`.
        either_sign: take for each measure the larger one of b and of 1 - b, as Huber et al. do.

    Returns:
        "spearman": rank correlation of all pixels. "ssim": mean structural similarity (Wang et al.
        2004), Gaussian windows of 1.5 px. "hog": Pearson correlation of the histograms of oriented
        gradients (Dalal and Triggs 2005), cells of 3 x 3 px, 9 unsigned orientations, each cell
        divided by its Euclidean norm. All are 1 for equal maps, NaN if a map is constant.

    Raises:
        ValueError: if shapes differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"maps have shapes {a.shape} and {b.shape}, expected the same [H, W]")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return dict.fromkeys(("spearman", "ssim", "hog"), float("nan"))
    a, b = ((each - each.min()) / np.ptp(each) for each in (a, b))
    measures = {"spearman": spearman, "ssim": _ssim, "hog": lambda a, b: _pearson(_hog(a), _hog(b))}
    others = (b, 1 - b) if either_sign else (b,)
    return {name: max(measure(a, each) for each in others) for name, measure in measures.items()}


def spearman(a, b) -> float:
    """Return Spearman's rank correlation of all entries; NaN if one side is constant."""
    return _pearson(scipy.stats.rankdata(a), scipy.stats.rankdata(b))


def _pearson(a, b) -> float:
    a, b = (np.ravel(each) - np.mean(each) for each in (a, b))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def _ssim(a, b, sigma=1.5, c1=0.01**2, c2=0.03**2) -> float:
    mean_a, mean_b = (gaussian_filter(each, sigma) for each in (a, b))
    var_a, var_b = (gaussian_filter(each**2, sigma) for each in (a, b))
    var_a, var_b = var_a - mean_a**2, var_b - mean_b**2
    covariance = gaussian_filter(a * b, sigma) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((luminance * (2 * covariance + c2) / (var_a + var_b + c2)).mean())


def _hog(image) -> np.ndarray:
    """Return the histograms `[rows, columns, 9]` of a map; pixels beyond whole cells are cut."""
    down, across = np.gradient(image)
    strength = np.hypot(down, across)
    turn = np.arctan2(down, across) % np.pi  # unsigned
    kind = np.minimum((turn / (np.pi / HOG_BINS)).astype(int), HOG_BINS - 1)
    rows, columns = (size // HOG_CELL for size in image.shape)
    cut = (slice(rows * HOG_CELL), slice(columns * HOG_CELL))
    votes = (strength[..., None] * (kind[..., None] == np.arange(HOG_BINS)))[cut]
    cells = votes.reshape(rows, HOG_CELL, columns, HOG_CELL, HOG_BINS).sum((1, 3))
    norms = np.linalg.norm(cells, axis=-1, keepdims=True)
    return np.divide(cells, norms, out=np.zeros_like(cells), where=norms > 1e-12)


def stability(
    explain: Callable,
    observation,
    *,
    noise: float = 1 / 255,
    repeats: int = 5,
    seed: int = SEED,
) -> dict[str, np.ndarray]:
    """Compare a map with those of observations that nobody would tell from this one.

    Args:
        explain: (observations `[T, C, H, W]`) -> maps `[T, H, W]`, with the memory of this step.
        observation: `[C, H, W]`, in [0, 1].
        noise: half the width of the uniform noise, one grey level by default.
        repeats: how many noisy copies.
        seed: of the noise.

    Returns:
        "noise" `[repeats]` and "shift" `[4]` (up, down, left, right by one pixel): Spearman's rank
        correlation of the maps. A shifted observation's map is shifted back first, and a border of
        one pixel is left out.
    """
    observation = np.asarray(observation, np.float32)
    generator = np.random.default_rng(seed)
    noisy = observation + generator.uniform(-noise, noise, (repeats, *observation.shape))
    padded = np.pad(observation, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = observation.shape[1:]
    shifts = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    moved = [padded[:, 1 - y : 1 - y + height, 1 - x : 1 - x + width] for y, x in shifts]
    shown = np.concatenate([observation[None], np.clip(noisy, 0, 1), np.stack(moved)])
    maps = np.asarray(explain(shown.astype(np.float32)))
    original, noisy_maps, moved_maps = maps[0], maps[1 : 1 + repeats], maps[1 + repeats :]
    back = [
        np.roll(each, (-y, -x), (0, 1))[1:-1, 1:-1]
        for each, (y, x) in zip(moved_maps, shifts, strict=True)
    ]
    return {
        "noise": np.array([spearman(original, each) for each in noisy_maps]),
        "shift": np.array([spearman(original[1:-1, 1:-1], each) for each in back]),
    }


def saliency_on(
    saliency, boxes: Mapping, *, margin: float = 2.0, measure: str = "share"
) -> dict[str, float]:
    """Return how much saliency lies on each object.

    Args:
        saliency: `[H, W]`.
        boxes: name -> `[n, 4]`, in observation pixels; a name's boxes count together.
        margin: px around each box: a map need not end where the object does.
        measure: "share" of the whole map (NaN if it is zero), or "mean" over the object's pixels.

    Returns:
        Name -> number; objects that are absent are left out.
    """
    if measure not in ("share", "mean"):
        raise ValueError(f"measure is {measure!r}, expected 'share' or 'mean'")
    saliency = np.asarray(saliency, np.float64)
    edges, found = [np.arange(size) for size in saliency.shape], {}
    for name, kind in boxes.items():
        inside = np.zeros(saliency.shape, bool)
        for top, bottom, left, right in np.reshape(kind, (-1, 4)):
            rows = (edges[0] + 1 > top - margin) & (edges[0] < bottom + margin)
            inside |= np.outer(rows, (edges[1] + 1 > left - margin) & (edges[1] < right + margin))
        if inside.any():
            whole = saliency.sum() if measure == "share" else inside.sum()
            found[name] = float(saliency[inside].sum() / whole) if whole != 0 else float("nan")
    return found


@dataclass(frozen=True)
class Agreement:
    """Outcome of `agreement`. Intervals are 95 %, over episodes; resamples keep the ranks of all.

    Attributes:
        correlation: Spearman's rank correlation over all rows; NaN if one side is constant.
        correlation_interval: (low, high).
        concordance: share of the pairs of objects of one moment that the map puts into the order
            of their effects; a tie of the map counts one half, a tie of the effects is left out.
            0.5 is chance. NaN if there is no such pair.
        concordance_interval: (low, high).
        by_episode: `[E]`, the correlation within each episode, in the order of their sorted names;
            NaN if it is undefined. Two maps of the same table are compared by these.
        rows: number of objects and moments.
        pairs: number of pairs in the concordance.
        episodes: number of episodes.
    """

    correlation: float
    correlation_interval: tuple[float, float]
    concordance: float
    concordance_interval: tuple[float, float]
    by_episode: np.ndarray
    rows: int
    pairs: int
    episodes: int


def agreement(saliency: Mapping, effects: Mapping, *, seed: int = SEED) -> Agreement:
    """Ask whether the saliency on objects predicts what changing these objects does.

    The correlation over all rows mixes two questions: which kind of object matters, and when. The
    concordance asks the first within each moment, so that no map gains by being large overall.

    Args:
        saliency: (episode, step, object) -> how much of the map lies on it, of `saliency_on`.
        effects: (episode, step, object) -> how far changing the object moves the decision, for
            example its total variation. Rows that are in only one of the tables, or not finite,
            are left out.
        seed: of the 1,000 resamples of episodes.

    Raises:
        ValueError: if no row is left.
    """
    keys = [
        key
        for key in saliency
        if key in effects and np.isfinite(saliency[key]) and np.isfinite(effects[key])
    ]
    if not keys:
        raise ValueError("the two tables share no row (episode, step, object) with finite numbers")
    x, y = (np.array([table[key] for key in keys], np.float64) for table in (saliency, effects))
    numbers, episode = np.unique([key[0] for key in keys], return_inverse=True)
    right, pairs = np.zeros(len(numbers)), np.zeros(len(numbers))
    moments: dict = {}
    for row, key in enumerate(keys):
        moments.setdefault(tuple(key[:2]), []).append(row)
    for of_one in moments.values():
        a, b = np.triu_indices(len(of_one), 1)
        a, b = np.array(of_one)[a], np.array(of_one)[b]
        order, truth = np.sign(x[a] - x[b]), np.sign(y[a] - y[b])
        counted = truth != 0
        right[episode[of_one[0]]] += (0.5 * (1 + order * truth))[counted].sum()
        pairs[episode[of_one[0]]] += counted.sum()

    ranks = np.stack([scipy.stats.rankdata(x), scipy.stats.rankdata(y)])
    ranks -= ranks.mean(1, keepdims=True)
    products = np.stack([ranks[0] ** 2, ranks[1] ** 2, ranks[0] * ranks[1], *ranks, 0 * x + 1])
    sums = np.stack([np.bincount(episode, weights=row) for row in products])  # [6, E]
    several = len(numbers) > 1  # of a single episode, nothing is known about others
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(numbers), [1 / len(numbers)] * len(numbers), RESAMPLES)
    weights = weights[: RESAMPLES * several]
    total = weights @ pairs
    concordances = np.divide(
        weights @ right, total, out=np.full(len(total), np.nan), where=total > 0
    )
    return Agreement(
        spearman(x, y),
        _interval(_correlations(sums @ weights.T)),
        float(right.sum() / pairs.sum()) if pairs.any() else float("nan"),
        _interval(concordances),
        np.array([spearman(x[episode == k], y[episode == k]) for k in range(len(numbers))]),
        len(keys),
        int(pairs.sum()),
        len(numbers),
    )


def _correlations(sums: np.ndarray) -> np.ndarray:
    """Return correlations from sums `[6, n]` of xx, yy, xy, x, y and 1."""
    xx, yy, xy, x, y, count = sums
    xx, yy, xy = xx - x * x / count, yy - y * y / count, xy - x * y / count
    norm = np.sqrt(np.maximum(xx * yy, 0))
    return np.divide(xy, norm, out=np.full(len(xy), np.nan), where=norm > 1e-9)


def _interval(values) -> tuple[float, float]:
    """Return the middle 95 %; NaN if half of the resamples have no value, as of one episode."""
    values = np.asarray(values)[np.isfinite(values)]
    if len(values) < RESAMPLES / 2:
        return float("nan"), float("nan")
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
