from __future__ import annotations

from dataclasses import replace

import pytest

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.profiles import Target

GPU = Target(profile="gpu", device="cuda", precision="bf16", library="tensorrt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"library": None},
            "library must be tensorrt or tensorrt_rtx with the profile gpu, got None",
            id="library_missing",
        ),
        pytest.param(
            {"profile": "torch"},
            "library must be None with the profile torch, got tensorrt",
            id="library_unwanted",
        ),
        pytest.param(
            {"library": "openvino"},
            "library must be tensorrt or tensorrt_rtx with the profile gpu, got openvino",
            id="library_unknown",
        ),
    ],
)
def test_a_library_goes_with_tensorrt_engines(changes, message):
    with pytest.raises(InvalidRequestError, match=f"^{message}$"):
        replace(GPU, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "tpu"}, "profile must be one of cpu, torch, gpu, gpu-trt, got 'tpu'"),
        (
            {"precision": "fp32"},
            "profile gpu computes in bf16, fp16 on cuda, got precision fp32",
        ),
        (
            {"profile": "torch", "device": "cpu", "precision": "int8", "library": None},
            "profile torch computes in fp32 on cpu, got precision int8",
        ),
    ],
    ids=["profile", "precision", "int8_in_pytorch"],
)
def test_what_a_profile_does_not_offer_is_refused(changes, message):
    with pytest.raises(UnsupportedError, match=f"^{message}$"):
        replace(GPU, **changes)


@pytest.mark.parametrize("changes", [{"device": None}, {"precision": None}])
def test_a_target_is_one_device_and_one_precision(changes):
    with pytest.raises(InvalidRequestError, match=r"^device and precision must be given, .*None"):
        replace(GPU, **changes)
