"""Figures and movies as files whose bytes depend on their content alone."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import imageio_ffmpeg
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from atarilens.paths import BUILD, whole_file
from atarilens.views.layouts import DPI
from atarilens.views.screens import enlarge

GIF_BYTES = 2_000_000
# 86 levels per channel, black and white among them: fewer bytes, and no difference to the eye.
COARSE = [round(value / 3) * 3 for value in range(256)]
DIGITS = 4  # significant digits of every number in a JSON


def rounded(value, digits: int = DIGITS):
    """Turn arrays and numbers, however nested, into what JSON holds; floats to `digits` digits."""
    if isinstance(value, Mapping):
        return {str(key): rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return rounded(value.tolist(), digits)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(entry, digits) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if np.isfinite(value) else None
    return value


def provenance(*agents) -> dict:
    """Return the sha256 and the settings of each agent, by name, for a figure's JSON.

    Args:
        agents: each with `.name`, `.facts` and `.settings`, as `agents.Agent`.
    """
    return {
        "agents": {agent.name: agent.facts.get("sha256") for agent in agents},
        "settings": {agent.name: agent.settings.as_dict() for agent in agents},
    }


def output_folder(out_dir: str | Path, name: str) -> Path:
    """Return the folder of a notebook's files: `out_dir`, or `build/<name>` if that is empty."""
    return Path(out_dir or BUILD / name)


def publish(
    fig: Figure, name: str, numbers: Mapping, agents: Sequence = (), out_dir: str | Path = ""
):
    """Write a notebook's figure with the numbers and agents behind it, and show it.

    Args:
        fig: the figure.
        name: of the notebook, for the default folder.
        numbers: see `save_figure`; the agents' sha256 and settings are added.
        agents: see `provenance`.
        out_dir: see `output_folder`. The files are named after the folder.

    Returns:
        The picture, which a notebook shows if this is the last expression of a cell.
    """
    from IPython.display import Image as Picture  # only notebooks need it

    folder = output_folder(out_dir, name)
    path = save_figure(fig, folder, folder.name, dict(numbers) | provenance(*agents))
    return Picture(path, width=900)


def save_figure(fig: Figure, out_dir: str | Path, stem: str, numbers: Mapping) -> Path:
    """Write `<stem>.png` and the numbers behind it, `<stem>.json`; equal input, equal bytes.

    Args:
        fig: the figure; its file carries no date and no software version.
        out_dir: folder, created if missing. Nothing is written elsewhere.
        stem: file name without ending; the name of the params file.
        numbers: what the figure claims, with the agents' sha256 and the settings. Arrays become
            lists, floats keep 4 significant digits (`digits` in the file), keys are sorted.

    Returns:
        Path of the PNG.
    """
    content = {"digits": DIGITS, **rounded(numbers)}
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    path = Path(out_dir) / f"{stem}.png"
    drawn = io.BytesIO()
    fig.savefig(drawn, dpi=DPI, metadata={"Software": None}, facecolor="white")
    with whole_file(path.with_suffix(".json")) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
    with whole_file(path) as beside:
        Image.open(drawn).convert("RGB").point(COARSE * 3).save(beside, "PNG", optimize=True)
    return path


def movie_frames(
    columns: Mapping[str, np.ndarray],
    captions: Sequence[str] = (),
    *,
    factor: int = 2,
) -> np.ndarray:
    """Set moving screens side by side under their titles, with a line of words below each frame.

    Args:
        columns: title -> `[T, h, w, 3]` uint8, all of one shape.
        captions: T lines, or none.
        factor: every screen pixel becomes factor x factor (nearest neighbour).

    Returns:
        `[T, height, width, 3]` uint8 with even height and width, as video encoders ask.
    """
    font_file = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    font = ImageFont.truetype(str(font_file), 7 * factor)
    length, height, width = next(iter(columns.values())).shape[:3]
    band, gap = 11 * factor, 4 * factor
    size = (len(columns) * (width * factor + gap) - gap, height * factor + 2 * band)
    frames = np.zeros((length, size[1], size[0], 3), np.uint8)
    for t in range(length):
        canvas = Image.new("RGB", size, "black")
        draw = ImageDraw.Draw(canvas)
        for i, (title, screens) in enumerate(columns.items()):
            left = i * (width * factor + gap)
            canvas.paste(Image.fromarray(enlarge(screens[t], factor)), (left, band))
            draw.text((left + 2, band // 2), title, fill="white", font=font, anchor="lm")
        if len(captions):
            draw.text((2, size[1] - band // 2), captions[t], fill="white", font=font, anchor="lm")
        frames[t] = np.asarray(canvas)
    return frames


def save_movie(frames: np.ndarray, path: str | Path, fps: int = 8) -> Path:
    """Write `[T, height, width, 3]` uint8 frames as a GIF of at most 2 MB or as an MP4.

    A GIF has as many of 256, 128, 64 or 32 colours per frame as fit.

    Raises:
        ValueError: if the ending is another, or 32 colours still make a GIF over 2 MB.
    """
    path = Path(path)
    if path.suffix == ".mp4":
        with whole_file(path) as beside:
            write_mp4(frames, beside, fps)
        return path
    if path.suffix != ".gif":
        raise ValueError(f"a movie ends in .gif or .mp4, received {path.name!r}")
    for colours in (256, 128, 64, 32):
        encoded = gif(frames, fps, colours)
        if len(encoded) <= GIF_BYTES:
            with whole_file(path) as beside:
                beside.write_bytes(encoded)
            return path
    raise ValueError(
        f"{len(frames)} frames make a GIF of {len(encoded)} bytes, expected at most {GIF_BYTES}: "
        "show fewer steps"
    )


def gif(frames: np.ndarray, fps: float = 15, colours: int = 256) -> bytes:
    """Encode `[T, h, w, 3]` uint8 as a looping GIF, for example for a TensorBoard summary.

    It is lossless if all frames together have at most `colours` colours, as a game's screens have.
    Otherwise each frame gets the best palette for itself, so that the smooth flanks of a saliency
    map do not turn into rings. Equal neighbouring frames become one of longer duration.
    """
    packed = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    present = np.zeros(1 << 24, bool)
    present[packed.reshape(-1)] = True
    shared = np.flatnonzero(present)
    if len(shared) <= colours:
        palette = np.stack((shared >> 16, shared >> 8 & 255, shared & 255), 1).astype(np.uint8)
        images = [Image.fromarray(np.searchsorted(shared, p).astype(np.uint8)) for p in packed]
        for image in images:
            image.putpalette(palette.tobytes())
    else:
        none = Image.Dither.NONE
        images = [Image.fromarray(frame).quantize(colours, dither=none) for frame in frames]
    buffer = io.BytesIO()
    duration = round(1000 / fps, -1)  # ms; a GIF counts in hundredths of a second
    style = {"save_all": True, "append_images": images[1:], "duration": duration, "loop": 0}
    images[0].save(buffer, "GIF", **style)
    return buffer.getvalue()


def write_mp4(frames: np.ndarray, path: Path, fps: int) -> None:
    """Write H.264 with one thread and no metadata, so that equal frames give equal bytes."""
    height, width = frames.shape[1:3]
    exact = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-crf", "20"]
    exact += ["-f", "mp4"]  # whatever the ending
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, macro_block_size=2, output_params=exact
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
