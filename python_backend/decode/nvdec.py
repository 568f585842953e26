"""What DALI decodes, so that a video it cannot decode never reaches it.

Sources: NVIDIA Video Codec SDK 13.0, NVDEC Application Note, table "NVDEC Hardware Capabilities"
(codecs, profiles and 8192 x 8192 support by GPU generation); DALI 2.4.0,
`dali/operators/video/frames_decoder_gpu.cc` (codecs, NV12 surfaces only) and
`frames_decoder_cpu.cc`. Where they leave a doubt, the table says no: the CPU decodes it then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from groundserve.media import StreamInfo

CPU_CODECS = ("vp8", "vp9", "mjpeg")
"""What the FFmpeg inside DALI decodes."""

BIT_DEPTHS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}
"""Bits of a sample by FFmpeg's name of the layout. Only 4:2:0: DALI reads NV12, which is that."""

_MIN_SIDE_PIXELS = 144
"""NVDEC has a smallest frame by codec; this is no less than any of them (HEVC's)."""


@dataclass(frozen=True, kw_only=True)
class Capability:
    """How far one codec is decoded."""

    bit_depths: tuple[int, ...]
    """Bits of a sample."""
    max_side_pixels: int
    """Width and height at most."""


# MPEG-1, MPEG-2 and Motion JPEG are not in DALI's or NVDEC's list. MPEG-4 is in both, but DALI
# takes packets with two frames apart in AVI only, and a segment is MP4.
_TURING: Mapping[str, Capability] = {
    "h264": Capability(bit_depths=(8,), max_side_pixels=4096),
    "hevc": Capability(bit_depths=(8, 10), max_side_pixels=8192),
    "vp8": Capability(bit_depths=(8,), max_side_pixels=4096),
    "vp9": Capability(bit_depths=(8,), max_side_pixels=8192),
}
_AMPERE = {**_TURING, "av1": Capability(bit_depths=(8, 10), max_side_pixels=8192)}
_BLACKWELL = {**_AMPERE, "h264": replace(_TURING["h264"], max_side_pixels=8192)}

NVDEC: Mapping[str, Mapping[str, Capability]] = {
    "sm_75": _TURING,
    "sm_80": _TURING,  # A100
    "sm_86": _AMPERE,
    "sm_89": _AMPERE,  # Ada
    "sm_90": _TURING,  # Hopper
    "sm_100": _BLACKWELL,
    "sm_103": _BLACKWELL,
    "sm_120": _BLACKWELL,
    "sm_121": _BLACKWELL,
}

MAX_SIDE_PIXELS = max(
    capability.max_side_pixels for codecs in NVDEC.values() for capability in codecs.values()
)
"""Width and height that some GPU decodes."""


def why_not_on_cpu(stream: StreamInfo) -> str | None:
    """Return why DALI cannot decode a video on the CPU, None where it can."""
    if stream.codec_name in CPU_CODECS:
        return None
    return f"DALI on the CPU does not decode {stream.codec_name}"


def why_not_on_gpu(stream: StreamInfo, gpu_arch: str) -> str | None:
    """Return why DALI cannot decode a video on a GPU such as sm_90, None where it can."""
    nvdec = f"NVDEC of {gpu_arch}"
    if gpu_arch not in NVDEC:
        return f"{nvdec} is not known"
    capability = NVDEC[gpu_arch].get(stream.codec_name)
    if capability is None:
        return f"{nvdec} does not decode {stream.codec_name}"
    if BIT_DEPTHS.get(stream.pixel_format) not in capability.bit_depths:
        return f"{nvdec} does not decode {stream.codec_name} as {stream.pixel_format}"
    sides = (stream.width, stream.height)
    if not _MIN_SIDE_PIXELS <= min(sides) <= max(sides) <= capability.max_side_pixels:
        return f"{nvdec} does not decode {stream.codec_name} of {stream.width} x {stream.height}"
    return None
