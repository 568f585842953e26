"""Several outputs of one decode: each has its own targets, in its own size, as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.limits import Limits
from groundserve.media import FrameOutput, MediaWorkers, Segments, _resize
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from tests.media_assets import GOPS_OF_50, Asset
from tests.media_assets.reading import reader_of

LIMITS = Limits()
SAMPLED = np.arange(0, 120, 9)
KEYS = FrameOutput(image_size=24, resize="short_side", targets=np.array([4, 12]))
OUTPUTS = [
    FrameOutput(image_size=20, resize="short_side"),
    KEYS,
    FrameOutput(image_size=16, resize="bilinear", targets=np.arange(3)),
    FrameOutput(image_size=20, targets=np.arange(0)),
]


@pytest.fixture(scope="module")
def segments(make_asset: Callable[[Asset], Path]) -> Segments:
    with reader_of(make_asset(GOPS_OF_50)) as reader:
        return cut_segments(reader, SAMPLED)


@pytest.fixture(scope="module")
def upright(segments: Segments) -> NDArray[np.uint8]:
    """Each target as decoded."""
    (frames,) = decode_segments(segments, [FrameOutput()], num_threads=2, limits=LIMITS).outputs
    return frames


def assert_outputs(outputs: list[NDArray[np.uint8]], upright: NDArray[np.uint8], segments) -> None:
    every, keys, scaled, none = outputs
    for frames, targets, size in ((every, range(len(upright)), 20), (keys, (4, 12), 24)):
        resized = [_resize.resize_short_side(upright[i], size, LIMITS) for i in targets]
        np.testing.assert_array_equal(frames, resized)
    alone = FrameOutput(image_size=16, resize="bilinear")
    (all_scaled,) = decode_segments(segments, [alone], num_threads=1, limits=LIMITS).outputs
    np.testing.assert_array_equal(scaled, all_scaled[:3])
    assert (none.shape, none.dtype) == ((0, 20, 20, 3), np.uint8)


def test_a_worker_decodes_once_for_all(segments: Segments, upright: NDArray[np.uint8]) -> None:
    deadline = Deadline.after(60)
    with MediaWorkers(limits=LIMITS, num_cpus=1) as workers:
        workers.decode(segments, image_size=20, deadline=deadline)
        before = workers.work_done()
        outputs = workers.decode_outputs(segments, OUTPUTS, deadline=deadline)
        after = workers.work_done()
    assert_outputs(outputs, upright, segments)
    assert after["packets_decoded"] == 2 * before["packets_decoded"]
    assert before["frames_converted"] == len(SAMPLED)
    # Those of the first output, two key frames and three more: a frame is made for no other.
    assert after["frames_converted"] == 2 * len(SAMPLED) + 2 + 3
