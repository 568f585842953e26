import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.sampling import sample_frames, snap_to_keyframes

# spec/videoitg.md 1.1, "Reference examples": (total, fps), then T, first four, last two.
RULE_A = [
    (9514, 23.976, 512, [12, 24, 48, 60], [9480, 9504]),
    (54000, 30.0, 512, [90, 195, 300, 405], [53880, 53985]),
    (18000, 29.97, 512, [15, 60, 90, 120], [17955, 17985]),
    (100000, 25.0, 512, [180, 384, 576, 768], [99804, 99996]),
    (300, 30.0, 20, [0, 15, 30, 45], [270, 285]),
]
RULE_B = [
    (9514, 23.976, 397, [0, 24, 48, 72], [9480, 9504]),
    (54000, 30.0, 512, [0, 90, 210, 300], [53760, 53880]),
    (18000, 29.97, 512, [0, 30, 60, 90], [17910, 17940]),
    (100000, 25.0, 512, [0, 175, 375, 575], [99600, 99800]),
    (300, 30.0, 10, [0, 30, 60, 90], [240, 270]),
]


@pytest.mark.parametrize(("total", "fps", "count", "first", "last"), RULE_A)
def test_infer_rule_gives_the_reference_examples(total, fps, count, first, last):
    got = sample_frames(total, fps, sampling="infer", sample_fps=2, num_frames=512)
    assert (len(got), got[:4].tolist(), got[-2:].tolist()) == (count, first, last)


@pytest.mark.parametrize(("total", "fps", "count", "first", "last"), RULE_B)
def test_eval_rule_gives_the_reference_examples(total, fps, count, first, last):
    got = sample_frames(total, fps, sampling="eval", sample_fps=1, num_frames=512)
    assert (len(got), got[:4].tolist(), got[-2:].tolist()) == (count, first, last)


@pytest.mark.parametrize(("fps", "sample_fps", "stride"), [(25, 2, 12), (15, 2, 8), (2.5, 1, 2)])
def test_stride_rounds_ties_to_even(fps, sample_fps, stride):
    got = sample_frames(100, fps, sampling="eval", sample_fps=sample_fps, num_frames=512)
    assert got[1] == stride


def test_eval_rule_refuses_a_stride_of_zero_as_the_reference_raises():
    with pytest.raises(InvalidRequestError, match="sample_fps 2 is too high"):
        sample_frames(100, 1.0, sampling="eval", sample_fps=2, num_frames=512)


def test_rate_so_low_that_the_stride_is_infinite_takes_the_first_frame():
    options = {"sampling": "eval", "sample_fps": 5e-324, "num_frames": 4}
    assert sample_frames(72, 25.0, **options).tolist() == [0]


def test_infer_rule_uses_every_frame_at_a_stride_of_zero():
    got = sample_frames(5, 1.0, sampling="infer", sample_fps=2, num_frames=512)
    assert got.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sampling", ["eval", "infer"])
@pytest.mark.parametrize("num_frames", [1, 2, 7, 99])
def test_indices_increase_strictly_and_stay_inside(sampling, num_frames):
    got = sample_frames(1000, 29.97, sampling=sampling, sample_fps=10, num_frames=num_frames)
    assert len(got) == num_frames
    assert got.dtype == np.int64
    assert (np.diff(got) > 0).all()
    assert 0 <= got[0] <= got[-1] < 1000


def test_snap_moves_to_the_nearest_keyframe_and_drops_duplicates():
    is_key = np.zeros(20, bool)
    is_key[[0, 10]] = True
    got, shift = snap_to_keyframes(np.array([0, 4, 6, 19]), is_key, np.arange(20) / 10)
    assert got.tolist() == [0, 10]
    assert shift == pytest.approx(0.9)


def test_snap_takes_the_earlier_of_two_keyframes_at_the_same_distance():
    is_key = np.array([True, False, True])
    got, _ = snap_to_keyframes(np.array([1]), is_key, np.array([0.0, 1.0, 2.0]))
    assert got.tolist() == [0]


def test_snap_refuses_a_video_without_keyframes():
    with pytest.raises(InvalidRequestError, match='use seek "exact"'):
        snap_to_keyframes(np.array([0]), np.zeros(3, bool), np.arange(3.0))
