import hashlib
import json
import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import seaborn
from matplotlib.colors import to_hex
from PIL import Image

from atarilens import views
from atarilens.views import layouts

REGION = (35, 195, 0, 160)
BLACK = np.zeros((210, 160, 3), np.uint8)


def maps_with(actor=(), critic=()):
    """Give maps of 80 x 80 that are 1 on the listed pixels and 0 elsewhere."""
    both = np.zeros((2, 80, 80), np.float32)
    for head, pixels in zip(both, (actor, critic), strict=True):
        for row, column in pixels:
            head[row, column] = 1
    return SimpleNamespace(actor=both[0], critic=both[1])


def test_actor_lights_blue_and_critic_red_where_their_pixels_are():
    maps = maps_with(actor=[(10, 60)], critic=[(70, 5)])
    image = views.overlay(BLACK, maps, REGION, gain=100, palette="paper")
    assert image.dtype == np.uint8
    assert image.shape == (210, 160, 3)
    red, green, blue = np.moveaxis(image.astype(int), 2, 0)
    assert not green.any()
    # Observation pixel (i, j) covers screen rows 35 + 2i, 35 + 2i + 1 and columns 2j, 2j + 1.
    for channel, (i, j) in ((blue, (10, 60)), (red, (70, 5))):
        rows, columns = np.nonzero(channel == channel.max())
        assert (rows.min(), rows.max()) == (35 + 2 * i, 36 + 2 * i)
        assert (columns.min(), columns.max()) == (2 * j, 2 * j + 1)
        weights = channel / channel.sum()
        assert (weights.sum(1) @ np.arange(210)) == pytest.approx(35.5 + 2 * i)
        assert (weights.sum(0) @ np.arange(160)) == pytest.approx(0.5 + 2 * j)


def test_overlay_is_linear_in_the_gain_and_adds_to_the_screen():
    constant = SimpleNamespace(actor=np.full((80, 80), 0.5), critic=np.full((80, 80), 2.0))
    screen = np.full((210, 160, 3), 20, np.uint8)
    image = views.overlay(screen, constant, REGION, gain=(100, 30), palette="paper")
    assert image[100, 80].tolist() == [20 + 60, 20, 20 + 50]
    assert (image[:35] == 20).all()
    assert (image[195:] == 20).all()
    assert (screen == 20).all()


def test_overlay_saturates_and_never_wraps_around():
    huge = SimpleNamespace(actor=np.full((80, 80), 1e9, np.float32), critic=None)
    light = np.full((210, 160, 3), 200, np.uint8)
    image = views.overlay(light, huge, REGION, gain=1e3, palette="paper")
    assert (image[35:195, :, 2] == 255).all()
    assert (image[..., 0] == 200).all()


def test_the_clear_palette_draws_each_head_in_its_colour_over_a_grey_screen():
    maps = maps_with(actor=[(10, 60), (30, 30)], critic=[(70, 5), (30, 30)])
    brown = np.full((210, 160, 3), (144, 72, 17), np.uint8)
    image = views.overlay(brown, maps, REGION, gain=1e9)
    grey = round(0.6 * (0.299 * 144 + 0.587 * 72 + 0.114 * 17))
    assert (image[:35] == grey).all()  # outside of the region, too
    assert image[55, 120].tolist() == [46, 137, 255]
    assert image[175, 10].tolist() == [255, 94, 36]
    assert image[95, 60].tolist() == [255, 231, 255]  # both: nearly white
    half = views.overlay(BLACK, maps_with(actor=[(10, 60)]), REGION, gain=127.5)
    full = views.overlay(BLACK, maps_with(actor=[(10, 60)]), REGION, gain=255)
    np.testing.assert_allclose(2.0 * half, full, atol=1)  # linear in the gain


