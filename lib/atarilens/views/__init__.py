"""Arrays to pictures: overlays, figures in one house style, deterministic files and movies."""

from atarilens.views.attention import (
    attention_film,
    attention_input,
    attention_networks_figure,
    attention_screen,
)
from atarilens.views.charts import (
    ROLES,
    draw_ages,
    draw_courses,
    draw_differences,
    draw_heatmap,
    draw_slopes,
    draw_strips,
    name_lines,
    role_colour,
)
from atarilens.views.families import (
    algorithm_colour,
    draw_accuracies,
    draw_attention,
    draw_falls,
    draw_matrix,
    draw_nothing,
    draw_points,
    name_algorithms,
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
from atarilens.views.interventions import branches_figure, shares_figure
from atarilens.views.layouts import (
    Plot,
    curves_figure,
    page,
    screens_figure,
)
from atarilens.views.rankings import ranking_figure
from atarilens.views.screens import (
    Panel,
    common_gain,
    describe_gain,
    enlarge,
    motion_arrow,
    overlay,
)

__all__ = [
    "ROLES",
    "GalleryRow",
    "Panel",
    "Plot",
    "algorithm_colour",
    "attention_film",
    "attention_input",
    "attention_networks_figure",
    "attention_screen",
    "branches_figure",
    "common_gain",
    "curves_figure",
    "describe_gain",
    "draw_accuracies",
    "draw_ages",
    "draw_attention",
    "draw_courses",
    "draw_differences",
    "draw_falls",
    "draw_heatmap",
    "draw_matrix",
    "draw_nothing",
    "draw_points",
    "draw_slopes",
    "draw_strips",
    "enlarge",
    "gallery_figure",
    "gif",
    "grey_pictures",
    "motion_arrow",
    "movie_frames",
    "name_algorithms",
    "name_lines",
    "output_folder",
    "overlay",
    "page",
    "provenance",
    "publish",
    "ranking_figure",
    "role_colour",
    "save_figure",
    "save_movie",
    "screens_figure",
    "shares_figure",
]
