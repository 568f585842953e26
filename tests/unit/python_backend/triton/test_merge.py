from __future__ import annotations

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from python_backend.encode import EncodeFunction
from python_backend.triton._merge import EncodeRequest, encode_merged

STREAM = FrameStream(name="FRAMES", size=2)
INPUTS = VisionInputs(
    streams=(STREAM,), plan_inputs=(PlanInput(name="WEIGHTS", dims=(-1, 4), max_dims=(4, 4)),)
)
ONE_ROW = np.full((1, 1, 4), 0.25, np.float32)
TWO_ROWS = np.eye(2, 4, dtype=np.float32)[None]


def request(first_value: int, num_frames: int, *plan_inputs: np.ndarray) -> EncodeRequest:
    frames = np.zeros((num_frames, 2, 2, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(first_value, first_value + num_frames)
    shared = {f"WEIGHTS_{i}": one for i, one in enumerate(plan_inputs or (ONE_ROW,))}
    return EncodeRequest({"FRAMES": frames}, shared)


def merge(requests: list[EncodeRequest], encode: EncodeFunction) -> list[np.ndarray]:
    names = [name for one in requests[:1] for name in (*one.of_units, *one.shared)]
    return encode_merged(requests, encode, names=names)


class FakeEncoder:
    """Features are the first pixel's red, in as many tokens as the plan's inputs have rows."""

    def __init__(self):
        self.batch_sizes = []

    def encode(self, frames, *plan_inputs):
        self.batch_sizes.append(len(frames))
        red = frames[:, 0, 0, :1].astype(np.float32)
        return np.repeat(red[:, np.newaxis], sum(one.shape[1] for one in plan_inputs), axis=1)


def test_equal_plan_inputs_are_one_call():
    encoder = FakeEncoder()
    features = merge([request(0, 2), request(10, 1), request(20, 3)], encoder.encode)
    assert encoder.batch_sizes == [6]
    assert [part[:, 0, 0].tolist() for part in features] == [[0, 1], [10], [20, 21, 22]]


def test_another_plan_input_is_another_call_and_order_is_kept():
    encoder = FakeEncoder()
    requests = [request(0, 1), request(10, 2, TWO_ROWS), request(20, 1)]
    features = merge(requests, encoder.encode)
    assert encoder.batch_sizes == [2, 2]
    assert [part[:, 0, 0].tolist() for part in features] == [[0], [10, 11], [20]]
    assert [part.shape for part in features] == [(1, 1, 1), (2, 2, 1), (1, 1, 1)]


def test_nothing_to_encode_is_no_call():
    encoder = FakeEncoder()
    assert merge([], encoder.encode) == []
    assert encoder.batch_sizes == []


def test_plan_inputs_of_equal_bytes_and_another_shape_are_another_call():
    encoder = FakeEncoder()
    merge([request(0, 1, TWO_ROWS), request(10, 1, TWO_ROWS.reshape(1, 4, 2))], encoder.encode)
    assert encoder.batch_sizes == [1, 1]


def test_every_plan_input_counts():
    encoder = FakeEncoder()
    requests = [request(i, 1, ONE_ROW, other) for i, other in enumerate([ONE_ROW, TWO_ROWS] * 2)]
    features = merge(requests, encoder.encode)
    assert encoder.batch_sizes == [2, 2]
    assert [part[0, 0, 0] for part in features] == [0, 1, 2, 3]


def test_without_plan_inputs_all_are_one_call():
    requests = [EncodeRequest({"FRAMES": np.zeros((n, 2, 2, 3), np.uint8)}, {}) for n in (2, 1)]
    sizes = []

    def encode(frames):
        sizes.append(len(frames))
        return np.zeros((len(frames), 1, 1), np.float32)

    assert [part.shape for part in merge(requests, encode)] == [(2, 1, 1), (1, 1, 1)]
    assert sizes == [3]


def test_from_batch_takes_what_all_frames_share():
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    tensors = {"FRAMES": frames, "WEIGHTS": TWO_ROWS.repeat(3, axis=0)}
    made = EncodeRequest.from_batch(tensors, INPUTS, Limits())
    assert made.of_units == {"FRAMES": frames}
    np.testing.assert_array_equal(made.shared["WEIGHTS"], TWO_ROWS)
    assert made.num_units == 3


def test_from_batch_refuses_no_frames():
    tensors = {"FRAMES": np.zeros((0, 2, 2, 3), np.uint8), "WEIGHTS": np.zeros((0, 1, 4))}
    with pytest.raises(InvalidRequestError, match="FRAMES must hold at least one frame, got 0"):
        EncodeRequest.from_batch(tensors, INPUTS, Limits())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        pytest.param(
            np.concatenate([ONE_ROW, ONE_ROW * 2]), "the same for all frames", id="different_rows"
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


AS_DECODED = VisionInputs(streams=(FrameStream(name="RAW", size=None),), plan_inputs=())


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
    merged = merge([EncodeRequest({"RAW": frames}, {}) for frames in arrays], encode)
    assert sizes == [(5, 3, 4, 3), (1, 5, 4, 3)]
    assert [part[:, 0, 0].tolist() for part in merged] == [[3, 3], [5], [3, 3, 3]]


SEGMENTS = VisionInputs(
    streams=(
        FrameStream(name="CLIPS", size=2, frames=(0, 1)),
        FrameStream(name="KEYS", size=3, frames=(1,)),
    ),
    plan_inputs=(
        PlanInput(name="TIMES", dims=(-1,), max_dims=(3,), of_units=True),
        PlanInput(name="SCALE", dims=(1,), max_dims=(1,)),
    ),
)


def segments(first: int, num_units: int, *, num_times: int = 2, **changes) -> dict:
    """Tensors of a request, in which a unit's number is its key frame's red and its times."""
    numbers = np.arange(first, first + num_units)
    keys = np.zeros((num_units, 3, 3, 3), np.uint8)
    keys[:, 0, 0, 0] = numbers
    return {
        "CLIPS": np.zeros((num_units, 2, 2, 2, 3), np.uint8),
        "KEYS": keys,
        "TIMES": np.repeat(numbers[:, None], num_times, axis=1).astype(np.float32),
        "SCALE": np.full((num_units, 1), 10, np.float32),
        **changes,
    }


def test_streams_and_plan_inputs_of_units_are_merged_unit_by_unit():
    shapes = []

    def encode(clips, keys, times, scale):
        shapes.append((len(clips), len(keys), times.shape, scale.shape))
        np.testing.assert_array_equal(keys[:, 0, 0, 0], times[:, 0])
        return (times[:, :1] * scale)[:, None]

    # The third has times of another length, the last one another scale.
    tensors = [
        segments(0, 2),
        segments(20, 1),
        segments(30, 2, num_times=3),
        segments(40, 1, SCALE=np.ones((1, 1), np.float32)),
    ]
    requests = [EncodeRequest.from_batch(one, SEGMENTS, Limits()) for one in tensors]
    features = encode_merged(requests, encode, names=SEGMENTS.names)
    assert shapes == [(3, 3, (3, 2), (1, 1)), (2, 2, (2, 3), (1, 1)), (1, 1, (1, 2), (1, 1))]
    assert [part.ravel().tolist() for part in features] == [[0, 10], [200], [300, 310], [40]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"KEYS": np.zeros((1, 3, 3, 3), np.uint8)},
            "KEYS must have as many units as CLIPS, 2, got 1",
            id="fewer_key_frames",
        ),
        pytest.param(
            {"TIMES": np.zeros((3, 2), np.float32)},
            "TIMES must have as many units as CLIPS, 2, got 3",
            id="more_times",
        ),
        pytest.param(
            {"TIMES": np.array([[0, 0], [0, np.inf]], np.float32)},
            "TIMES must be finite$",
            id="infinite",
        ),
        pytest.param(
            {"TIMES": np.zeros((2, 4), np.float32)},
            r"TIMES must have the shape \(n, 1\.\.3\), got \(2, 4\)",
            id="long",
        ),
    ],
)
def test_from_batch_refuses_units_that_do_not_go_together(changes, message):
    with pytest.raises(InvalidRequestError, match=message):
        EncodeRequest.from_batch(segments(0, 2, **changes), SEGMENTS, Limits())
