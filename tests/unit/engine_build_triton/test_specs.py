from __future__ import annotations

from dataclasses import replace

import pytest

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_FAMILY, REFERENCE_MODEL
from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TritonModelSpec
from engine_build.triton.specs import model_specs
from groundserve.errors import InvalidRequestError

GPU = LAYOUTS["gpu"]


def spec_of(layout: RepositoryLayout, name: str) -> TritonModelSpec:
    return next(
        spec for spec in model_specs(layout, REFERENCE_FAMILY, REFERENCE_MODEL) if spec.name == name
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


def test_layout_without_nvdecs_is_refused():
    with pytest.raises(InvalidRequestError, match="num_nvdec must be >= 1, got 0"):
        replace(GPU, num_nvdec=0)
