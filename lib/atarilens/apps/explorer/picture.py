"""A picture widget that can be clicked: in JupyterLab and Voilà alike, nothing is fetched."""

from pathlib import Path

import anywidget
import ipywidgets
import traitlets

HERE = Path(__file__).parent


class Picture(anywidget.AnyWidget):
    """A picture with drawings above it, which tells where it was clicked.

    Attributes:
        image: PNG; may be empty.
        drawing: SVG above it.
        cursor: share of the width at which a vertical line stands; negative: none.
        label: what a screen reader says.
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
    """Return the page's style sheet, for a page without a `Picture`, which brings it."""
    return ipywidgets.HTML(f"<style>{Picture._css}</style>", layout={"display": "none"})
