"""Change points of courses that were made with a known one."""

import numpy as np
import pytest

from atarilens.measures import change_in_words, change_point

STEPS = np.arange(-40, 41)


def courses(onset, duration, count=12, noise=0.2, seed=0, rise=1.0):
    """Level 1, a straight rise that begins after step `onset`, level 1 + rise."""
    generator = np.random.default_rng(seed)
    onsets = np.broadcast_to(onset, count)
    ramps = np.clip((STEPS - onsets[:, None]) / duration, 0, 1)
    return 1 + rise * ramps + noise * generator.standard_normal((count, len(STEPS)))


def test_an_exact_step_is_found_exactly():
    found = change_point(courses(5, 1, noise=0))
    assert (found.onset, found.duration, found.kind) == (5, 1, "abrupt")
    assert found.rise == pytest.approx(1)
    assert found.explained == pytest.approx(1)
    assert found.onset_interval == (5, 5)


def test_an_exact_ramp_is_found_exactly():
    found = change_point(courses(-10, 20, noise=0), STEPS)
    assert (found.onset, found.duration, found.kind) == (-10, 20, "gradual")
    falling = change_point(courses(-10, 20, noise=0, rise=-2))
    assert (found.onset, falling.duration) == (-10, 20)
    assert falling.rise == pytest.approx(-2)


@pytest.mark.parametrize(("duration", "kind"), [(1, "abrupt"), (18, "gradual")])
def test_noisy_changes(duration, kind):
    found = change_point(courses(3, duration), STEPS)
    assert found.kind == kind
    assert found.onset_interval[0] <= 3 <= found.onset_interval[1]
    assert found.duration_interval[0] <= duration <= found.duration_interval[1]
    assert found.rise_interval[0] < 1 < found.rise_interval[1]


def test_abrupt_changes_at_different_times_look_gradual_only_together():
    scattered = courses(np.linspace(-15, 15, 12).round(), 1)
    assert change_point(scattered, STEPS).kind == "gradual"
    assert change_point(scattered, STEPS, own_onsets=True).kind == "abrupt"


def test_noise_has_no_change():
    assert change_point(courses(0, 1, rise=0), STEPS).kind == "none"


def test_gaps_and_missing_courses():
    rows = courses(5, 1, noise=0)
    rows[0, 10:20] = np.nan
    rows[1] = np.nan
    found = change_point(rows, STEPS)
    assert (found.onset, found.duration, found.episodes) == (5, 1, 11)


def test_errors():
    with pytest.raises(ValueError, match="three courses or more, 2 are left"):
        change_point(np.zeros((2, 81)))
    with pytest.raises(ValueError, match=r"courses have shape \(81,\), expected \[E, n\]"):
        change_point(np.zeros(81))
    with pytest.raises(ValueError, match="steps must be 81 increasing numbers"):
        change_point(np.zeros((3, 81)), np.arange(80))


def test_a_change_in_words():
    assert change_in_words(change_point(courses(5, 1, noise=0), STEPS)) == (
        "abrupt rise after step +5 (+5 to +5), done in 1 (1 to 1) steps, n = 12"
    )
    falling = change_in_words(change_point(courses(-10, 20, noise=0, rise=-2), STEPS))
    assert falling.startswith("gradual fall after step -10")
    nothing = change_in_words(change_point(courses(0, 1, rise=0), STEPS))
    assert nothing == "no change that these games can tell from none, n = 12"
