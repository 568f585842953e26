"""What holds of every family that answers in text, and of the registry that has them."""

import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from groundserve import families
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.grounded_videollm.spec import LLAMA_3, PHI_3_5
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from tests.reference import REPOSITORY
from tests.unit.families.plans import video
from tests.unit.test_structure import NUMPY_ONLY

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


@pytest.mark.parametrize(("name", "spec", "frames_per_unit", "feature_width"), MODELS)
def test_streams_take_frames_that_a_unit_has(name, spec, frames_per_unit, feature_width):
    streams = families.get_family(name).streams(spec)
    taken = {place for stream in streams for place in stream.frames}
    assert taken == set(range(frames_per_unit))
    assert len({stream.name for stream in streams}) == len(streams)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_transformers_is_refused_before_a_checkpoint_is_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda package: "4.57.3")
    message = f"^the family {name} needs transformers >= 5, installed is 4.57.3; install it with: "
    with pytest.raises(UnsupportedError, match=message):
        families.open_checkpoint(tmp_path, family=name)


def test_frames_of_a_family_that_resizes_floats_come_as_decoded():
    (stream,) = families.get_family("vtimellm").streams(VTimeLLMSpec())
    assert (stream.size, stream.frames) == (None, (0,))


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


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_has_the_family(name):
    assert name in families.family_names()
    family = families.get_family(name)
    assert (family.name, family.head) == (name, "text")


@pytest.mark.parametrize("get", [families.get_frames_family, families.get_text_family])
def test_one_that_cannot_be_opened_is_not_served(monkeypatch, get):
    planned = ModuleType("planned")
    planned.FAMILY = SimpleNamespace(name="planned", head="text")
    monkeypatch.setitem(sys.modules, "planned", planned)
    monkeypatch.setitem(families._MODULES, "planned", "planned")
    assert "planned" not in families.served_family_names()
    with pytest.raises(UnsupportedError, match="the family planned is not served yet; those that"):
        get("planned")


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


def test_plans_of_all_families_need_numpy_alone():
    program = "\n".join(f"import groundserve.families.{name}" for name in NAMES)
    run = subprocess.run(
        [sys.executable, "-c", NUMPY_ONLY + program], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.returncode == 0, run.stderr
