from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_MODEL
from engine_build.triton.specs import RepositoryLayout, TritonModelSpec, model_specs
from groundserve.errors import InvalidRequestError, UnsupportedError

GPU = LAYOUTS["gpu"]


def spec_of(layout: RepositoryLayout, name: str) -> TritonModelSpec:
    return next(spec for spec in model_specs(layout, REFERENCE_MODEL) if spec.name == name)


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
    assert model_specs(layout, REFERENCE_MODEL) == model_specs(
        LAYOUTS["torch-cuda"], REFERENCE_MODEL
    )


def test_plan_of_tensorrt_rtx_is_run_by_a_python_model():
    encoder = spec_of(replace(GPU, tensorrt_library="tensorrt_rtx"), "vision_encoder")
    assert (encoder.backend, encoder.device, encoder.warmup) == ("python", "cuda", None)
    assert encoder.outputs == spec_of(GPU, "vision_encoder").outputs


@pytest.mark.parametrize(("precision", "data_type"), [("fp32", "FP32"), ("fp16", "FP16")])
def test_features_have_the_precisions_width(precision, data_type):
    layout = replace(LAYOUTS["torch-cuda"], precision=precision)
    assert spec_of(layout, "grounding").inputs[0].data_type == data_type


def test_warmup_fits_a_model_with_a_small_budget():
    """Fewer tokens than default frames: the encoder could never run at T = 512."""
    model = replace(REFERENCE_MODEL, vision_token_num=100)
    encoder = next(spec for spec in model_specs(GPU, model) if spec.name == "vision_encoder")
    assert encoder.warmup is not None
    assert encoder.warmup.dims["POOL"] == (1, 27)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tensorrt_library": None}, "must be tensorrt or tensorrt_rtx with the profile gpu"),
        ({"profile": "torch"}, "must be None with the profile torch, got tensorrt"),
        ({"num_nvdec": 0}, "num_nvdec must be >= 1, got 0"),
    ],
    ids=["library_missing", "library_unwanted", "no_nvdec"],
)
def test_layout_that_contradicts_itself_is_refused(changes: dict[str, Any], match: str):
    with pytest.raises(InvalidRequestError, match=match):
        replace(GPU, **changes)


def test_layout_with_what_the_profile_does_not_offer_is_refused():
    with pytest.raises(UnsupportedError, match="profile gpu computes in bf16, fp16 on cuda"):
        replace(GPU, precision="fp32")
