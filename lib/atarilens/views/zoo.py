"""Pictures of the pocket zoo: table of scores, curves, strips of RAM, filters, films of many."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

from atarilens.views.families import MARKERS, algorithm_colour
from atarilens.views.layouts import CHANCE, house_style
from atarilens.views.screens import enlarge

SCORES = mpl.colormaps["YlGnBu"]  # of human-normalised scores from 0 to 1
WARM = mpl.colormaps["inferno"]  # of activations from 0 to the largest
MISSING = "0.93"
GAP = 1  # px between small pictures


def score_colour(share: float) -> tuple[float, float, float]:
    """Return the colour of a human-normalised score: pale at random play, dark at the human's."""
    return SCORES(0.08 + 0.8 * float(np.clip(share, 0, 1)))[:3]


def draw_score_table(
    axes: Axes, cells: Mapping[str, Mapping[str, tuple[str, float]]], columns: Sequence[str]
) -> None:
    """Draw a table of words whose cells are coloured by score; a cell that is missing says so.

    Args:
        axes: where to draw.
        cells: row -> column -> (words, human-normalised score; NaN for a pale cell).
        columns: names, in order.
    """
    with house_style():
        for i, row in enumerate(cells.values()):
            for k, column in enumerate(columns):
                words, share = row.get(column, ("not trained", np.nan))
                colour = score_colour(share) if np.isfinite(share) else MISSING
                dark = np.isfinite(share) and share > 0.55
                axes.add_patch(Rectangle((k, i), 1, 1, facecolor=colour, edgecolor="white", lw=2))
                style = {"ha": "center", "va": "center", "fontsize": 8.5}
                shade = "white" if dark else "0.15" if column in row else "0.5"
                axes.text(k + 0.5, i + 0.5, words, color=shade, **style)
        axes.set(xlim=(0, len(columns)), ylim=(len(cells), 0))
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
        axes.set_yticks(np.arange(len(cells)) + 0.5, list(cells))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)


