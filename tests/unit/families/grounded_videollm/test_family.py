"""What Grounded-VideoLLM refuses of arrays and facts that no plan of its gives."""

from dataclasses import replace

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm import FAMILY
from groundserve.families.grounded_videollm.spec import LLAMA_3, PHI_3_5
from groundserve.options import AnswerOptions
from tests.unit.families.grounded_videollm.recorded import seen
from tests.unit.families.plans import video

SPECS = pytest.mark.parametrize(
    ("spec", "num_tokens"), [(PHI_3_5, 3420), (LLAMA_3, 2316)], ids=["phi3.5", "llama3"]
)


@SPECS
def test_what_a_plan_says_is_let_through(spec, num_tokens):
    plan = FAMILY.plan(video(50), AnswerOptions(), spec)
    assert plan.num_visual_tokens == num_tokens
    FAMILY.check_seen(plan.seen, spec)
    FAMILY.check_features((12, num_tokens // 12, spec.feature_width), spec)
    assert (FAMILY.front_inputs(spec), FAMILY.front_arrays(plan.seen, spec)) == ((), ())


@SPECS
@pytest.mark.parametrize(
    "shape", [(11, 285, 8), (12, 284, 8), (12, 192, 8), (3420, 1, 8), (0, 0, 0)]
)
def test_features_of_another_shape_are_refused(spec, num_tokens, shape):
    with pytest.raises(InvalidRequestError, match=rf"FEATURES must be \(12, {num_tokens // 12}, D"):
        FAMILY.check_features(shape, spec)


@pytest.mark.parametrize(
    "change",
    [
        {"num_visual_tokens": 3419},
        {"num_visual_tokens": 2316},
        {"time_range_seconds": None},
        {"time_range_seconds": (0.0, 0.0)},
        {"time_range_seconds": (0.0, -1.0)},
        {"time_range_seconds": (1.0, 2.0)},
        {"time_range_seconds": (0.0, float("inf"))},
        {"time_range_seconds": (0.0, float("nan"))},
    ],
)
def test_facts_that_no_plan_says_are_refused(change):
    (name,) = change
    with pytest.raises(InvalidRequestError, match=f"{name} must be "):
        FAMILY.check_seen(replace(seen(10.0), **change), PHI_3_5)