def test_overlay_says_what_it_received():
    with pytest.raises(ValueError, match="palette is 'loud', expected 'clear' or 'paper'"):
        views.overlay(BLACK, maps_with(), REGION, gain=1, palette="loud")
    with pytest.raises(ValueError, match=r"uint8 \[210, 160, 3\], received float64 \[210, 160\]"):
        views.overlay(np.zeros((210, 160)), maps_with(), REGION, gain=1)
    stack = SimpleNamespace(actor=np.zeros((4, 80, 80)), critic=None)
    with pytest.raises(ValueError, match=r"a map must be \[H, W\], received \[4, 80, 80\]"):
        views.overlay(BLACK, stack, REGION, gain=1)


def test_common_gain_draws_the_quantile_of_all_panels_full():
    first = SimpleNamespace(actor=np.arange(100.0), critic=np.zeros(100))
    second = SimpleNamespace(actor=np.arange(100.0, 200.0), critic=np.zeros(100))
    actor, critic = views.common_gain([first, second], quantile=1.0)
    assert actor == pytest.approx(255 / 199)
    assert critic == 0
    assert views.common_gain([SimpleNamespace(actor=np.ones(4), critic=None)]) == (255, 0)
    assert views.describe_gain((12.34, 0)) == "Gain: 12.3 grey levels per squared logit (actor)."
    assert "9,231 per squared value (critic)" in views.describe_gain((2, 9231.4))


def panels(n=4):
    screens = np.random.default_rng(0).integers(0, 255, (n, 210, 160, 3)).astype(np.uint8)
    marks = {"arrow": ((100, 80), (120, 60)), "circle": (50, 50, 10), "box": (37, 41, 72, 98)}
    return [views.Panel(s, title=f"step {i}", note="n", **marks) for i, s in enumerate(screens)]


def every_figure():
    words = {"caption": "Words. " * 60}
    yield views.screens_figure([panels(), panels(6)], headings=["a", "b"], **words)
    yield views.curves_figure(
        {"run": (np.arange(3), np.arange(3))},
        {"strong": (2, 2, 1, 3)},
        x_label="steps",
        y_label="score",
        levels={"random": 0},
        title="The score rises",
    )
    yield a_matrix(**words)


def a_matrix(**words):
    table = {
        "Is it a question of some length?": {"one": (1.0, "●●●"), "another": (np.nan, "–")},
        "Another?": {"one": (0.0, "○"), "a control of a long name": (0.2, "3 ms")},
    }
    columns = {"maps": ["one", "another"], "controls": ["a control of a long name"]}
    notes = {"Another?": "in all games: no map"}
    title = "What the table says, in a sentence"
    return views.matrix_figure(
        table, title=title, notes=notes, columns=columns, breaks={"Another?"}, **words
    )


def a_page():
    """Draw a page with every kind of chart."""
    test = {"low": -1.0, "high": 2.0, "difference": 0.5, "outcome": "undecided"}
    plots = [views.Plot(2.0)] * 3
    rows = [[*panels(2), views.Plot()], plots, plots[:2]]
    figure, axes = views.page("The finding of this page in one sentence", rows, note="n = 3 games")
    views.draw_slopes(axes[0], {"agent": {"with": (2, 1, 3), "without": (0, -1, 1)}}, label="score")
    lags = np.arange(-3, 4)
    table = np.arange(21.0).reshape(3, 7)
    views.draw_courses(axes[1], {"agent": table, "untrained": -table}, lags, windows=[(-2, -1)])
    views.draw_heatmap(axes[2], table, lags, label="times the mean")
    views.draw_differences(axes[3], {"ball": {"untrained": test, "other times": test}}, unit="NSS")
    strips, ends = {"actor": [1, 2, 3]}, {"actor": (2, 1, 3)}
    views.draw_strips(axes[4], strips, ends, {"actor": views.ROLES["actor"]}, label="px")
    ages = np.array([[0.0, -1, 1], [1, 0, 2]])
    views.draw_ages(axes[5], {"actor": ages, "critic": ages}, ["0 M", "2 M"])
    return figure


