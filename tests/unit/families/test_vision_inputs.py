from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.vision_inputs import VisionInputs, max_chunk_bytes
from groundserve.limits import Limits
from groundserve.manifest import CHUNK_FRAMES
from tests.unit.families.plans import video

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
            (FrameStream(name="CLIP", size=None, frames=(0, 1)),),
            r"of one frame a unit where it has no fixed size; .* takes CLIP \(any size\)",
            id="segments_as_decoded",
        ),
    ],
)
def test_streams_that_are_not_decoded_are_refused(streams, message):
    family = SimpleNamespace(name="toy", streams=lambda spec: streams)
    with pytest.raises(UnsupportedError, match=message):
        VisionInputs.of(family, None)


FIXED = VisionInputs(stream=FrameStream(name="FRAMES", size=2), plan_inputs=())
AS_DECODED = VisionInputs.of(
    SimpleNamespace(
        name="toy",
        streams=lambda spec: (FrameStream(name="RAW", size=None),),
        plan_inputs=lambda spec: (),
    ),
    None,
)
INDEX = video(4)


def test_shapes_of_frames_in_a_size_and_as_decoded():
    assert FIXED.unit_dims == (2, 2, 3)
    assert FIXED.shape(5, INDEX) == (5, 2, 2, 3)
    assert AS_DECODED.unit_dims == (-1, -1, 3)
    assert AS_DECODED.shape(5, INDEX) == (5, INDEX.height, INDEX.width, 3)


@pytest.mark.parametrize(
    ("width", "height", "num_frames"),
    [
        (16, 16, 64),
        (640, 480, 64),
        (1280, 720, 48),
        (1080, 1920, 21),
        (3840, 2160, 5),
        (8192, 4352, 1),
        (65_535, 65_535, 1),
    ],
)
def test_a_chunk_of_large_frames_has_fewer(width, height, num_frames):
    assert AS_DECODED.chunk_frames(width, height) == num_frames
    assert FIXED.chunk_frames(width, height) == CHUNK_FRAMES
    chunk_bytes = num_frames * 3 * width * height
    assert num_frames == 1 or chunk_bytes <= max_chunk_bytes(AS_DECODED.stream, Limits())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 0, 4, 3), "sides of RAW must be 1 to 8192, got"),
        ((1, 4, 8193, 3), "sides of RAW must be 1 to 8192"),
        ((1, 8192, 8192, 3), "at most 35651584 pixels"),
        ((1, 8192, 127, 3), "at most 64 times the shorter one, got 127 x 8192"),
        ((22, 1080, 1920, 3), "RAW must have at most 21 frames of 1920 x 1080 pixels, got 22"),
    ],
)
def test_frames_as_decoded_of_a_size_that_is_not_served_are_refused(shape, message):
    with pytest.raises(InvalidRequestError, match=message):
        AS_DECODED.check_frames(shape, Limits())
    FIXED.check_frames(shape, Limits())  # by the server, which knows S


def test_usual_frames_pass():
    for shape in ((64, 302, 170, 3), (1, 4352, 8192, 3), (1, 8192, 128, 3)):
        AS_DECODED.check_frames(shape, Limits())
