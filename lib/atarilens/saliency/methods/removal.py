"""Maps from removing parts of the observation: what does the score of an action lose?"""

from functools import lru_cache

import numpy as np
import torch
from scipy.special import softmax
from torch.nn import functional as F

from atarilens.saliency.calling import device_of, network_outputs, untouched
from atarilens.saliency.maps import SaliencyMaps, upsample
from atarilens.saliency.masks import blur_matrix, mask_factors
from atarilens.saliency.methods.gradients import random_state_kept
from atarilens.saliency.methods.scores import baseline_image, collect, score_function

BATCH = 32  # changed observations per forward pass


def _captum(network, observation, memory, action, output, sign, attribute):
    """Attribute the scores of each decision with a method of Captum.

    Args:
        network: see `atarilens.saliency`.
        observation: `[T, C, H, W]`.
        memory: `[T, k, M]`.
        action: `[T]`.
        output: see `score_function`.
        sign: see `collect`.
        attribute: (scores, x `[1, C, H, W]`) -> attributions `[heads, C, H, W]`.
    """
    device, decisions = device_of(network), []
    with untouched(network), torch.no_grad():
        for x, entering, chosen in zip(observation, memory, action, strict=True):
            scores = score_function(network, entering[None].to(device), int(chosen), output)
            found = attribute(scores, x[None].to(device)).cpu().numpy()
            # A patch covers all channels, and Captum gives each of them its whole effect.
            decisions.append(list(found.mean(1, keepdims=True)))
    return collect(decisions, sign)


def _baseline(x, baseline):
    return torch.from_numpy(baseline_image(x[0].cpu(), baseline)).to(x)[None]


def occlusion(
    network,
    observation,
    memory,
    action,
    *,
    patch: int = 5,
    stride: int = 5,
    baseline="background",
    output="logit",
    sign="absolute",
):
    """Slide a patch of the baseline over the observation; pixels get the mean loss."""
    from captum.attr import Occlusion

    def attribute(scores, x):
        return Occlusion(scores).attribute(
            x,
            sliding_window_shapes=(x.shape[1], patch, patch),
            strides=(x.shape[1], stride, stride),
            baselines=_baseline(x, baseline),
            perturbations_per_eval=BATCH,
        )

    return _captum(network, observation, memory, action, output, sign, attribute)


