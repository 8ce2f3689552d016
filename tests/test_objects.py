"""Attention by object: known answers on maps drawn by hand."""

import numpy as np
import pytest

from atarilens.measures.attention import attention_by_object, half_area
from atarilens.saliency import SaliencyMaps


def maps_of(actor, critic=None):
    actor = np.asarray(actor, np.float32)
    critic = None if critic is None else np.asarray(critic, np.float32)
    return SaliencyMaps(actor, critic, actor, critic)


def test_half_of_a_map_lies_on_the_smallest_area_that_holds_it():
    one, two = np.zeros((2, 10, 10))
    one[3, 4] = 7
    two[0, :4] = 1
    areas = half_area(np.stack([np.full((10, 10), 0.2), one, two, np.zeros((10, 10))]))
    assert areas[:3] == pytest.approx([0.5, 0.005, 0.02])
    assert np.isnan(areas[3])
    assert half_area(two) == pytest.approx(0.02)


def test_nss_of_one_bright_pixel():
    saliency = np.zeros((10, 10))
    saliency[2, 7] = 1
    attention = attention_by_object(
        maps_of(saliency), {"ball": [[2, 3, 7, 8]], "wall": [[9, 10, 0, 10]]}
    )
    assert attention["ball"].actor_nss == pytest.approx((1 - 0.01) / np.sqrt(0.01 * 0.99))
    assert attention["wall"].actor_nss == pytest.approx(-0.01 / np.sqrt(0.01 * 0.99))
    assert np.isnan(attention["ball"].critic_nss)
    assert np.isnan(attention["ball"].critic_share)


def test_partly_covered_pixels_count_partly():
    saliency = np.arange(16.0).reshape(4, 4)
    attention = attention_by_object(maps_of(saliency), {"ball": [[1, 2, 0.5, 2]]})
    expected = ((0.5 * 4 + 5) / 1.5 - saliency.mean()) / saliency.std()
    assert attention["ball"].actor_nss == pytest.approx(expected)


def test_saliency_goes_to_the_nearest_object_within_the_radius():
    saliency = np.zeros((20, 40))
    boxes = {"left": [[10, 11, 5, 6]], "right": [[10, 11, 11, 12]]}  # pixels (10, 5) and (10, 11)
    saliency[10, 7] = 3  # nearer to the left one
    saliency[10, 8] = 2  # as far from both
    saliency[10, 30] = 5  # beyond the radius of both
    attention = attention_by_object(maps_of(saliency, saliency.T[:20].repeat(2, 1)), boxes)
    rows, columns = np.mgrid[:20, :40]
    # The distance is from the centre of a pixel to the box, whose edge is half a pixel away.
    near = [
        np.hypot(np.clip(abs(rows - 10) - 0.5, 0, None), np.clip(abs(columns - x) - 0.5, 0, None))
        for x in (5, 11)
    ]
    area = ((near[0] < near[1]) & (near[0] <= 5)).sum() + 0.5 * (
        (near[0] == near[1]) & (near[0] <= 5)
    ).sum()
    assert attention["left"].actor_share == pytest.approx((3 + 1) / 10 / (area / 800))
    assert attention["right"].actor_share == pytest.approx(1 / 10 / (area / 800))


def test_uniform_map_gives_a_share_of_one():
    attention = attention_by_object(
        maps_of(np.full((20, 20), 0.3)), {"a": [[3, 5, 3, 9]], "b": [[15, 17, 2, 3]]}
    )
    assert attention["a"].actor_share == pytest.approx(1)
    assert attention["b"].actor_share == pytest.approx(1)
    assert np.isnan(attention["a"].actor_nss)


def test_rows_are_rows():
    saliency = np.zeros((30, 30))
    saliency[4:6, 20:23] = 1
    attention = attention_by_object(
        maps_of(saliency), {"it": [[4, 6, 20, 23]], "swapped": [[20, 23, 4, 6]]}
    )
    assert attention["it"].actor_nss > 5
    assert attention["it"].actor_share > 5
    assert attention["swapped"].actor_nss < 0
    assert attention["swapped"].actor_share == 0


def test_absent_objects_are_nan():
    boxes = {"ball": np.zeros((0, 4)), "out": [[-5, 0, 0, 3]], "ship": [[1, 2, 1, 2]]}
    attention = attention_by_object(maps_of(np.eye(5)), boxes)
    for name in ("ball", "out"):
        assert np.isnan(attention[name].actor_nss)
        assert np.isnan(attention[name].actor_share)
    assert np.isfinite(attention["ship"].actor_nss)
    assert attention_by_object(maps_of(np.eye(5)), {}) == {}


def test_map_of_zeros_is_nan():
    attention = attention_by_object(maps_of(np.zeros((5, 5))), {"ball": [[1, 2, 1, 2]]})
    assert np.isnan(attention["ball"].actor_share)
    assert np.isnan(attention["ball"].actor_nss)


def test_several_boxes_of_one_kind_are_one_region():
    saliency = np.random.default_rng(0).random((12, 12))
    together = attention_by_object(maps_of(saliency), {"brick": [[1, 3, 1, 3], [1, 3, 3, 5]]})
    as_one = attention_by_object(maps_of(saliency), {"brick": [[1, 3, 1, 5]]})
    assert together["brick"].actor_nss == pytest.approx(as_one["brick"].actor_nss)
    assert together["brick"].actor_share == pytest.approx(as_one["brick"].actor_share)


def test_moments_keep_their_order():
    saliency = np.zeros((3, 8, 8))
    saliency[0, 1, 1] = saliency[1, 5, 6] = saliency[2, 3, 3] = 1
    boxes = [{"ball": [[1, 2, 1, 2]]}, {"ball": [[5, 6, 6, 7]], "ship": [[1, 2, 1, 2]]}, {}]
    attention = attention_by_object(maps_of(saliency, 2 * saliency), boxes)
    alone = attention_by_object(maps_of(saliency[1], 2 * saliency[1]), boxes[1])
    for field in ("actor_nss", "actor_share", "critic_nss", "critic_share"):
        scores = getattr(attention["ball"], field)
        assert scores.shape == (3,)
        assert scores[1] == pytest.approx(getattr(alone["ball"], field))
        assert np.isnan(scores[2])
        assert np.isnan(getattr(attention["ship"], field)[[0, 2]]).all()
    assert attention["ball"].actor_nss[0] > 5


def test_errors_say_what_was_received():
    with pytest.raises(ValueError, match="3 maps, but boxes of 1 decisions"):
        attention_by_object(maps_of(np.zeros((3, 5, 5))), [{}])
    with pytest.raises(
        ValueError, match="maps of one decision need one dict of boxes, received a list"
    ):
        attention_by_object(maps_of(np.zeros((5, 5))), [{}])
    with pytest.raises(ValueError, match="maps of 3 decisions need a list of as many dicts"):
        attention_by_object(maps_of(np.zeros((3, 5, 5))), {})
    with pytest.raises(ValueError, match=r"boxes of 'ball' have shape \(4,\), expected \[n, 4\]"):
        attention_by_object(maps_of(np.zeros((5, 5))), {"ball": [1, 2, 3, 4]})
