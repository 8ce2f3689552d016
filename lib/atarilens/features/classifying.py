"""Can a classifier tell from single screens whose game it is watching, and what does it read?

Such et al. (2019) train one to tell algorithms apart (section "Distinguishing Policies", supplement
S1.3). Two things let it succeed without any difference in play: their algorithms resize the screen
in three ways, and neighbouring screens of one game stand in the training and in the test set. Here
all agents share one preprocessing, and whole folds (episodes or runs) are held out.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from atarilens.agents.preprocessing import PLAY_FIELD, area84
from atarilens.games import make_env

SIDE = 84  # px of the resized screens
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
ITERATIONS = 60  # of the classifier's optimiser; it is judged on other folds, optimum or not


def resize_corners(screens: np.ndarray) -> np.ndarray:
    """Resize as A2C, Ape-X, ES and GA of the zoo: bilinear, the corners' centres kept in place."""
    grey = torch.from_numpy(screens.astype(np.float32) @ LUMA)[:, None]
    resized = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", align_corners=True)
    return resized[:, 0].numpy()


def resize_pillow(screens: np.ndarray) -> np.ndarray:
    """Resize as IMPALA of the zoo: Pillow's bilinear filter, then whole grey levels."""
    grey = screens.astype(np.float32) @ LUMA
    resized = [Image.fromarray(image).resize((SIDE, SIDE), Image.BILINEAR) for image in grey]
    return np.stack([np.asarray(image) for image in resized]).astype(np.uint8).astype(np.float32)


def resize_area(screens: np.ndarray) -> np.ndarray:
    """Resize as DQN and Rainbow of the zoo, and as every agent here: means of areas."""
    return 255 * area84(screens)


RESIZES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "A2C, Ape-X, ES, GA": resize_corners,
    "IMPALA": resize_pillow,
    "DQN, Rainbow": resize_area,
}


def resized(screens: np.ndarray) -> dict[str, np.ndarray]:
    """Resize screens as the algorithms of Such et al. (2019) do, in whole grey levels.

    Deviation: the first kind is never rounded there. Rounding all of them leaves the classifier
    nothing but the filters to tell them apart.

    Args:
        screens: `[n, 210, 160, 3]` uint8.

    Returns:
        Algorithms -> `[n, 84, 84]` float32, whole numbers from 0 to 255.
    """
    return {name: np.rint(resize(screens)) for name, resize in RESIZES.items()}


def random_screens(game: str, seed: int, count: int, every: int = 4) -> np.ndarray:
    """Play at random and keep one screen in so many: `[count, 210, 160, 3]` uint8.

    Args:
        game: name of a game.
        seed: of the emulator and of the actions.
        count: screens kept.
        every: agent steps between two of them.
    """
    env, generator = make_env(game), np.random.default_rng([seed, 2])
    screen, _ = env.reset(seed=seed)
    kept = []
    for step in range(count * every):
        if step % every == 0:
            kept.append(screen)
        screen, _, terminated, truncated, _ = env.step(int(generator.integers(len(env.actions))))
        if terminated or truncated:
            screen, _ = env.reset()
    return np.stack(kept)


def without_score(images: np.ndarray) -> np.ndarray:
    """Cut `[n, 84, 84]` to the rows of the play field: a score is read more easily than play."""
    top, bottom = (round(row * SIDE / 210) for row in PLAY_FIELD[:2])
    return images[:, top:bottom]


@dataclass(frozen=True)
class ToldApart:
    """How well a classifier tells K classes apart, on folds that it was not trained on.

    Attributes:
        classes: K names.
        confusion: `[K, K]` int, screens of class i that were taken for class j, over all folds.
        accuracy: `[F]` float64, mean over classes of the share recognised, for each fold.
        folds: `[F]`, which fold each accuracy is of.
    """

    classes: list[str]
    confusion: np.ndarray
    accuracy: np.ndarray
    folds: np.ndarray

    @property
    def chance(self) -> float:
        """Return the accuracy of a guess."""
        return 1 / len(self.classes)


def tell_apart(
    images: np.ndarray, labels: Sequence[str], fold: Sequence[int], *, every_pixel: int = 2
) -> ToldApart:
    """Train a linear classifier of single screens without one fold, test it on that fold; repeat.

    Args:
        images: `[n, H, W]`, grey levels from 0 to 255.
        labels: n classes.
        fold: n whole numbers; all screens of a fold are held out together. What must not help the
            classifier (the episode, the run) has to be a fold.
        every_pixel: 2 takes every other pixel of a row, shifted from row to row: half of them.

    Returns:
        The accuracy for each fold that holds every class, trained on folds that do.

    Raises:
        ValueError: if there are fewer than two classes, or no class stands in two folds.
    """
    from sklearn.exceptions import ConvergenceWarning  # slow to import, needed here alone
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix

    labels, fold = np.asarray(labels), np.asarray(fold)
    classes = sorted(set(labels.tolist()))
    if len(classes) < 2:
        raise ValueError(f"a classifier needs two classes or more, received {classes}")
    rows, columns = np.indices(images.shape[1:])
    pixels = images[:, (rows + columns) % every_pixel == 0].astype(np.float32)
    usable = [
        number
        for number in np.unique(fold)
        if all(set(labels[part].tolist()) == set(classes) for part in _split(fold, number))
    ]
    if not usable:
        raise ValueError("no fold has every class in it and in the other folds: hold out another")
    confusion, accuracy = np.zeros((len(classes), len(classes)), int), []
    for number in usable:
        test, train = _split(fold, number)
        middle = pixels[train].mean(0)
        scale = pixels[train].std() or 1.0  # one for all: faint pixels stay faint
        model = LogisticRegression(C=10.0, max_iter=ITERATIONS, tol=1e-3)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit((pixels[train] - middle) / scale, labels[train])
        told = model.predict((pixels[test] - middle) / scale)
        counts = confusion_matrix(labels[test], told, labels=classes)
        confusion += counts
        accuracy.append((counts.diagonal() / counts.sum(1)).mean())
    return ToldApart(classes, confusion, np.array(accuracy), np.array(usable))


def stacked(
    parts: Sequence[tuple[np.ndarray, str, int]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stack (images `[n, H, W]`, their class, their fold) into the arguments of `tell_apart`."""
    images, labels, folds = zip(*parts, strict=True)
    counts = [len(image) for image in images]
    return np.concatenate(images), np.repeat(labels, counts), np.repeat(folds, counts)


def _split(fold: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which screens are of a fold, and which are of the others: `[n]` bool each."""
    return fold == number, fold != number
