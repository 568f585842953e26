"""SHOWN, which callers of `video_decode` may send as they like where a family has two streams."""

from __future__ import annotations

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import FrameStream
from python_backend.triton._checks import check_shown

STREAMS = (FrameStream(name="CLIPS", size=8), FrameStream(name="KEYS", size=16))


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        pytest.param([[1, 0]], r"SHOWN must have the shape \(2, 2\), .* got \(1, 2\)", id="short"),
        pytest.param([[1, 0], [0, 0]], "1 once at least in each row", id="shown_by_none"),
        pytest.param([[1, 0], [2, 0]], "must be 0 or 1", id="two"),
    ],
)
def test_what_is_not_said_of_targets_is_refused(shown, message):
    tensors = {"LOCAL_FRAMES": np.arange(2, dtype=np.int32), "SHOWN": np.array(shown, np.uint8)}
    with pytest.raises(InvalidRequestError, match=message):
        check_shown(tensors, streams=STREAMS)
