"""Both thinnings on features whose cosines are known: angles in degrees, 0.90 is 25.8 of them."""

import numpy as np
import pytest

from groundserve.annotate.thinning import thin_as_paper, thin_as_script

SCENE, DIVERSITY = 0.90, 0.97  # 25.8 and 14.1 degrees


def at(*degrees):
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


@pytest.mark.parametrize(
    ("degrees", "kept"),
    [
        pytest.param([0], [0], id="one"),
        pytest.param([0, 5, 10], [0], id="one_scene"),
        pytest.param([0, 20, 40, 60], [0, 2], id="slow_turn_is_seen_from_the_last_kept"),
        pytest.param([0, 90, 0], [0, 1, 2], id="back_again"),
    ],
)
def test_the_papers_compares_with_the_last_one_kept(degrees, kept):
    assert thin_as_paper(at(*degrees), scene_threshold=SCENE) == kept


@pytest.mark.parametrize(
    ("degrees", "kept"),
    [
        pytest.param([0, 5, 10], [0], id="one_scene"),
        # Each is like the one before; the last is not like the first, and is added at the end.
        pytest.param([0, 20, 40, 60], [0, 3], id="slow_turn_is_not_seen_until_the_end"),
        # 90 begins a scene; 95 is like it, 120 is not: on behind 120, at 125, like 120.
        pytest.param([0, 90, 95, 120, 125], [0, 1, 4], id="goes_on_behind_one_that_differs"),
        # The frame after the one that differs would begin a scene, and does.
        pytest.param([0, 90, 120, 0, 5], [0, 1, 3], id="place_behind_it"),
        pytest.param([0, 90, 95, 100], [0, 1], id="none_differs_later_stops"),
    ],
)
def test_the_scripts_compares_with_the_one_before_and_jumps(degrees, kept):
    found = thin_as_script(at(*degrees), scene_threshold=SCENE, diversity_threshold=DIVERSITY)
    assert found == kept
