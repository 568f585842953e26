import numpy as np
import pytest

from groundserve.data_record import FrameTargets
from groundserve.errors import InvalidRequestError
from train.data.labels import frame_labels, multi_hot


def test_frame_labels():
    labels = frame_labels((0, 3, 3), num_frames=4)
    assert labels.dtype == np.float32
    assert labels.tolist() == [1, 0, 0, 1]


def test_frame_labels_without_positives_are_zero():
    assert frame_labels((), num_frames=2).tolist() == [0, 0]


def test_frame_labels_past_the_last_frame_fail():
    with pytest.raises(InvalidRequestError, match=r"frame_num must be below 4, .* got 4"):
        frame_labels((1, 4), num_frames=4)


def test_multi_hot():
    targets = multi_hot(FrameTargets(num=3, frames=((0, 2), ())), num_frames=2)
    assert targets is not None
    assert targets.dtype == np.float32
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert multi_hot(None, num_frames=2) is None


def test_multi_hot_of_another_number_of_frames_fails():
    with pytest.raises(InvalidRequestError, match="one list a sampled frame, 3, got 2"):
        multi_hot(FrameTargets(num=1, frames=((), ())), num_frames=3)
