"""Which families that answer in text have engines for a GPU, and what a build of them refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine_build import build
from engine_build.families import get_text_gpu_family
from engine_build.families.vtimellm.mixed_precision import MixedClipTower
from engine_build.families.vtimellm.vision_plan import clip_shapes
from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.specs import model_specs
from groundserve._version import __version__
from groundserve.errors import UnsupportedError
from groundserve.families import get_family, get_text_family
from groundserve.families.plans import PLAN_PIXELS, FrameStream
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.manifest import FORMAT_VERSION, Manifest
from groundserve.profiles import PROFILES, Target
from groundserve.scoring.gate import judge
from groundserve.scoring.text_gate import measure_text
from groundserve.scoring.tolerances import TOLERANCES
from python_backend.encode import TensorRTEncoder
from python_backend.engine import EngineDirectory
from tests.answer_cases import CHECKPOINTS, MODELS
from tests.unit.families.grounded_videollm.checkpoints import WEIGHTS


class ModulePlan:
    """What PlanRunner does, with the module that the plan is built of."""

    device = torch.device("cpu")

    def __init__(self, module, shapes):
        self.module, self.shapes, self.num_frames = module, shapes, []

    def max_shape(self, name):
        return self.shapes[name].max_shape

    def run(self, inputs):
        (pixel_values,) = inputs.values()
        assert inputs.keys() == {PLAN_PIXELS}
        assert pixel_values.dtype == torch.float16
        assert pixel_values.is_contiguous()
        assert pixel_values.shape[1:] == self.max_shape(PLAN_PIXELS)[1:]
        self.num_frames.append(len(pixel_values))
        with torch.inference_mode():
            return {"FEATURES": self.module(pixel_values)}


@pytest.fixture(scope="module")
def opened():
    return Checkpoint.open(CHECKPOINTS, parts=MODELS["stage3"])


@pytest.fixture
def plan(opened):
    tower = MixedClipTower(opened.load_vision(), dtype=torch.float16)
    return ModulePlan(tower, clip_shapes(tower))


@pytest.fixture
def engine(opened, plan):
    """An engine directory of the profile, on a CPU; its plan is in PyTorch."""
    family = get_text_family("vtimellm")
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        family="vtimellm",
        groundserve_version=__version__,
        profile="gpu",
        device="cpu",
        precision="fp16",
        model=opened.model_spec(pad_token_id=0),
        checkpoint={},
        source_config={},
        builder={},
        files={},
    )
    image_size = plan.max_shape(PLAN_PIXELS)[-1]
    pixels = family.open_pixels(manifest.model, image_size=image_size)

    def open_encoder(*, num_threads):
        return TensorRTEncoder(plan, [PLAN_PIXELS], pixels=pixels)

    return SimpleNamespace(manifest=manifest, open_encoder=open_encoder)


def test_frames_are_resized_before_the_plan_which_takes_as_many_as_it_may(engine, opened, plan):
    noise = np.random.default_rng(20261123).integers(0, 256, (70, 54, 96, 3), dtype=np.uint8)
    features = engine.open_encoder(num_threads=1).encode(noise)
    assert plan.num_frames == [64, 6]
    assert features.shape == (70, 1, opened.clip.config.projection_dim)
    with torch.inference_mode():
        expected = opened.load_vision()(torch.from_numpy(noise)).numpy()
    error = np.linalg.norm(features.numpy() - expected) / np.linalg.norm(expected)
    # As tests/build/test_vtimellm_plan.py has it.
    assert 0 < error < (7**0.5 + 1) * 2.0**-11


def test_the_gate_runs_the_vision_stage_and_says_that_answers_were_not_run(engine, opened):
    report = measure_text(engine, opened, TOLERANCES["fp16"])
    (check,) = report.checks
    assert check.output == "features"
    assert 0 < check.error <= check.bound
    judge(report)
    assert report.not_run == {"answers": "Triton's tensorrtllm backend alone runs the decoder"}
    assert report.summary == (
        f"features differ by {check.error:.1e} (relative); answers: not run, Triton's tensorrtllm "
        "backend alone runs the decoder"
    )


def test_answers_in_process_name_the_server(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(Manifest, "load_again", lambda *_: None)
    directory = EngineDirectory(tmp_path, engine.manifest)
    with pytest.raises(UnsupportedError, match="start groundserve serve and ask with --server"):
        directory.open_generator(num_threads=1)


GPU = RepositoryLayout(
    target=Target(profile="gpu", device="cuda", precision="fp16", library="tensorrt"), num_nvdec=7
)


@pytest.mark.parametrize("name", ["vtimellm", "vtgllm"])
def test_what_is_served_is_built_in_the_dtype_of_its_prompt_table(name):
    assert get_text_gpu_family(name, "gpu").PRECISIONS == ("fp16",)


def test_a_build_of_grounded_videollm_says_why_before_anything_is_read(tmp_path):
    steps = []
    words = "its head has a bias, .* profile torch with the device cuda; it has the profiles"
    with pytest.raises(UnsupportedError, match=words):
        build(WEIGHTS, tmp_path / "out", profile="gpu", on_step=steps.append)
    assert steps == []


@pytest.mark.parametrize(
    ("name", "profile", "words"),
    [
        ("vtimellm", "gpu-trt", "no decoder of that profile generates text; it has the profiles"),
        ("grounded_videollm", "gpu", "its head has a bias, .* profile torch with the device cuda"),
        ("vtgllm", "gpu-trt", "no decoder of that profile generates text; it has the profiles"),
    ],
)
def test_a_family_without_engines_says_why(name, profile, words):
    with pytest.raises(UnsupportedError, match=words):
        get_text_gpu_family(name, profile)


def test_bf16_is_refused_before_anything_is_built(tmp_path):
    steps = []
    with pytest.raises(UnsupportedError, match="built in fp16, got precision bf16"):
        build(
            CHECKPOINTS,
            tmp_path / "out",
            profile="gpu",
            precision="bf16",
            parts=MODELS["stage3"],
            on_step=steps.append,
        )
    assert steps == []


def test_a_machine_without_tensorrt_llm_names_the_profile_that_needs_none(tmp_path):
    with pytest.raises(UnsupportedError, match=r"1\.2\.1, which .* choose the profile torch"):
        build(CHECKPOINTS, tmp_path / "out", profile="gpu", parts=MODELS["stage3"])


@pytest.mark.parametrize(
    ("streams", "decoder"),
    [
        ([FrameStream(name="PIXELS", size=384)], "dali"),
        ([FrameStream(name="PIXELS", size=None)], "pyav"),
        ([FrameStream(name="PIXELS", size=224, resize="bilinear")], "pyav"),
        ([FrameStream(name="A", size=8), FrameStream(name="B", size=8, resize="bilinear")], "pyav"),
    ],
)
def test_dali_decodes_where_it_has_the_filter(streams, decoder):
    assert PROFILES["gpu"].decoder_of(streams) == decoder
    assert PROFILES["torch"].decoder_of(streams) == "pyav"


def test_frames_as_decoded_are_decoded_on_the_host_and_resized_in_a_python_model():
    specs = {one.name: one for one in model_specs(GPU, get_family("vtimellm"), VTimeLLMSpec())}
    assert (specs["video_decode"].device, specs["video_decode"].parameters) == ("cpu", {})
    encoder = specs["vision_encoder"]
    assert (encoder.backend, encoder.device, encoder.warmup) == ("python", "cuda", None)
    assert (specs["generation"].device, specs["generation"].num_instances) == ("cpu", 4)


def test_frames_of_one_size_go_to_the_plan_as_they_are():
    specs = {one.name: one for one in model_specs(GPU, get_family("vtgllm"), VTGLLMSpec())}
    # FFmpeg scales them: DALI has another filter.
    assert (specs["video_decode"].device, specs["video_decode"].parameters) == ("cpu", {})
    assert specs["vision_encoder"].backend == "tensorrt"
    assert (specs["generation"].device, specs["generation"].num_instances) == ("cpu", 4)
