from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine_build.triton import trunk
from engine_build.triton.__main__ import LAYOUTS, REFERENCE_FAMILY, REFERENCE_MODEL
from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TensorSpec, TritonModelSpec
from engine_build.triton.specs import model_specs
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families import get_family
from groundserve.families.default_video import default_plan
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.vision_inputs import VisionInputs
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.limits import MIB

GPU = LAYOUTS["gpu"]


def spec_of(layout: RepositoryLayout, name: str) -> TritonModelSpec:
    return next(
        spec for spec in model_specs(layout, REFERENCE_FAMILY, REFERENCE_MODEL) if spec.name == name
    )


@pytest.mark.parametrize(
    ("num_nvdec", "num_instances", "num_threads"),
    [
        pytest.param(1, 1, "2", id="one_nvdec_has_nothing_for_a_second_process"),
        pytest.param(2, 2, "2", id="two"),
        pytest.param(7, 2, "7", id="one_video_can_use_all_seven"),
    ],
)
def test_decoders_follow_from_nvdecs(num_nvdec, num_instances, num_threads):
    layout = replace(GPU, num_nvdec=num_nvdec)
    decode = spec_of(layout, "video_decode")
    assert decode.num_instances == num_instances
    assert decode.parameters == {"num_threads": num_threads}
    assert spec_of(layout, "video_features").num_instances == 2 * num_instances


def test_nvdecs_do_not_matter_where_the_host_decodes():
    layout = replace(LAYOUTS["torch-cuda"], num_nvdec=7)
    assert model_specs(layout, REFERENCE_FAMILY, REFERENCE_MODEL) == model_specs(
        LAYOUTS["torch-cuda"], REFERENCE_FAMILY, REFERENCE_MODEL
    )


def test_plan_of_tensorrt_rtx_is_run_by_a_python_model():
    encoder = spec_of(
        replace(GPU, target=replace(GPU.target, library="tensorrt_rtx")), "vision_encoder"
    )
    assert (encoder.backend, encoder.device, encoder.warmup) == ("python", "cuda", None)
    assert encoder.outputs == spec_of(GPU, "vision_encoder").outputs


@pytest.mark.parametrize(
    ("name", "precision", "data_type"),
    [("torch-cuda", "fp32", "FP32"), ("torch-cuda", "fp16", "FP16"), ("cpu", "int8", "FP32")],
)
def test_features_have_the_precisions_width(name, precision, data_type):
    layout = LAYOUTS[name]
    layout = replace(layout, target=replace(layout.target, precision=precision))
    assert spec_of(layout, "grounding").inputs[0].data_type == data_type


def test_warmup_fits_a_model_with_a_small_budget():
    """Fewer tokens than default frames: the encoder could never run at T = 512."""
    model = replace(REFERENCE_MODEL, vision_token_num=100)
    encoder = next(
        spec for spec in model_specs(GPU, REFERENCE_FAMILY, model) if spec.name == "vision_encoder"
    )
    assert encoder.warmup is not None
    assert encoder.warmup.dims["POOL"] == (1, 27)


@pytest.mark.parametrize(
    ("name", "num_bytes", "num_instances"),
    [
        pytest.param("cpu", 64 * MIB, 2, id="light"),
        pytest.param("cpu", 64 * MIB + 1, 1, id="heavy"),
        pytest.param("cpu", None, 1, id="not_known"),
        pytest.param("gpu", MIB, 1, id="on_a_gpu"),
    ],
)
def test_light_grounders_work_side_by_side(name, num_bytes, num_instances):
    layout = replace(LAYOUTS[name], grounder_bytes=num_bytes)
    assert spec_of(layout, "grounding").num_instances == num_instances


@pytest.mark.parametrize(("num_bytes", "num_instances"), [(64 * MIB, 2), (64 * MIB + 1, 1)])
def test_light_decoders_answer_side_by_side(num_bytes, num_instances):
    layout = replace(LAYOUTS["cpu"], grounder_bytes=num_bytes)
    specs = model_specs(layout, get_family("vtimellm"), VTimeLLMSpec())
    (generation,) = [spec for spec in specs if spec.name == "generation"]
    assert generation.num_instances == num_instances


