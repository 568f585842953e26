"""What DALI is given to decode, by codec, layout, size and GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from groundserve.media import StreamInfo
from python_backend.decode.nvdec import why_not_on_cpu, why_not_on_gpu

STREAM = StreamInfo(
    codec_name="h264",
    pixel_format="yuv420p",
    width=1920,
    height=1080,
    rotation=0,
    frame_counts=(1,),
)


@pytest.mark.parametrize(
    ("gpu_arch", "changes", "reason"),
    [
        ("sm_90", {}, None),
        ("sm_90", {"codec_name": "av1"}, "NVDEC of sm_90 does not decode av1"),
        ("sm_86", {"codec_name": "av1"}, None),
        (
            "sm_90",
            {"pixel_format": "yuv420p10le"},
            "NVDEC of sm_90 does not decode h264 as yuv420p10le",
        ),
        ("sm_90", {"pixel_format": "yuv422p"}, "NVDEC of sm_90 does not decode h264 as yuv422p"),
        ("sm_90", {"width": 4096, "height": 4096}, None),
        ("sm_90", {"height": 143}, "NVDEC of sm_90 does not decode h264 of 1920 x 143"),
        ("sm_70", {}, "NVDEC of sm_70 is not known"),
    ],
)
def test_what_a_gpu_decodes(gpu_arch: str, changes: dict[str, object], reason: str | None) -> None:
    assert why_not_on_gpu(replace(STREAM, **changes), gpu_arch) == reason


@pytest.mark.parametrize("codec_name", ["vp8", "vp9", "mjpeg"])
def test_what_a_cpu_decodes(codec_name: str) -> None:
    assert why_not_on_cpu(replace(STREAM, codec_name=codec_name)) is None
