"""A picture widget that reports clicks, in JupyterLab and Voilà; it fetches nothing."""

from pathlib import Path

import anywidget
import ipywidgets
import traitlets

HERE = Path(__file__).parent


class Picture(anywidget.AnyWidget):
    """A picture with drawings above it, which reports clicks and keys.

    Attributes:
        image: PNG; may be empty.
        drawing: SVG above it.
        cursor: position of a vertical line, as a share of the width; negative: no line.
        label: text for screen readers.
        drag: whether moving with the button held counts as clicking.
        event: the last click ("x", "y": shares of width and height) or key ("key", "shift").
    """

    _esm = (HERE / "picture.js").read_text(encoding="utf-8")
    _css = (HERE / "picture.css").read_text(encoding="utf-8")
    image = traitlets.Bytes().tag(sync=True)
    drawing = traitlets.Unicode().tag(sync=True)
    cursor = traitlets.Float(-1.0).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    drag = traitlets.Bool(False).tag(sync=True)
    event = traitlets.Dict().tag(sync=True)


def style() -> ipywidgets.HTML:
    """Return the style sheet, for a page without a `Picture`."""
    return ipywidgets.HTML(f"<style>{Picture._css}</style>", layout={"display": "none"})
