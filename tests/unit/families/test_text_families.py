"""What holds of every family that answers in text, and of the registry that has them."""

import numpy as np
import pytest

from groundserve import families
from groundserve.errors import UnsupportedError
from groundserve.families.grounded_videollm.plan import LLAMA_3, PHI_3_5
from groundserve.families.vtgllm.plan import VTGLLMSpec
from groundserve.families.vtimellm.plan import VTimeLLMSpec
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from tests.unit.families.plans import video

# Family, spec, frames of a unit, width of the features.
MODELS = [
    pytest.param("vtimellm", VTimeLLMSpec(), 1, 768, id="vtimellm"),
    pytest.param("grounded_videollm", PHI_3_5, 8, 3072, id="phi3.5"),
    pytest.param("grounded_videollm", LLAMA_3, 8, 4096, id="llama3"),
    pytest.param("vtgllm", VTGLLMSpec(), 1, 768, id="vtgllm"),
]
NAMES = ["vtimellm", "grounded_videollm", "vtgllm"]


@pytest.mark.parametrize(("name", "spec", "frames_per_unit", "feature_width"), MODELS)
@pytest.mark.parametrize("num_source_frames", [1, 95, 96, 97, 101, 10**6])
def test_each_frame_is_decoded_once_and_units_lead_back_to_the_sampled_ones(
    name, spec, frames_per_unit, feature_width, num_source_frames
):
    plan = families.get_family(name).plan(video(num_source_frames, 200.0), AnswerOptions(), spec)
    assert (np.diff(plan.frame_indices) >= 0).all()
    assert (np.diff(plan.decoded_indices) > 0).all()
    assert len(plan.decoded_indices) == min(num_source_frames, len(plan.frame_indices))
    assert 0 <= plan.decoded_indices[0] <= plan.decoded_indices[-1] < num_source_frames
    assert plan.units.shape == (len(plan.frame_indices) // frames_per_unit, frames_per_unit)
    assert plan.units.dtype == np.int64
    assert plan.decoded_indices[plan.units].ravel().tolist() == plan.frame_indices.tolist()
    assert len(plan.pts_seconds) == len(plan.frame_indices) <= plan.num_frames
    assert spec.feature_width == feature_width


@pytest.mark.parametrize("name", NAMES)
def test_an_old_transformers_is_refused_before_a_checkpoint_is_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda package: "4.57.3")
    message = f"^the family {name} needs transformers >= 5, installed is 4.57.3; install it with: "
    with pytest.raises(UnsupportedError, match=message):
        families.open_checkpoint(tmp_path, family=name)


@pytest.mark.parametrize(
    ("name", "spec", "num_frames"),
    [("vtimellm", VTimeLLMSpec(), 100), ("grounded_videollm", PHI_3_5, 96)],
)
def test_a_fixed_number_of_frames_is_refused_where_the_ceiling_is_lower(name, spec, num_frames):
    family = families.get_family(name)
    family.plan(video(9), AnswerOptions(), spec, Limits(max_num_frames=num_frames))
    with pytest.raises(UnsupportedError) as error:
        family.plan(video(9), AnswerOptions(), spec, Limits(max_num_frames=num_frames - 1))
    assert str(error.value) == (
        f"{name} samples {num_frames} frames of every video, and this server takes at most "
        f"{num_frames - 1}; its operator can raise max_num_frames"
    )