def draw_learning(
    axes: Axes,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ends: Mapping[str, tuple[float, float]],
    levels: Mapping[str, float],
    *,
    dashed: Sequence[str] = (),
    title: str = "",
    unit: str = "",
) -> None:
    """Draw the learning curves of runs, and the score of each as it was measured at its end.

    Args:
        axes: where to draw.
        curves: run, named `<algorithm>-<game>-<run>` -> (cost `[n]`, score `[n]`).
        ends: run -> (cost, score).
        levels: name -> score of a grey line.
        dashed: runs whose curve counts something else than whole games.
        title: of the axes.
        unit: of the cost.
    """
    with house_style():
        for name, (cost, score) in curves.items():
            style = {"ls": "--" if name in dashed else "-", "lw": 1.3, "alpha": 0.85}
            axes.plot(cost, score, color=algorithm_colour(name), **style)
        for name, (cost, score) in ends.items():
            algorithm = name.rsplit("-", 2)[0]
            style = {"ms": 6.5, "mec": "white", "mew": 0.8, "zorder": 3}
            colour = algorithm_colour(algorithm)
            axes.plot(cost, score, MARKERS.get(algorithm, "*"), color=colour, **style)
        for name, level in levels.items():
            axes.axhline(level, color=CHANCE, lw=1, ls=":")
            place = {"xycoords": ("axes fraction", "data"), "fontsize": 7.5, "color": CHANCE}
            axes.annotate(name, (1.01, level), ha="left", va="center", **place)
        if not ends:
            style = {"transform": axes.transAxes, "ha": "center", "va": "center", "color": "0.5"}
            axes.text(0.5, 0.5, "not trained", **style)
        axes.margins(y=0.14)
        axes.set_xlim(left=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(unit)


def draw_strip(axes: Axes, strip: np.ndarray, title: str) -> None:
    """Draw the strip of `ram_strip`, time running down."""
    with house_style():
        axes.imshow(strip, aspect="auto", interpolation="antialiased")
        axes.set_xticks([0, strip.shape[1] - 1], ["bit 0", f"{strip.shape[1] - 1}"])
        axes.set_title(title, fontsize=10)
        axes.grid(False)


def ram_strip(ram: np.ndarray) -> np.ndarray:
    """Unfurl RAM `[T, 128]` uint8 into a picture `[T, 1024, 3]`: a row a step, a column a bit.

    The bits of a byte stand side by side, the most significant first, as in Figure 1c of Such et
    al. (2019). A bit that is 1 is white.
    """
    return np.repeat(255 * np.unpackbits(ram, axis=1)[..., None], 3, 2).astype(np.uint8)


def filters_picture(weight: np.ndarray, columns: int = 2, factor: int = 4) -> np.ndarray:
    """Draw filters of stacked screens: a filter is a row of C small pictures, oldest first.

    Args:
        weight: `[n, C, kh, kw]`. One scale for all: mid-grey is 0, black and white the largest.
        columns: of filters.
        factor: every weight becomes factor x factor px.

    Returns:
        `[h, w, 3]` uint8.
    """
    count, screens, height, width = weight.shape
    rows = -(-count // columns)
    wide = screens * (width + GAP) + 2 * GAP
    picture = np.full((rows * (height + GAP), columns * wide), np.nan)
    for index, one in enumerate(weight):
        top, left = index // columns * (height + GAP), index % columns * wide
        for k, part in enumerate(one):
            at = left + k * (width + GAP)
            picture[top : top + height, at : at + width] = part
    picture = picture[:-GAP, : -3 * GAP]
    scaled = 127.5 + 127.5 * np.nan_to_num(picture) / (np.abs(weight).max() or 1)
    grey = np.where(np.isnan(picture), 255, scaled).round().astype(np.uint8)
    return enlarge(grey[..., None].repeat(3, -1), factor)


def outlined(
    image: np.ndarray, box: Sequence[float], colour: Sequence[int] = (255, 70, 40)
) -> np.ndarray:
    """Return a copy of a picture `[h, w, 3]` uint8 with the outline of a box drawn on it.

    Args:
        image: the picture.
        box: (top, bottom, left, right) px, half-open; parts outside of the picture are cut off.
        colour: RGB.
    """
    image = image.copy()
    top, bottom, left, right = (round(edge) for edge in box)
    top, left = max(top, 0), max(left, 0)
    bottom, right = min(bottom, image.shape[0]), min(right, image.shape[1])
    image[[top, bottom - 1], left:right] = colour
    image[top:bottom, [left, right - 1]] = colour
    return image


def tiles(channels: np.ndarray, columns: int, largest: float, cell: int = 1) -> np.ndarray:
    """Draw channels `[K, h, w]` as small pictures in rows: uint8 `[H, W, 3]`.

    Args:
        channels: from 0 (black) on.
        columns: pictures in a row.
        largest: the activation that is drawn brightest, the same for all moments of a film.
        cell: px of one number.
    """
    count, height, width = channels.shape
    rows, (down, along) = -(-count // columns), (height * cell + GAP, width * cell + GAP)
    picture = np.full((rows * down - GAP, columns * along - GAP, 3), 70, np.uint8)
    coloured = (255 * WARM(np.clip(channels / (largest or 1), 0, 1))[..., :3]).round()
    for index, one in enumerate(coloured.astype(np.uint8)):
        top, left = index // columns * down, index % columns * along
        picture[top : top + down - GAP, left : left + along - GAP] = enlarge(one, cell)
    return picture


def activation_film(
    frames: np.ndarray, layers: Mapping[str, np.ndarray], words: Sequence[str] = ()
) -> np.ndarray:
    """Show the game beside every layer of the network, each layer with one scale for all moments.

    Args:
        frames: `[T, 210, 160, 3]` uint8.
        layers: name -> activations from 0 on: `[T, K, h, w]` of a convolution, `[T, K]` of others.
        words: T lines below the game.

    Returns:
        `[T, H, W, 3]` uint8 with even sides.
    """
    font, film = _font(13), []
    largest = {name: float(values.max()) for name, values in layers.items()}
    for t in range(len(frames)):
        parts = {}
        for name, values in layers.items():
            channels = values[t] if values.ndim == 4 else values[t][:, None, None]
            wide = channels.shape[-1] >= 16
            columns = 8 if wide else 16 if channels.shape[-1] > 1 else 32
            cell = 2 if values.ndim == 4 else 9
            parts[name] = tiles(channels, columns, largest[name], cell)
        height = max(460, sum(part.shape[0] + 22 for part in parts.values()) + 6)
        right = max(part.shape[1] for part in parts.values())
        canvas = Image.new("RGB", (320 + 24 + right + right % 2 + 8, height + height % 2))
        draw = ImageDraw.Draw(canvas)
        canvas.paste(Image.fromarray(enlarge(frames[t], 2)), (8, 18))
        top = 2
        for name, part in parts.items():
            draw.text((340, top), name, fill="white", font=font)
            canvas.paste(Image.fromarray(part), (340, top + 18))
            top += part.shape[0] + 22
        if len(words):
            draw.text((10, 442), words[t], fill="white", font=font)
        film.append(np.asarray(canvas))
    return np.stack(film)


def clip_grid(
    clips: Mapping[tuple[str, str], np.ndarray],
    shares: Mapping[tuple[str, str], float],
    words: Mapping[tuple[str, str], str],
) -> np.ndarray:
    """Set clips in a grid, each framed in the colour of its score; an empty place says so.

    Args:
        clips: (row, column) -> `[T, h, w, 3]` uint8, all of one size; a shorter one stops at its
            last frame.
        shares: human-normalised score of each.
        words: below each.

    Returns:
        `[T, H, W, 3]` uint8 with even sides.
    """
    rows, columns = (list(dict.fromkeys(key[axis] for key in words)) for axis in (0, 1))
    length = max((len(clip) for clip in clips.values()), default=1)
    height, width = next((clip.shape[1:3] for clip in clips.values()), (105, 80))
    edge, head, side, line = 3, 18, 62, 16
    down, along = height + 2 * edge + line, width + 2 * edge + 6
    size = (side + along * len(columns), head + down * len(rows))
    base = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), "white")
    draw, small = ImageDraw.Draw(base), _font(10)
    for k, column in enumerate(columns):
        draw.text((side + k * along + 2, 3), column, fill="black", font=_font(12))
    for i, row in enumerate(rows):
        draw.text((4, head + i * down + height // 2), row, fill="black", font=_font(11))
        for k, column in enumerate(columns):
            top, left = head + i * down, side + k * along
            there = (row, column) in clips
            share = shares.get((row, column), np.nan)
            colour = score_colour(share) if np.isfinite(share) else (0.93, 0.93, 0.93)
            box = (left, top, left + width + 2 * edge - 1, top + height + 2 * edge - 1)
            draw.rectangle(box, fill=tuple(round(255 * part) for part in colour))
            shade = "black" if there else "#888888"
            told = words.get((row, column), "not trained")
            draw.text((left + 1, top + height + 2 * edge + 1), told, fill=shade, font=small)
    film = np.repeat(np.asarray(base)[None], length, 0)
    for (row, column), clip in clips.items():
        top, left = (
            head + rows.index(row) * down + edge,
            side + columns.index(column) * along + edge,
        )
        still = np.minimum(np.arange(length), len(clip) - 1)
        film[:, top : top + height, left : left + width] = clip[still]
    return film


def halved(frames: np.ndarray) -> np.ndarray:
    """Return `[T, h, w, 3]` uint8 at half the size: each pixel the brightest of its 2 x 2.

    Deviation from averaging: the ball and the score stay visible.
    """
    time, height, width, _ = frames.shape
    return frames.reshape(time, height // 2, 2, width // 2, 2, 3).max((2, 4))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
