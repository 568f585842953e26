"""The frames that the reference's decoder and image processor gave, through the worker pool."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from tests.reference import SET_2, SET_2_CASES, ReferenceCase

SIZE = json.loads((SET_2 / "siglip-tiny" / "preprocessor_config.json").read_text())["size"][
    "height"
]
# One case for each choice of frames of a video: the questions do not matter here.
CASES = {f"{case.video}-{case.frame_indices}": case for case in SET_2_CASES}.values()


def sha256(frames: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_frames_equal_the_reference(
    case: ReferenceCase,
    clips: dict[str, Path],
    workers: MediaWorkers,
    limits: Limits,
    deadline: Deadline,
) -> None:
    with (
        VideoSource.from_path(clips[case.video], limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        assert video.index.num_source_frames == case.num_source_frames
        assert video.index.average_fps == case.fps
        segments = video.cut(np.array(case.frame_indices))
        frames = video.decode(segments)
        resized = video.decode(segments, image_size=SIZE)
    assert sha256(frames) == case.frames_sha256
    assert sha256(resized.transpose(0, 3, 1, 2)) == case.resized_sha256
