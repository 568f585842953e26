"""What a request makes of the server's answer."""

import json
import pickle

import numpy as np

from groundserve.client._request import ScoreRequest
from groundserve.options import ScoreOptions
from tests.support.results import make_info


def answer():
    """Tensors as gRPC gives them: views of bytes, which nobody may write to."""
    arrays = {
        "FRAME_INDICES": np.array([0, 25, 50]),
        "PTS_SECONDS": np.array([0.0, 1.0, 2.0]),
        "FRAME_LOGITS": np.float32([[1.0, 2.0, -1.0]]),
        "FRAME_SCORES": np.float32([[0.7, 0.9, 0.3]]),
        "SELECTED_FRAMES": np.array([[0, 25]]),
    }
    info = make_info(duration_seconds=3.0, facts={"grid": 5}).to_json()
    views = {
        name: np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape)
        for name, value in arrays.items()
    }
    return views | {"INFO": np.array([json.dumps(info)], object)}


def test_a_result_has_arrays_of_its_own():
    given = answer()
    request = ScoreRequest(
        video=b"a video",
        video_uri=None,
        queries="cars",
        options=ScoreOptions(),
        request_id="r-1",
        span_threshold=0.5,
        span_gap_seconds=0.0,
    )
    result = request.to_result(given)
    (query,) = result.queries
    arrays = [
        result.frame_indices,
        result.pts_seconds,
        query.frame_logits,
        query.frame_scores,
        query.selected_frames,
        query.selected_seconds,
    ]
    for array in arrays:
        assert array.flags.writeable
        assert not any(np.shares_memory(array, given[name]) for name in given if name != "INFO")
    assert pickle.loads(pickle.dumps(result)).to_json() == result.to_json()
