from __future__ import annotations

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from python_backend.triton._merge import EncodeRequest, encode_merged

STREAM = FrameStream(name="FRAMES", size=2)
INPUTS = VisionInputs(
    stream=STREAM, plan_inputs=(PlanInput(name="WEIGHTS", dims=(-1, 4), max_dims=(4, 4)),)
)
ONE_ROW = np.full((1, 4), 0.25, np.float32)
TWO_ROWS = np.eye(2, 4, dtype=np.float32)


def request(first_value: int, num_frames: int, *plan_inputs: np.ndarray) -> EncodeRequest:
    frames = np.zeros((num_frames, 2, 2, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(first_value, first_value + num_frames)
    return EncodeRequest(frames, plan_inputs or (ONE_ROW,))


class FakeEncoder:
    """Features are the first pixel's red, in as many tokens as the plan's input has rows."""

    def __init__(self):
        self.batch_sizes = []

    def encode(self, frames, *plan_inputs):
        self.batch_sizes.append(len(frames))
        red = frames[:, 0, 0, :1].astype(np.float32)
        return np.repeat(red[:, np.newaxis], sum(map(len, plan_inputs)), axis=1)


def test_equal_plan_inputs_are_one_call():
    encoder = FakeEncoder()
    features = encode_merged([request(0, 2), request(10, 1), request(20, 3)], encoder.encode)
    assert encoder.batch_sizes == [6]
    assert [part[:, 0, 0].tolist() for part in features] == [[0, 1], [10], [20, 21, 22]]


def test_another_plan_input_is_another_call_and_order_is_kept():
    encoder = FakeEncoder()
    requests = [request(0, 1), request(10, 2, TWO_ROWS), request(20, 1)]
    features = encode_merged(requests, encoder.encode)
    assert encoder.batch_sizes == [2, 2]
    assert [part[:, 0, 0].tolist() for part in features] == [[0], [10, 11], [20]]
    assert [part.shape for part in features] == [(1, 1, 1), (2, 2, 1), (1, 1, 1)]


def test_nothing_to_encode_is_no_call():
    encoder = FakeEncoder()
    assert encode_merged([], encoder.encode) == []
    assert encoder.batch_sizes == []


def test_plan_inputs_of_equal_bytes_and_another_shape_are_another_call():
    encoder = FakeEncoder()
    encode_merged([request(0, 1, TWO_ROWS), request(10, 1, TWO_ROWS.reshape(4, 2))], encoder.encode)
    assert encoder.batch_sizes == [1, 1]


def test_every_plan_input_counts():
    encoder = FakeEncoder()
    requests = [request(i, 1, ONE_ROW, other) for i, other in enumerate([ONE_ROW, TWO_ROWS] * 2)]
    features = encode_merged(requests, encoder.encode)
    assert encoder.batch_sizes == [2, 2]
    assert [part[0, 0, 0] for part in features] == [0, 1, 2, 3]


def test_without_plan_inputs_all_are_one_call():
    requests = [EncodeRequest(np.zeros((n, 2, 2, 3), np.uint8), ()) for n in (2, 1)]
    sizes = []

    def encode(frames):
        sizes.append(len(frames))
        return np.zeros((len(frames), 1, 1), np.float32)

    assert [part.shape for part in encode_merged(requests, encode)] == [(2, 1, 1), (1, 1, 1)]
    assert sizes == [3]


def test_from_batch_takes_what_all_frames_share():
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    tensors = {"FRAMES": frames, "WEIGHTS": np.stack([TWO_ROWS] * 3)}
    made = EncodeRequest.from_batch(tensors, INPUTS, Limits())
    assert made.frames is frames
    (shared,) = made.plan_inputs
    np.testing.assert_array_equal(shared, TWO_ROWS)


def test_from_batch_refuses_no_frames():
    tensors = {"FRAMES": np.zeros((0, 2, 2, 3), np.uint8), "WEIGHTS": np.zeros((0, 1, 4))}
    with pytest.raises(InvalidRequestError, match="FRAMES must hold at least one frame, got 0"):
        EncodeRequest.from_batch(tensors, INPUTS, Limits())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        pytest.param(
            np.stack([ONE_ROW, ONE_ROW * 2]), "the same for all frames", id="different_rows"
        ),
        pytest.param(np.full((2, 1, 4), np.nan, np.float32), "must be finite", id="nan"),
        pytest.param(
            np.zeros((2, 0, 4), np.float32),
            r"WEIGHTS must have the shape \(n, 1\.\.4, 4\), got \(2, 0, 4\)",
            id="no_rows",
        ),
        pytest.param(
            np.zeros((2, 5, 4), np.float32), r"\(n, 1\.\.4, 4\), got \(2, 5, 4\)", id="too_many"
        ),
        pytest.param(
            np.zeros((2, 2, 3), np.float32), r"\(n, 1\.\.4, 4\), got \(2, 2, 3\)", id="width"
        ),
        pytest.param(np.zeros((2, 4), np.float32), r"got \(2, 4\)", id="dimensions"),
    ],
)
def test_from_batch_refuses(weights, message):
    with pytest.raises(InvalidRequestError, match=message):
        EncodeRequest.from_batch(
            {"FRAMES": np.zeros((2, 2, 2, 3), np.uint8), "WEIGHTS": weights}, INPUTS, Limits()
        )


AS_DECODED = VisionInputs(stream=FrameStream(name="RAW", size=None), plan_inputs=())


def test_from_batch_refuses_frames_as_decoded_of_a_size_that_is_not_served():
    with pytest.raises(InvalidRequestError, match="sides of RAW must be 1 to 16"):
        EncodeRequest.from_batch(
            {"RAW": np.zeros((2, 17, 4, 3), np.uint8)}, AS_DECODED, Limits(max_side_pixels=16)
        )


def test_frames_of_different_sizes_are_not_one_call():
    sizes = []

    def encode(frames):
        sizes.append(frames.shape)
        return np.full((len(frames), 1, 1), frames.shape[1], np.float32)

    arrays = [np.zeros((num, side, 4, 3), np.uint8) for num, side in ((2, 3), (1, 5), (3, 3))]
    merged = encode_merged([EncodeRequest(frames, ()) for frames in arrays], encode)
    assert sizes == [(5, 3, 4, 3), (1, 5, 4, 3)]
    assert [part[:, 0, 0].tolist() for part in merged] == [[3, 3], [5], [3, 3, 3]]
