"""Several outputs of one decode: each has its own targets, in its own size, as if it were alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits
from groundserve.media import FrameOutput, MediaWorkers, Segments, _resize
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media.outputs import check_outputs
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


@pytest.mark.parametrize("num_threads", [1, 3])
def test_each_output_is_what_it_would_be_alone(
    segments: Segments, upright: NDArray[np.uint8], num_threads: int
) -> None:
    assert segments.num_segments > 1
    decoded = decode_segments(segments, OUTPUTS, num_threads=num_threads, limits=LIMITS)
    assert_outputs(list(decoded.outputs), upright, segments)


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


def test_a_frame_is_converted_once_and_resized_for_those_that_have_it(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[object] = Counter()

    def count(of: object, name: str, what: Callable[[tuple], object]) -> None:
        step = getattr(of, name)

        def counted(*arguments: object) -> object:
            done[what(arguments)] += 1
            return step(*arguments)

        monkeypatch.setattr(of, name, counted)

    count(_resize._RgbConverter, "__call__", lambda _: "rgb")
    count(_resize._ScaleFilter, "__call__", lambda _: "scaled")
    count(_resize, "resize_short_side", lambda arguments: arguments[1])
    count(_resize, "resize", lambda _: "square")
    decode_segments(segments, OUTPUTS, num_threads=1, limits=LIMITS)
    assert done == {"rgb": len(SAMPLED), 20: len(SAMPLED), 24: 2, "scaled": 3}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        pytest.param([KEYS], "each target must be in some output, got none for target 0", id="few"),
        pytest.param(
            [FrameOutput(targets=np.arange(14))], "as decoded are of all targets", id="as_decoded"
        ),
        pytest.param([FrameOutput(image_size=8193)], "image_size must be 1 to 8192", id="large"),
        pytest.param(
            [FrameOutput(image_size=8, resize="nearest")], "resize must be one of", id="no_rule"
        ),
        *(
            pytest.param(
                [FrameOutput(image_size=8), FrameOutput(image_size=8, targets=targets)],
                r"targets of an output must be int64 \(k,\), increasing, in \[0, 14\)",
                id=id_,
            )
            for id_, targets in {
                "falling": np.array([3, 2]),
                "repeated": np.array([3, 3]),
                "negative": np.array([-1, 3]),
                "past_the_end": np.array([14]),
                "other_dtype": np.array([1], np.int32),
                "two_dimensions": np.array([[1]]),
            }.items()
        ),
    ],
)
def test_bad_outputs_are_refused(outputs: list[FrameOutput], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        check_outputs(outputs, len(SAMPLED), LIMITS)
