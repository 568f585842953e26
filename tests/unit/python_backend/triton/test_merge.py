from __future__ import annotations

import numpy as np

from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.vision_inputs import VisionInputs
from python_backend.triton._merge import encode_merged


def test_frames_of_different_sizes_are_not_one_call():
    sizes = []

    def encode(frames):
        sizes.append(frames.shape)
        return np.full((len(frames), 1, 1), frames.shape[1], np.float32)

    arrays = [np.zeros((num, side, 4, 3), np.uint8) for num, side in ((2, 3), (1, 5), (3, 3))]
    inputs = VisionInputs(
        streams=(FrameStream(name="RAW", size=None, frames=(0,)),), plan_inputs=()
    )
    merged = encode_merged([{"RAW": frames} for frames in arrays], encode, inputs)
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
    features = encode_merged(tensors, encode, SEGMENTS)
    assert shapes == [(3, 3, (3, 2), (1, 1)), (2, 2, (2, 3), (1, 1)), (1, 1, (1, 2), (1, 1))]
    assert [part.ravel().tolist() for part in features] == [[0, 10], [200], [300, 310], [40]]
