from __future__ import annotations

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from python_backend.triton._merge import EncodeRequest, encode_merged

ONE_ROW = np.full((1, 4), 0.25, np.float32)
TWO_ROWS = np.eye(2, 4, dtype=np.float32)


def request(first_value: int, num_frames: int, pooling=ONE_ROW) -> EncodeRequest:
    frames = np.zeros((num_frames, 2, 2, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(first_value, first_value + num_frames)
    return EncodeRequest(frames, pooling)


class FakeEncoder:
    """Features are the first pixel's red, in as many tokens as the grid has."""

    def __init__(self):
        self.batch_sizes = []

    def encode(self, frames, pooling):
        self.batch_sizes.append(len(frames))
        red = frames[:, 0, 0, :1].astype(np.float32)
        return np.repeat(red[:, np.newaxis], len(pooling) ** 2, axis=1)


def test_equal_pooling_is_one_call():
    encoder = FakeEncoder()
    features = encode_merged([request(0, 2), request(10, 1), request(20, 3)], encoder.encode)
    assert encoder.batch_sizes == [6]
    assert [part[:, 0, 0].tolist() for part in features] == [[0, 1], [10], [20, 21, 22]]


def test_other_pooling_is_another_call_and_order_is_kept():
    encoder = FakeEncoder()
    requests = [request(0, 1), request(10, 2, TWO_ROWS), request(20, 1)]
    features = encode_merged(requests, encoder.encode)
    assert encoder.batch_sizes == [2, 2]
    assert [part[:, 0, 0].tolist() for part in features] == [[0], [10, 11], [20]]
    assert [part.shape for part in features] == [(1, 1, 1), (2, 4, 1), (1, 1, 1)]


def test_nothing_to_encode_is_no_call():
    encoder = FakeEncoder()
    assert encode_merged([], encoder.encode) == []
    assert encoder.batch_sizes == []


def test_from_batch_takes_the_pooling_that_all_frames_share():
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    made = EncodeRequest.from_batch(frames, np.stack([TWO_ROWS] * 3))
    assert made.frames is frames
    np.testing.assert_array_equal(made.pooling, TWO_ROWS)


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        pytest.param(
            np.stack([ONE_ROW, ONE_ROW * 2]), "the same for all frames", id="different_rows"
        ),
        pytest.param(np.full((2, 1, 4), np.nan, np.float32), "must be finite", id="nan"),
        pytest.param(
            np.zeros((2, 0, 4), np.float32), r"must have 1\.\.4 rows, got 0", id="no_rows"
        ),
        pytest.param(
            np.zeros((2, 5, 4), np.float32), r"must have 1\.\.4 rows, got 5", id="too_many"
        ),
    ],
)
def test_from_batch_refuses(pooling, message):
    with pytest.raises(InvalidRequestError, match=message):
        EncodeRequest.from_batch(np.zeros((2, 2, 2, 3), np.uint8), pooling)
