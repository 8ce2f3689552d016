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

from atarilens.views.layouts import DPI
from atarilens.views.screens import enlarge

GIF_BYTES = 2_000_000
# 32 levels per channel, black and white among them: half the bytes, and no difference to the eye.
COARSE = [round(round(value * 31 / 255) * 255 / 31) for value in range(256)]
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
    """Return what every figure's JSON says of its agents: sha256 by name, and their settings.

    Args:
        agents: each with `.name`, `.facts` and `.settings`, as `agents.Agent`.
    """
    return {
        "agents": {agent.name: agent.facts.get("sha256") for agent in agents},
        "settings": {agent.name: agent.settings.as_dict() for agent in agents},
    }


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
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    content = {"digits": DIGITS, **rounded(numbers)}
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (out_dir / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
    path = out_dir / f"{stem}.png"
    drawn = io.BytesIO()
    fig.savefig(drawn, dpi=DPI, metadata={"Software": None}, facecolor="white")
    Image.open(drawn).convert("RGB").point(COARSE * 3).save(path, optimize=True)
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

    A GIF takes as many of 128, 64 or 32 colours (one palette for all frames) as fit.

    Raises:
        ValueError: for another ending, or where even 32 colours make a GIF over 2 MB.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        for colours in (128, 64, 32):
            write_gif(frames, path, fps, colours)
            if path.stat().st_size <= GIF_BYTES:
                return path
        size = path.stat().st_size
        path.unlink()
        raise ValueError(
            f"{len(frames)} frames make a GIF of {size} bytes, expected at most {GIF_BYTES}: "
            "show fewer steps"
        )
    if path.suffix == ".mp4":
        write_mp4(frames, path, fps)
        return path
    raise ValueError(f"a movie ends in .gif or .mp4, received {path.name!r}")


def write_gif(frames: np.ndarray, path: Path, fps: int, colours: int) -> None:
    """Write a looping GIF with one palette, taken from eight frames spread over the movie."""
    chosen = frames[np.linspace(0, len(frames) - 1, 8).astype(int)]
    palette = Image.fromarray(np.concatenate(chosen)).quantize(colours, dither=Image.Dither.NONE)
    images = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0
    )


def write_mp4(frames: np.ndarray, path: Path, fps: int) -> None:
    """Write H.264 with one thread and no metadata, so that equal frames give equal bytes."""
    height, width = frames.shape[1:3]
    exact = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-crf", "20"]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, macro_block_size=2, output_params=exact
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
