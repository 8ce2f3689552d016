"""Pictures of the zoo: every bit, every filter and every clip is where it should be."""

import numpy as np
from matplotlib.figure import Figure

from atarilens.views import (
    activation_film,
    clip_grid,
    draw_learning,
    draw_score_table,
    filters_picture,
    halved,
    outlined,
    ram_strip,
)
from atarilens.views.zoo import WARM, score_colour


def test_a_strip_of_ram_has_a_column_for_each_bit():
    ram = np.zeros((2, 128), np.uint8)
    ram[1, 3] = 0b1000_0001
    strip = ram_strip(ram)
    assert strip.shape == (2, 1024, 3)
    assert np.flatnonzero(strip[1, :, 0]).tolist() == [24, 31]
    assert not strip[0].any()


def test_filters_stand_in_rows_oldest_screen_first():
    weight = np.zeros((2, 4, 2, 2))
    weight[0, 3], weight[1, 0] = 1.0, -0.5
    picture = filters_picture(weight, columns=1, factor=1)
    assert picture.shape == (5, 11, 3)
    assert (picture[:2, 9:11] == 255).all()
    assert (picture[3:, :2] == 64).all()
    assert (picture[:2, :2] == 128).all()


def test_each_layer_of_a_film_keeps_one_scale():
    frames = np.zeros((2, 210, 160, 3), np.uint8)
    units = np.array([[0.0, 1.0], [0.0, 2.0]])
    film = activation_film(frames, {"dense": units})
    assert film.shape[1] % 2 == film.shape[2] % 2 == 0
    brightest = (255 * np.array(WARM(1.0)[:3])).round().astype(np.uint8)
    found = [(frame == brightest).all(-1).sum() for frame in film]
    assert found == [0, 81]  # the second moment alone reaches the largest activation


def test_clips_stand_in_their_places_framed_by_score_and_missing_ones_say_so():
    colour = np.array([7, 200, 30], np.uint8)
    clip = np.broadcast_to(colour, (3, 10, 8, 3))
    words = {("Pong", "ppo"): "-3.6", ("Pong", "es"): "not trained"}
    film = clip_grid({("Pong", "ppo"): clip}, {("Pong", "ppo"): 1.0}, words)
    assert len(film) == 3
    assert (film[0] == colour).all(-1).sum() == 80
    frame = np.round(255 * np.array(score_colour(1.0))).astype(np.uint8)
    assert (film[0] == frame).all(-1).sum() >= 16 * 14 - 80
    assert score_colour(2.0) == score_colour(1.0)
    assert score_colour(-1.0) == score_colour(0.0)


def test_a_ball_survives_halving_and_a_box_is_cut_at_the_edge():
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    frames[0, 1, 2] = 200
    np.testing.assert_array_equal(halved(frames)[0, :, :, 0], [[0, 200], [0, 0]])
    image = outlined(np.zeros((6, 6, 3), np.uint8), (-2, 3, 2, 9))
    assert image[0, 2:, 0].tolist() == [255] * 4
    assert not image[3:].any()


def test_a_missing_cell_says_so():
    axes = Figure().subplots()
    draw_score_table(axes, {"ppo": {"Pong": ("-3.6", 0.5)}, "es": {}}, ["Pong"])
    assert [text.get_text() for text in axes.texts] == ["-3.6", "not trained"]
    axes = Figure().subplots()
    draw_learning(axes, {}, {}, {"random": 0.0}, unit="frames")
    assert "not trained" in [text.get_text() for text in axes.texts]
    assert axes.get_xlabel() == "frames"
