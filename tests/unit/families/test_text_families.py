"""What holds of every family that answers in text, and of the registry that has them."""

import json

import numpy as np
import pytest

from groundserve import families
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.grounded_videollm.spec import LLAMA_3, PHI_3_5
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.families.vtimellm.spec import VTimeLLMSpec
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
@pytest.mark.parametrize("num_source_frames", [1, 2, 7, 95, 96, 97, 100, 101, 10**6])
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


def test_each_heads_families_are_got_by_it_and_the_other_command_is_named():
    assert families.served_family_names()[:3] == ("videoitg", "vtimellm", "grounded_videollm")
    assert families.get_text_family("vtimellm").head == "text"
    with pytest.raises(UnsupportedError, match=r"vtimellm answers in text: use ask, not score$"):
        families.get_frames_family("vtimellm")
    with pytest.raises(UnsupportedError, match=r"videoitg scores frames: use score, not ask$"):
        families.get_text_family("videoitg")


def test_a_config_of_a_text_familys_decoder_is_no_checkpoint(tmp_path):
    """Its parts lie in folders; a decoder alone is one of none that are served."""
    raw_config = {"model_type": "llama", "architectures": ["VTimeLLMLlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(raw_config), "utf-8")
    with pytest.raises(UnsupportedError, match=r"is of none .*\(videoitg, vtimellm, .*\)$"):
        families.open_checkpoint(tmp_path)


def test_parts_and_vision_towers_go_with_one_head_each(tmp_path):
    with pytest.raises(UnsupportedError, match=r"vtimellm takes no vision_tower; .*clip, base"):
        families.open_checkpoint(tmp_path, family="vtimellm", vision_tower=tmp_path)
    with pytest.raises(UnsupportedError, match='videoitg has no part "clip"'):
        families.open_checkpoint(tmp_path, family="videoitg", parts={"clip": [tmp_path]})


def test_a_family_that_is_named_is_not_looked_for(tmp_path):
    with pytest.raises(InvalidRequestError, match="parts of vtimellm are missing: clip"):
        families.open_checkpoint(tmp_path, family="vtimellm")
    with pytest.raises(UnsupportedError, match="family must be one of"):
        families.open_checkpoint(tmp_path, family="vtime")
