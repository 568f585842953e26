from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.errors import UnsupportedError
from groundserve.families.base import FrameStream, PlanInput
from groundserve.families.vision_inputs import VisionInputs

WEIGHTS = np.eye(2, dtype=np.float32)
OFFSET = np.zeros(3, np.float32)


def test_inputs_are_in_the_familys_order():
    inputs = VisionInputs(
        stream=FrameStream(name="FRAMES", size=2),
        plan_inputs=tuple(PlanInput(name=n, dims=(), max_dims=()) for n in ("B", "A")),
    )
    assert inputs.names == ("FRAMES", "B", "A")
    plan = SimpleNamespace(inputs={"A": OFFSET, "B": WEIGHTS})
    first, second = inputs.of_plan(plan)
    assert first is WEIGHTS
    assert second is OFFSET


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        pytest.param(
            (FrameStream(name="SMALL", size=224), FrameStream(name="LARGE", size=336)),
            r"the family toy takes SMALL \(224\), LARGE \(336\)",
            id="several_streams",
        ),
        pytest.param(
            (FrameStream(name="PIXELS", size=None),),
            r"takes PIXELS \(any size\)",
            id="as_decoded",
        ),
    ],
)
def test_streams_that_are_not_decoded_are_refused(streams, message):
    family = SimpleNamespace(name="toy", streams=lambda spec: streams)
    with pytest.raises(UnsupportedError, match=message):
        VisionInputs.of(family, None)