def test_a_page_keeps_title_panels_and_charts_apart_and_inside():
    figure = a_page()
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= -0.01
    title = figure.texts[0].get_window_extent()
    note = figure.texts[1].get_window_extent()
    for part in figure.subfigs:
        for axes in part.axes:
            box = axes.get_tightbbox()
            assert box.y1 <= title.y0 + 1
            assert box.y0 >= note.y1 - 1
    assert figure.texts[0].get_text() == "The finding of this page in one sentence"


def test_every_role_has_one_colour():
    assert views.role_colour("untrained network") == views.ROLES["untrained"]
    assert views.role_colour("boxes of other times") == views.ROLES["other times"]
    assert views.role_colour("actor, corrected") == views.ROLES["actor"]
    assert views.role_colour("somebody") == "0.2"


def test_every_layout_keeps_its_words_inside_the_page():
    for figure in every_figure():
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= 0


def test_the_score_of_a_run_has_the_colour_of_its_curve():
    curves = {name: (np.arange(3), np.arange(3)) for name in ("one", "two")}
    scores = {name: (2, 2, 1, 3) for name in ("two", "another")}
    words = {"x_label": "steps", "y_label": "score", "levels": {}, "title": "Words"}
    axes = views.curves_figure(curves, scores, **words).subfigs[0].axes[0]
    one, two = (line.get_color() for line in axes.lines[:2])
    points = [container.lines[0].get_color() for container in axes.containers]
    assert points == [two, "0.15"]
    assert one != two


def test_a_legend_of_scores_names_a_run_once_and_rounds_to_a_tenth():
    curves = {name: (np.arange(3), np.arange(3)) for name in ("one", "two")}
    words = {"x_label": "steps", "y_label": "score", "levels": {}, "title": "Words"}
    figure = views.curves_figure(curves, {"two": (2, 9.4666, 1, 30)}, **words)
    axes = figure.subfigs[0].axes[0]
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(told) == ["in training", "one, in training", "two: 9.5"]


def test_the_cells_of_a_matrix_stand_in_their_rows_and_columns_and_are_shaded():
    (axes,) = a_matrix().axes
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places["●●●"][1] == places["–"][1] < places["○"][1] == places["3 ms"][1]
    assert places["●●●"][0] == places["○"][0] < places["–"][0] < places["3 ms"][0]
    assert places["3 ms"][0] - places["–"][0] > places["–"][0] - places["●●●"][0]  # groups
    full, unknown, none = (sum(patch.get_facecolor()[:3]) for patch in axes.patches[:3])
    assert full < none < unknown


def test_the_first_rank_is_at_the_top_of_both_orders():
    _, (axes,) = views.page("Two orders", [[views.Plot()]], heads=())
    colours = {"a": "#111111", "b": "#222222"}
    views.draw_ranks(axes, {"a": (1, 2), "b": (2, 1)}, ("theirs", "ours"), colours)
    bottom, top = axes.get_ylim()
    assert bottom > 2 > 1 > top
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 2], [2, 1]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["theirs", "ours"]


def test_bars_wear_no_colour_of_a_head():
    for colour in views.layouts.NEUTRAL:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert min(green - red, green - blue) > -90  # neither red, nor blue, nor magenta
        assert green > 50


def test_layouts_say_which_colour_is_which_head():
    legend = next(every_figure()).legends[0]
    words = [text.get_text() for text in legend.get_texts()]
    assert words[0].startswith("blue = actor")
    assert words[1].startswith("orange-red = critic")
    blue, red = (to_hex(patch.get_facecolor()) for patch in legend.get_patches()[:2])
    assert (blue, red) == (views.ROLES["actor"], views.ROLES["critic"])


def test_saved_figure_is_the_same_bytes_twice_and_carries_no_date(tmp_path):
    numbers = {"b": np.float32(1 / 3), "a": {"z": np.array([1, 2]), "n": np.nan}, "s": "x"}
    digests = []
    for run in ("one", "two"):
        path = views.save_figure(next(every_figure()), tmp_path / run, "stem", numbers)
        files = sorted((tmp_path / run).iterdir())
        assert [file.name for file in files] == ["stem.json", "stem.png"]
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]
    with Image.open(path) as picture:
        assert set(picture.info) <= {"dpi"}
    content = json.loads(path.with_suffix(".json").read_text())
    assert content == {"a": {"n": None, "z": [1, 2]}, "b": 0.3333, "digits": 4, "s": "x"}
    assert list(content) == sorted(content)


