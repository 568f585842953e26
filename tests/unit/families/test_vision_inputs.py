from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.vision_inputs import VisionInputs, max_chunk_bytes, take_units
from groundserve.limits import Limits
from groundserve.manifest import CHUNK_FRAMES
from tests.unit.families.plans import video

WEIGHTS = np.eye(2, dtype=np.float32)
OFFSET = np.zeros(3, np.float32)


def test_inputs_are_in_the_familys_order():
    inputs = VisionInputs(
        streams=(FrameStream(name="FRAMES", size=2),),
        plan_inputs=tuple(PlanInput(name=n, dims=(), max_dims=()) for n in ("B", "A")),
    )
    assert inputs.names == ("FRAMES", "B", "A")
    plan = SimpleNamespace(inputs={"A": OFFSET, "B": WEIGHTS})
    first, second = inputs.of_plan(plan)
    assert (first.shape, second.shape) == ((1, 2, 2), (1, 3))
    assert first.base is WEIGHTS
    assert second.base is OFFSET


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        pytest.param(
            (FrameStream(name="RAW", size=None), FrameStream(name="LARGE", size=336)),
            r"the only stream, .*; the family toy takes RAW \(any size, 1 a unit\), LARGE \(336, 1",
            id="as_decoded_beside_others",
        ),
        pytest.param(
            (FrameStream(name="CLIP", size=None, frames=(0, 1)),),
            r"of one frame a unit; the family toy takes CLIP \(any size, 2 a unit\)",
            id="segments_as_decoded",
        ),
        pytest.param(
            (FrameStream(name="LONG", size=8, frames=tuple(range(65))),),
            r"at most 64 frames a unit; the family toy takes LONG \(8, 65 a unit\)",
            id="long_units",
        ),
    ],
)
def test_streams_that_are_not_decoded_are_refused(streams, message):
    family = SimpleNamespace(name="toy", streams=lambda spec: streams, plan_inputs=lambda spec: ())
    with pytest.raises(UnsupportedError, match=message):
        VisionInputs.of(family, None)


FIXED = VisionInputs(streams=(FrameStream(name="FRAMES", size=2),), plan_inputs=())
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
    assert FIXED.unit_shapes(INDEX) == ((2, 2, 3),)
    assert AS_DECODED.unit_shapes(INDEX) == ((INDEX.height, INDEX.width, 3),)
    (raw,) = AS_DECODED.streams
    assert raw.unit_dims == raw.frame_dims == (-1, -1, 3)


SEGMENTS = VisionInputs(
    streams=(
        FrameStream(name="CLIPS", size=2, frames=tuple(range(8))),
        FrameStream(name="KEYS", size=3, frames=(4,)),
    ),
    plan_inputs=(
        PlanInput(name="OFFSET", dims=(3,), max_dims=(3,)),
        PlanInput(name="TIMES", dims=(-1,), max_dims=(9,), of_units=True),
    ),
)


def test_several_streams_come_before_what_is_of_the_plan():
    assert SEGMENTS.names == ("CLIPS", "KEYS", "OFFSET", "TIMES")
    assert SEGMENTS.unit_shapes(INDEX) == ((8, 2, 2, 3), (3, 3, 3))
    assert SEGMENTS.frames_per_unit == 8


def test_as_many_units_as_a_chunk_has_frames_are_encoded_at_once():
    assert (SEGMENTS.max_units, FIXED.max_units, AS_DECODED.max_units) == (8, 64, 64)
    assert SEGMENTS.chunk_frames(1920, 1080) == 64
    assert SEGMENTS.chunk_units(1920, 1080) == 8
    assert AS_DECODED.chunk_units(1920, 1080) == AS_DECODED.chunk_frames(1920, 1080) == 21
    of_three = FrameStream(name="CLIPS", size=2, frames=(0, 1, 2))
    assert VisionInputs(streams=(of_three,), plan_inputs=()).max_units == 21


def test_what_all_units_share_has_one_in_front_and_what_they_do_not_has_all():
    times = np.arange(8, dtype=np.float32).reshape(4, 2)
    inputs = SEGMENTS.of_plan(SimpleNamespace(inputs={"TIMES": times, "OFFSET": OFFSET}))
    assert [one.shape for one in inputs] == [(1, 3), (4, 2)]
    offset, some = take_units(inputs, slice(1, 3))
    np.testing.assert_array_equal(offset, OFFSET[None])
    np.testing.assert_array_equal(some, times[1:3])
    _, spread = take_units(inputs, np.array([0, 3, 0]))
    np.testing.assert_array_equal(spread, times[[0, 3, 0]])


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
    assert num_frames == 1 or chunk_bytes <= max_chunk_bytes(AS_DECODED.streams[0], Limits())


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
