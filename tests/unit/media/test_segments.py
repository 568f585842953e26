from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.media import Segments, StreamInfo

STREAM = StreamInfo(
    codec_name="h264",
    pixel_format="yuv420p",
    width=96,
    height=64,
    rotation=0,
    frame_counts=(5, 3),
)
ARRAYS: dict[str, Any] = {
    "data": np.frombuffer(b"aaabb", np.uint8),
    "offsets": np.array([0, 3, 5]),
    "local_frames": np.array([0, 4, 2], np.int32),
    "local_offsets": np.array([0, 2, 3]),
}


def test_iterates_over_files_and_targets() -> None:
    segments = Segments(**ARRAYS, stream=STREAM)
    assert (segments.num_segments, segments.num_frames) == (2, 3)
    assert [(bytes(file), targets.tolist()) for file, targets in segments] == [
        (b"aaa", [0, 4]),
        (b"bb", [2]),
    ]


def test_concatenate() -> None:
    segments = Segments.concatenate(
        [b"aaa", b"bb"], [np.array([0, 4], np.int32), np.array([2], np.int32)], stream=STREAM
    )
    assert segments.stream == STREAM
    assert list(segments.arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(segments.arrays[name], expected, strict=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.zeros(5, np.int8)}, "data must be uint8 with 1 dimension, got int8 with 1"),
        ({"local_frames": np.zeros(3)}, "local_frames must be int32"),
        ({"offsets": np.array([0, 3, 6])}, "offsets must have >= 2 entries and run from 0 to 5"),
        ({"offsets": np.array([0, 5, 5])}, "offsets must increase"),
        ({"offsets": np.array([0, 5])}, "must have the same length, got 2 and 3"),
        ({"local_offsets": np.array([0, 3, 3])}, "local_offsets must increase"),
        ({"local_frames": np.array([4, 4, 2], np.int32)}, "increase within each segment"),
        ({"local_frames": np.array([-1, 4, 2], np.int32)}, "must be >= 0"),
        ({"local_frames": np.array([0, 5, 2], np.int32)}, "must be < 5, the frames of .* got 5"),
        ({"stream": replace(STREAM, frame_counts=(8,))}, "each of 2 segments, got 1"),
    ],
)
def test_rejects_inconsistent_arrays(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Segments(**{**ARRAYS, "stream": STREAM, **changes})