def test_layout_without_nvdecs_is_refused():
    with pytest.raises(InvalidRequestError, match="num_nvdec must be >= 1, got 0"):
        replace(GPU, num_nvdec=0)


class TwoSizes:
    """A family with streams that cannot be served."""

    name = "twosizes"

    def __init__(self, *streams: FrameStream) -> None:
        self.streams = lambda spec: streams


@pytest.mark.parametrize(
    ("streams", "shown"),
    [
        pytest.param(
            [
                FrameStream(name="CLIP", size=224, frames=(0, 1)),
                FrameStream(name="RAW", size=None),
            ],
            r"CLIP \(224, 2 a unit\), RAW \(any size, 1 a unit\)",
            id="as_decoded_beside_others",
        ),
        pytest.param(
            [FrameStream(name="RAW", size=None, frames=(0, 1))],
            r"RAW \(any size, 2 a unit\)",
            id="segments_as_decoded",
        ),
    ],
)
def test_streams_that_are_not_served_are_refused(streams, shown):
    with pytest.raises(UnsupportedError, match=f"the family twosizes takes {shown}$"):
        model_specs(GPU, TwoSizes(*streams), REFERENCE_MODEL)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_each_stream_is_a_tensor_and_targets_say_which_show_them(name):
    inputs = VisionInputs(
        streams=(
            FrameStream(name="CLIPS", size=224, frames=tuple(range(8))),
            FrameStream(name="KEYS", size=336, frames=(4,)),
        ),
        plan_inputs=(PlanInput(name="TIMES", dims=(-1,), max_dims=(9,), of_units=True),),
    )
    features = TensorSpec("FEATURES", "FP32", (-1, -1, 32))
    decode = trunk.video_decode(LAYOUTS[name], inputs)
    assert decode.inputs[-1] == TensorSpec("SHOWN", "UINT8", (-1, 2))
    assert decode.outputs[:2] == (
        TensorSpec("CLIPS", "UINT8", (-1, 224, 224, 3)),
        TensorSpec("KEYS", "UINT8", (-1, 336, 336, 3)),
    )
    plan = default_plan(get_family("vtimellm"), VTimeLLMSpec())
    usual = replace(plan, inputs={"TIMES": np.zeros((len(plan.units), 5), np.float32)})
    encoder = trunk.vision_encoder(LAYOUTS[name], inputs, features, usual)
    assert encoder.inputs == (
        TensorSpec("CLIPS", "UINT8", (8, 224, 224, 3)),
        TensorSpec("KEYS", "UINT8", (336, 336, 3)),
        TensorSpec("TIMES", "FP32", (-1,)),
    )
    assert encoder.max_batch_size == 8
    assert encoder.dynamic_batching is not None
    if name == "gpu":
        assert encoder.warmup.batch_size == 8
        assert encoder.warmup.dims == {
            "CLIPS": (8, 224, 224, 3),
            "KEYS": (336, 336, 3),
            "TIMES": (5,),
        }


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_frames_as_decoded_have_free_sides_and_are_not_merged(name):
    inputs = VisionInputs(streams=(FrameStream(name="RAW", size=None),), plan_inputs=())
    features = TensorSpec("FEATURES", "FP32", (-1, -1, 32))
    decode = trunk.video_decode(LAYOUTS[name], inputs)
    assert decode.outputs[0] == TensorSpec("RAW", "UINT8", (-1, -1, -1, 3))
    usual = default_plan(get_family("vtimellm"), VTimeLLMSpec())
    encoder = trunk.vision_encoder(LAYOUTS[name], inputs, features, usual)
    assert encoder.inputs == (TensorSpec("RAW", "UINT8", (-1, -1, 3)),)
    assert (encoder.max_batch_size, encoder.dynamic_batching) == (64, None)
    if name == "gpu":
        assert encoder.warmup.batch_size == 64
        assert encoder.warmup.dims == {"RAW": (usual.index.height, usual.index.width, 3)}