def grid_segments(shape, cell: int = 8) -> np.ndarray:
    """Number the squares of a grid: `[H, W]` int64 from 0, squares of `cell` px."""
    rows, columns = (np.arange(size) // cell for size in shape)
    return rows[:, None] * (columns[-1] + 1) + columns[None]


def _segments(x, segments, cell):
    """Return segments `[1, 1, H, W]` with numbers from 0 without gaps, and how many they are."""
    shape = tuple(x.shape[-2:])
    segments = grid_segments(shape, cell) if segments is None else np.asarray(segments)
    if segments.shape != shape:
        raise ValueError(f"segments have shape {segments.shape}, expected {shape}")
    names, numbers = np.unique(segments, return_inverse=True)
    mask = torch.from_numpy(numbers.reshape(1, 1, *shape)).to(x.device)
    return mask, len(names)


def feature_ablation(
    network,
    observation,
    memory,
    action,
    *,
    segments=None,
    cell: int = 8,
    baseline="background",
    output="logit",
    sign="absolute",
):
    """Replace one segment at a time by the baseline."""
    from captum.attr import FeatureAblation

    def attribute(scores, x):
        mask, _ = _segments(x, segments, cell)
        return FeatureAblation(scores).attribute(
            x,
            _baseline(x, baseline),
            feature_mask=mask.expand(1, *x.shape[1:]),
            perturbations_per_eval=BATCH,
        )

    return _captum(network, observation, memory, action, output, sign, attribute)


class WeightedRidge:
    """The linear model that LIME fits: weighted least squares with a penalty on coefficients.

    Captum's own linear models need scikit-learn. This one minimises

        sum_i w_i (y_i - b - x_i . c)^2 + penalty * ||c||^2.
    """

    def __init__(self, penalty: float):
        self.penalty = penalty

    def fit(self, train_data, **_):
        """Fit to batches of (x `[B, n]`, y `[B]`, w `[B]`)."""
        x, y, w = (
            torch.cat([part.double() for part in each]) for each in zip(*train_data, strict=True)
        )
        y, w, total = y.reshape(-1), w.reshape(-1) / w.sum(), w.sum()
        x_mean, y_mean = w @ x, w @ y
        x, y = x - x_mean, y - y_mean
        gram = x.T @ (w[:, None] * x) * total + self.penalty * torch.eye(x.shape[1]).to(x)
        self.coefficients = torch.linalg.solve(gram, x.T @ (w * y) * total)
        self.bias = y_mean - x_mean @ self.coefficients

    def representation(self):
        """Return the coefficients `[1, n]`."""
        return self.coefficients[None].float()

    def __call__(self, x):
        """Predict `[B]` from `[B, n]`."""
        return x.double() @ self.coefficients + self.bias


def lime(
    network,
    observation,
    memory,
    action,
    *,
    segments=None,
    cell: int = 8,
    samples: int = 500,
    penalty: float = 1.0,
    baseline="background",
    seed: int = 0,
    output="logit",
    sign="absolute",
):
    """Replace random halves of the segments, and fit a linear model to what that does."""
    from captum.attr import Lime

    def attribute(scores, x):
        mask, _ = _segments(x, segments, cell)
        kept = []

        def action_score(shown):
            kept.append(scores(shown))
            return kept[-1][:, 0]

        def value(shown):  # of the same samples, drawn from the same seed
            return kept.pop(0)[:, 1]

        found = []
        for head in (action_score, value):
            if head is value and kept[0].shape[1] == 1:
                break
            with random_state_kept(seed, x.device):
                explained = Lime(head, interpretable_model=WeightedRidge(penalty))
                found.append(
                    explained.attribute(
                        x,
                        _baseline(x, baseline),
                        feature_mask=mask.expand(1, *x.shape[1:]),
                        n_samples=samples,
                        perturbations_per_eval=BATCH,
                    )[0]
                )
        return torch.stack(found)

    return _captum(network, observation, memory, action, output, sign, attribute)


def _run_masked(network, x, entering, masks, other):
    """Run a network over one observation with `other` shown where masks are 1.

    Args:
        network: see `atarilens.saliency`.
        x: `[C, H, W]` float32.
        entering: `[1, k, M]`.
        masks: `[N, H, W]` float32 in [0, 1].
        other: `[C, H, W]` float32.

    Returns:
        action_logits `[N, A]` and values `[N]` or None.
    """
    logits, values = [], []
    for start in range(0, len(masks), BATCH):
        part = torch.from_numpy(masks[start : start + BATCH])[:, None]
        some, value = network_outputs(network, torch.addcmul(x, other - x, part), entering)
        logits.append(some)
        values.append(value)
    return np.concatenate(logits), None if values[0] is None else np.concatenate(values)


@lru_cache(maxsize=4)
def _blur_masks(shape, stride: int, sigma: float) -> np.ndarray:
    """Return every mask of the grid of `perturbation_saliency`, `[n * m, H, W]` float32."""
    rows, columns, scale = mask_factors(shape, stride, sigma)
    masks = np.einsum("riy,rjx->ijyx", rows, columns) * scale[..., None, None]
    return masks.reshape(-1, *shape).astype(np.float32)


def blurred_outputs(
    network, observation, memory, stride: int = 5, mask_sigma: float = 5.0, blur_sigma: float = 3.0
) -> list[tuple]:
    """Run a network over every blur of the grid of `perturbation_saliency`.

    Args:
        network: see `atarilens.saliency`.
        observation: `[T, C, H, W]` float32.
        memory: `[T, k, M]` float32.
        stride: px between neighbouring centres.
        mask_sigma: px.
        blur_sigma: px.

    Returns:
        For each decision: logits `[A]`, value or None, and the same under n * m blurs.
    """
    shape = tuple(observation.shape[-2:])
    masks = _blur_masks(shape, int(stride), float(mask_sigma))
    vertical, horizontal = (torch.from_numpy(blur_matrix(size, blur_sigma)) for size in shape)
    decisions = []
    for x, entering in zip(observation, memory, strict=True):
        blurred = (vertical @ x.double() @ horizontal.T).float()
        logits, value = network_outputs(network, x[None], entering[None])
        moved, moved_value = _run_masked(network, x, entering[None], masks, blurred)
        decisions.append((logits[0], None if value is None else value[0], moved, moved_value))
    return decisions


def _grids_to_maps(actor, critic, shape, stride) -> SaliencyMaps:
    """Make maps of grids of scores, T flat arrays for each head."""
    size = tuple(len(range(0, side, stride)) for side in shape)
    grids = [
        None if not head else np.stack(head).reshape(-1, *size).astype(np.float32)
        for head in (actor, critic)
    ]
    maps = [None if grid is None else upsample(grid, shape, stride) for grid in grids]
    return SaliencyMaps(*maps, *grids)


def action_perturbation(
    network,
    observation,
    memory,
    action,
    *,
    stride: int = 5,
    mask_sigma: float = 5.0,
    blur_sigma: float = 3.0,
    temperature: float = 1.0,
    sign="positive",
    outputs=None,
):
    """Blur one region at a time; score how much probability the action loses.

    The critic's map is that of `perturbation_saliency`. `outputs` are those of `blurred_outputs`
    for the same settings, if they are known already.
    """
    actor, critic = [], []
    options = (int(stride), mask_sigma, blur_sigma)
    found = outputs or blurred_outputs(network, observation, memory, *options)
    for chosen, (logits, value, moved, moved_value) in zip(action, found, strict=True):
        before = softmax(logits / temperature)[chosen]
        actor.append(before - softmax(moved / temperature, 1)[:, chosen])
        if value is not None:
            critic.append(0.5 * np.square(moved_value - value))
    clip = {"positive": lambda a: np.maximum(a, 0), "absolute": np.abs, "signed": np.asarray}
    if sign not in clip:
        raise ValueError(f"sign is {sign!r}, expected one of {', '.join(clip)}")
    actor = [clip[sign](each) for each in actor]
    return _grids_to_maps(actor, critic, tuple(observation.shape[-2:]), int(stride))


def sarfa_scores(logits: np.ndarray, moved: np.ndarray, action: int) -> np.ndarray:
    """Score perturbations by how specifically they take probability from one action.

    With p = softmax(logits), q the softmax over all other actions, and the perturbed ones primed:
    dP = p_a - p'_a, K = 1 / (1 + KL(q || q')), and the score is the harmonic mean
    2 K dP / (K + dP) if dP > 0, else 0.

    Args:
        logits: `[A]`, A >= 2 (with two actions K is always 1).
        moved: `[N, A]`, under N perturbations.
        action: index.

    Returns:
        `[N]` float64 in [0, 1].

    Raises:
        ValueError: if there is only one action.
    """
    logits, moved = np.asarray(logits, np.float64), np.asarray(moved, np.float64)
    if len(logits) < 2:
        raise ValueError(f"SARFA compares actions, but the network has {len(logits)}")
    loss = softmax(logits)[action] - softmax(moved, 1)[:, action]
    rest, moved_rest = np.delete(logits, action), np.delete(moved, action, 1)
    log_q = rest - np.logaddexp.reduce(rest)
    log_moved = moved_rest - np.logaddexp.reduce(moved_rest, axis=1)[:, None]
    specific = 1 / (1 + np.maximum((np.exp(log_q) * (log_q - log_moved)).sum(1), 0))
    return np.where(loss > 0, 2 * specific * loss / (specific + np.maximum(loss, 0)), 0)


def sarfa(
    network,
    observation,
    memory,
    action,
    *,
    stride: int = 5,
    mask_sigma: float = 5.0,
    blur_sigma: float = 3.0,
    temperature: float = 1.0,
    outputs=None,
):
    """Blur one region at a time; score a specific loss of the action's probability.

    SARFA explains an action: there is no critic's map. `outputs` are those of `blurred_outputs`
    for the same settings, if they are known already.
    """
    options = (int(stride), mask_sigma, blur_sigma)
    found = outputs or blurred_outputs(network, observation, memory, *options)
    actor = [
        sarfa_scores(logits / temperature, moved / temperature, chosen)
        for chosen, (logits, _, moved, _) in zip(action, found, strict=True)
    ]
    return _grids_to_maps(actor, [], tuple(observation.shape[-2:]), int(stride))


@lru_cache(maxsize=2)
def rise_masks(
    shape: tuple[int, int],
    masks: int = 1000,
    cells: int = 8,
    probability: float = 0.5,
    seed: int = 0,
) -> np.ndarray:
    """Draw RISE's masks: random grids of 0 and 1, enlarged bilinearly, and shifted at random.

    Returns:
        `[masks, H, W]` float32 in [0, 1]; 1 keeps a pixel.
    """
    generator = np.random.default_rng(seed)
    steps = [-(-size // cells) for size in shape]  # px of one cell
    grids = generator.random((masks, 1, cells + 1, cells + 1)) < probability
    enlarged = F.interpolate(
        torch.from_numpy(grids.astype(np.float32)),
        size=tuple((cells + 1) * step for step in steps),
        mode="bilinear",
        align_corners=False,
    ).numpy()[:, 0]
    shifts = np.stack([generator.integers(step, size=masks) for step in steps], 1)
    return np.stack(
        [
            each[down : down + shape[0], across : across + shape[1]]
            for each, (down, across) in zip(enlarged, shifts, strict=True)
        ]
    )


def rise(
    network,
    observation,
    memory,
    action,
    *,
    masks: int = 1000,
    cells: int = 8,
    probability: float = 0.5,
    baseline="background",
    output="logit",
    centred: bool = True,
    seed: int = 0,
    sign="absolute",
):
    """Show random parts only; a pixel's score is the mean score of the masks that show it.

    Deviation: `centred` subtracts the mean score of all masks first. The expected map changes by
    a constant only, and a network that ignores its input gets zeros instead of the masks' noise.
    """
    shape = tuple(observation.shape[-2:])
    kept = rise_masks(shape, int(masks), int(cells), float(probability), seed)
    decisions = []
    with untouched(network):
        for x, entering, chosen in zip(observation, memory, action, strict=True):
            other = torch.from_numpy(baseline_image(x, baseline))
            device = device_of(network)
            scores = score_function(network, entering[None].to(device), int(chosen), output)
            found = []
            with torch.no_grad():
                for start in range(0, len(kept), BATCH):
                    part = torch.from_numpy(kept[start : start + BATCH])[:, None]
                    shown = torch.addcmul(other, x - other, part)
                    found.append(scores(shown.to(device)).cpu().double().numpy())
            found = np.concatenate(found)
            if centred:
                found = found - found.mean(0)
            flat = kept.reshape(len(kept), -1)
            weights = found.T.astype(np.float32) @ flat / (len(kept) * probability)
            decisions.append(list(weights.reshape(-1, 1, *shape)))
    return collect(decisions, sign)
