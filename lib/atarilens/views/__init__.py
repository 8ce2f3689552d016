"""Arrays to pictures: overlays, figures in one house style, deterministic files and movies."""

from atarilens.views.attention import (
    attention_film,
    attention_input,
    attention_networks_figure,
    attention_screen,
)
from atarilens.views.files import (
    gif,
    movie_frames,
    output_folder,
    provenance,
    publish,
    save_figure,
    save_movie,
)
from atarilens.views.galleries import GalleryRow, gallery_figure, grey_pictures
from atarilens.views.layouts import (
    attention_figure,
    curves_figure,
    learning_figure,
    memory_figure,
    screens_figure,
    variants_figure,
)
from atarilens.views.screens import (
    Panel,
    common_gain,
    describe_gain,
    enlarge,
    motion_arrow,
    overlay,
)

__all__ = [
    "GalleryRow",
    "Panel",
    "attention_figure",
    "attention_film",
    "attention_input",
    "attention_networks_figure",
    "attention_screen",
    "common_gain",
    "curves_figure",
    "describe_gain",
    "enlarge",
    "gallery_figure",
    "gif",
    "grey_pictures",
    "learning_figure",
    "memory_figure",
    "motion_arrow",
    "movie_frames",
    "output_folder",
    "overlay",
    "provenance",
    "publish",
    "save_figure",
    "save_movie",
    "screens_figure",
    "variants_figure",
]
