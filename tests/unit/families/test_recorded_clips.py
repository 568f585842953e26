"""Plans of real files, whose length, rate and times we read ourselves.

The stand-in `formula` has no file.
"""

from pathlib import Path

import pytest

from groundserve.families import get_family
from groundserve.families.grounded_videollm.spec import PHI_3_5
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.options import AnswerOptions
from tests.media_assets.reading import reader_of
from tests.reference import REPOSITORY
from tests.unit.families.plans import label, load_vectors

FIXTURES = REPOSITORY / "tests" / "fixtures"
SHORT = {
    "portrait_57": FIXTURES / "vtimellm_ref" / "videos" / "portrait_57.mp4",
    "short_50f": FIXTURES / "grounded_videollm_ref" / "clips" / "short_50f.mp4",
    "short_41f": FIXTURES / "vtgllm_ref" / "clips" / "short_41f.mp4",
}


def of_files(reference_set):
    vectors = load_vectors(reference_set)
    return [v for v in vectors if v["video"] and not v["video"].startswith("formula")]


@pytest.fixture
def index_of(clips: dict[str, Path]):
    def index_of(name):
        with reader_of({**clips, **SHORT}[name]) as reader:
            return reader.index

    return index_of


@pytest.mark.parametrize("vector", of_files("vtimellm_ref"), ids=label)
def test_vtimellm(index_of, vector):
    index = index_of(vector["video"])
    clip = vector["clip_seconds"]
    options = AnswerOptions(clip_seconds=tuple(clip) if clip else None)
    plan = get_family("vtimellm").plan(index, options, VTimeLLMSpec())
    assert index.num_source_frames == vector["num_source_frames"]
    assert index.average_fps == pytest.approx(vector["average_fps"], rel=1e-9)  # of 10 digits
    assert plan.frame_indices.tolist() == vector["frame_indices"]


@pytest.mark.parametrize("vector", of_files("grounded_videollm_ref"), ids=label)
def test_grounded_videollm(index_of, vector):
    index = index_of(vector["video"])
    plan = get_family("grounded_videollm").plan(index, AnswerOptions(), PHI_3_5)
    assert plan.frame_indices.tolist() == vector["frame_indices"]
    assert plan.time_range_seconds == (0, vector["duration_seconds"])


@pytest.mark.parametrize("vector", of_files("vtgllm_ref"), ids=label)
def test_vtgllm(index_of, vector):
    index = index_of(vector["video"])
    options = AnswerOptions(num_frames=vector["num_frames"])
    plan = get_family("vtgllm").plan(index, options, VTGLLMSpec())
    assert index.average_fps == vector["average_fps"]
    assert plan.frame_indices.tolist() == vector["frame_indices"]
    assert [str(time) for time in plan.model_seconds.tolist()] == vector["timestamps"]


def test_all_clips_are_among_them():
    sets = ("vtimellm_ref", "grounded_videollm_ref", "vtgllm_ref")
    videos = {vector["video"] for name in sets for vector in of_files(name)}
    usual = {"bikes", "bigbuckbunny", "carphone_pristine", "rotated", "vfr"}
    assert videos == usual | set(SHORT)
