"""Grounded-VideoLLM's frames, against what its reference returned and its specification says."""

import numpy as np
import pytest

from groundserve.families.grounded_videollm import FAMILY
from groundserve.families.grounded_videollm.plan import PHI_3_5, plan_video
from groundserve.options import AnswerOptions
from tests.unit.families.plans import label, load_vectors, video

VECTORS = load_vectors("grounded_videollm_ref")


def planned(num_source_frames, average_fps=25.0):
    return plan_video(video(num_source_frames, average_fps), AnswerOptions(), PHI_3_5)


@pytest.mark.parametrize("vector", VECTORS, ids=label)
def test_frames_are_the_recorded_ones(vector):
    plan = planned(vector["num_source_frames"], vector.get("average_fps", 25.0))
    assert plan.frame_indices.tolist() == vector["frame_indices"]
    assert plan.frame_indices.dtype == np.int64


@pytest.mark.parametrize("vector", [v for v in VECTORS if "average_fps" in v], ids=label)
def test_key_frames_and_time_base_are_the_recorded_ones(vector):
    plan = planned(vector["num_source_frames"], vector["average_fps"])
    assert plan.time_range_seconds == (0, vector["duration_seconds"])
    temporal, spatial = FAMILY.streams(PHI_3_5)
    ordinals = plan.decoded_indices[plan.units]
    keys = np.array(vector["frame_indices"])[vector["key_frame_positions"]]
    assert ordinals[:, list(spatial.frames)].tolist() == keys[:, np.newaxis].tolist()
    assert ordinals[:, list(temporal.frames)].ravel().tolist() == vector["frame_indices"]
    places = np.arange(96).reshape(plan.units.shape)
    assert places[:, list(spatial.frames)].ravel().tolist() == vector["key_frame_positions"]
