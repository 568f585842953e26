from __future__ import annotations

from types import SimpleNamespace

import pytest

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.plans import FrameStream
from groundserve.families.vision_inputs import VisionInputs, max_chunk_bytes
from groundserve.limits import Limits
from groundserve.manifest import CHUNK_FRAMES


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