def test_movie_frames_show_the_screens_enlarged_side_by_side():
    left, right = (np.full((2, 210, 160, 3), level, np.uint8) for level in (80, 200))
    frames = views.movie_frames({"screen": left, "saliency": right}, ["", ""], factor=2)
    length, height, width, _ = frames.shape
    assert (length, height % 2, width % 2) == (2, 0, 0)
    assert (frames == 80).all(3).sum() >= 2 * 420 * 320
    middle = frames[0, height // 2, :, 0]
    assert middle[0] == 80
    assert middle[-1] == 200


def test_movies_are_small_exact_and_show_every_frame(tmp_path):
    frames = np.zeros((10, 64, 64, 3), np.uint8)
    frames[np.arange(10), np.arange(10), :, 0] = 255  # one red line, moving down
    for name in ("a.gif", "a.mp4"):
        first = views.save_movie(frames, tmp_path / name, fps=5).read_bytes()
        assert views.save_movie(frames, tmp_path / f"again-{name}", fps=5).read_bytes() == first
    with Image.open(tmp_path / "a.gif") as movie:
        assert movie.n_frames == 10
        assert movie.info["duration"] == 200
        movie.seek(7)
        red = np.asarray(movie.convert("RGB"))[..., 0]
    assert red[:, 0].argmax() == 7


def test_movies_refuse_other_formats_and_gifs_over_the_limit(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"ends in \.gif or \.mp4, received 'a\.avi'"):
        views.save_movie(np.zeros((1, 16, 16, 3), np.uint8), tmp_path / "a.avi")
    assert views.files.GIF_BYTES == 2_000_000
    monkeypatch.setattr(views.files, "GIF_BYTES", 20_000)
    noise = np.random.default_rng(0).integers(0, 255, (8, 70, 70, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match=r"8 frames make a GIF of \d+ bytes, expected at most"):
        views.save_movie(noise, tmp_path / "noise.gif")
    assert not (tmp_path / "noise.gif").exists()


def test_motion_arrow_starts_at_the_object_and_points_where_it_goes():
    box, later = np.array([[100, 104, 50, 52]]), np.array([[103, 107, 54, 56]])
    start, end = views.motion_arrow(box, later, length=10)
    assert start == (102, 51)
    assert end == pytest.approx((108, 59))
    assert views.motion_arrow(box, box) is None
    assert views.motion_arrow(box, np.zeros((0, 4))) is None


def test_the_house_style_is_seaborns_but_for_what_its_first_lines_name():
    wanted = {
        **seaborn.axes_style("ticks", {"axes.grid": True, "grid.color": "0.92"}),
        **seaborn.plotting_context("paper", rc={"font.size": 9, "axes.labelsize": 9}),
        **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8.5),
        "axes.titlesize": 9,
        "font.family": ["DejaVu Sans"],
    }
    del wanted["image.cmap"], wanted["font.sans-serif"]  # every figure names its own
    style = mpl.rc_params_from_file(layouts.HOUSE_STYLE, use_default_template=False)
    assert set(style) == set(wanted)
    for name, value in wanted.items():
        expected = pytest.approx(value) if isinstance(value, float) else value
        assert mpl.rcParams.validate[name](style[name]) == expected, name
    assert list(layouts.PALETTE) == seaborn.color_palette("colorblind").as_hex()
    with layouts.house_style():
        assert mpl.rcParams["axes.spines.top"] is False
    assert mpl.rcParams["axes.spines.top"] is True


def test_the_library_loads_without_the_packages_that_take_long():
    code = "import sys; from atarilens import measures, play, views; "
    code += "print({'pandas', 'seaborn', 'scipy.stats', 'ipywidgets'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
