"""What a piece of each stage's work takes: as measured, and where nothing was, as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks._cost import Figure, Rates, Request, Video, num_decoded
from benchmarks.gpu.size import FULL, Size

PEAK_TFLOPS = 989.0
"""Dense bf16 peak of an H100 or H200 SXM. Source: NVIDIA's data sheets."""
PLANNED_SHARE = 0.5
"""Of the peak. Published shares of the parts: attention 0.6 to 0.65 (FlashAttention-3, arXiv
2407.08608); no figure of SigLIP so400m on this GPU is known."""
NVDEC_FPS, NUM_NVDEC = 600.0, 7
"""H.264 of 1080p, one engine: 620 of a Turing card (jlennox/NvEncSharp #4), 596 of an RTX 4060 Ti
(NVIDIA-ISAAC-ROS/isaac_ros_benchmark). An H100 has 7 (facebookresearch/spdl, docs); that its
engines are no slower is a guess."""


def measured_rates(stages: Mapping[str, Any], size: Size, *, source: str) -> tuple[Rates, Video]:
    """Read what `benchmarks.stages` measured.

    Args:
        stages: Its report.
        size: Dimensions of the model that it measured.
        source: What figures shall call it.

    Returns:
        The rates, of one core; and the video they were measured with.
    """
    results, measured = stages["results"], stages["inputs"][0]
    video = Video(
        duration_seconds=measured["num_packets"] / measured["average_fps"],
        fps=measured["average_fps"],
        gop=round(measured["num_packets"] / measured["num_key_packets"]),
        bytes_per_second=measured["bytes"] * measured["average_fps"] / measured["num_packets"],
    )
    num_frames = results["num_frames"]
    num_pictures = num_decoded(Request(num_frames=num_frames).frames_of(video), video.gop)
    cpu = {stage: float(row["cpu_seconds"]) for stage, row in results["stages"].items()}
    pixels = cpu["convert"] + cpu["resize"]  # both are parts of decode, too

    def rate(seconds: float, pieces: float, piece: str) -> Figure:
        return Figure(
            value=max(seconds, 0.0) / pieces,
            unit=f"core seconds a {piece}",
            origin="measured",
            source=source,
        )

    return (
        Rates(
            probe_packet=rate(cpu["probe"], video.num_pictures, "packet"),
            cut_picture=rate(cpu["cut"], num_pictures, "picture"),
            decode_picture=rate(cpu["decode"] - pixels, num_pictures, "picture"),
            pixels_frame=rate(pixels, num_frames, "frame"),
            encode_flop=rate(cpu["encode"], size.vision_flop(num_frames), "FLOP"),
            ground_flop=rate(cpu["ground"], size.grounding_flop(num_frames), "FLOP"),
            select_frame=rate(cpu["select"], num_frames, "frame"),
            call=rate(cpu["transport"], 1, "request"),
        ),
        video,
    )


def gpu_rates(check: Mapping[str, Any] | None, *, source: str) -> Rates:
    """Return the rates of one GPU at the released model's size.

    Args:
        check: Report of `benchmarks.gpu_check`; published figures stand in where None.
        source: What figures shall call it.
    """
    request = None if check is None else _part(check, "main request")
    if request is None:
        peak = f"half of the {PEAK_TFLOPS:g} TFLOP/s that NVIDIA gives for bf16 on H100 and H200"
        encode = ground = Figure(
            value=1 / (PLANNED_SHARE * PEAK_TFLOPS * 1e12),
            unit="GPU seconds a FLOP",
            origin="computed",
            source=peak,
        )
    else:
        encode, ground = (
            Figure(
                value=1 / (request[stage]["tflops"] * 1e12),
                unit="GPU seconds a FLOP",
                origin="measured",
                source=source,
            )
            for stage in ("encode", "ground_is_repeat")
        )
    decode = Figure(
        value=1 / (NUM_NVDEC * NVDEC_FPS),
        unit="GPU seconds a picture",
        origin="computed",
        source=f"{NUM_NVDEC} engines (facebookresearch/spdl, docs) at {NVDEC_FPS:g} pictures a "
        "second of 1080p H.264 (jlennox/NvEncSharp #4, isaac_ros_benchmark: other cards)",
    )
    media = None if check is None else _part(check, "decode")
    decoded = [
        row["frames_per_second"]
        for name, row in (media or {}).items()
        if name.startswith("h264") and ": decode," in name and "frames_per_second" in row
    ]
    if decoded:
        decode = replace(decode, value=1 / max(decoded), origin="measured", source=source)
    none = Figure(value=0.0, unit="GPU seconds", origin="given", source="not measured: left out")
    return Rates(
        probe_packet=none,
        cut_picture=none,
        decode_picture=decode,
        pixels_frame=none,
        encode_flop=encode,
        ground_flop=ground,
        select_frame=none,
        call=none,
    )


def _part(check: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return what a part measured at full size on a GPU; None where it did not."""
    counts = check["size"] == FULL.name and check["machine"]["device"] != "cpu"
    for part in check["parts"]:
        if counts and part["part"] == name and part["status"] == "ok":
            results: Mapping[str, Any] = part["results"]
            return results
    return None
