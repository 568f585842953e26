import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from train.data.reader import frame_labels


def test_frame_labels():
    labels = frame_labels((0, 3, 3), num_frames=4)
    assert labels.dtype == np.float32
    assert labels.tolist() == [1, 0, 0, 1]


def test_frame_labels_past_the_last_frame_fail():
    with pytest.raises(InvalidRequestError, match=r"frame_num must be below 4, .* got 4"):
        frame_labels((1, 4), num_frames=4)
