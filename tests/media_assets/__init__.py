"""Small videos for tests, each described once: the command that makes it and what is in it.

Made with imageio-ffmpeg's binary from FFmpeg's moving test pattern, so nothing is downloaded.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

NUM_PATTERN_FRAMES = 72
GOP_FRAMES = 12
_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-x264-params")
_GOP = f"keyint={GOP_FRAMES}:min-keyint={GOP_FRAMES}:scenecut=0:bframes=3"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One video file."""

    name: str
    """File name; the ending decides the container."""
    arguments: tuple[str, ...]
    """FFmpeg's arguments between the input and the output."""
    num_frames: int = NUM_PATTERN_FRAMES
    """Frames the file presents."""
    copy_of: str | None = None
    """Asset to read instead of the pattern."""
    input_arguments: tuple[str, ...] = ()
    """FFmpeg's arguments before the input."""


def _pattern(name: str, *arguments: str, num_frames: int = NUM_PATTERN_FRAMES) -> Asset:
    frames = ("-frames:v", str(num_frames))
    return Asset(name=name, arguments=(*arguments, *frames), num_frames=num_frames)


def _copy(name: str, source: str, *arguments: str, before: tuple[str, ...] = ()) -> Asset:
    return Asset(
        name=name, copy_of=source, input_arguments=before, arguments=("-c", "copy", *arguments)
    )


H264 = _pattern("h264_closed_gop.mp4", *_X264, _GOP)
H264_OPEN_GOP = _pattern("h264_open_gop.mp4", *_X264, f"{_GOP}:open-gop=1")
HEVC_OPEN_GOP = _pattern(
    "hevc_open_gop.mp4",
    *("-c:v", "libx265", "-preset", "veryfast", "-x265-params", f"{_GOP}:open-gop=1:log-level=0"),
)
AV1 = _pattern("av1.mp4", "-c:v", "libsvtav1", "-preset", "11", "-g", str(GOP_FRAMES))
VP9 = _pattern("vp9.webm", "-c:v", "libvpx-vp9", "-cpu-used", "8", "-g", str(GOP_FRAMES))
VP8 = _pattern("vp8.webm", "-c:v", "libvpx", "-cpu-used", "8", "-g", str(GOP_FRAMES))
MJPEG_AVI = _pattern("mjpeg.avi", "-c:v", "mjpeg", num_frames=24)
MPEG4_AVI = _pattern("mpeg4.avi", "-c:v", "mpeg4", "-g", str(GOP_FRAMES), "-bf", "2")
VFR = _pattern(
    "vfr.mp4", "-vf", "select='not(between(n,20,40))'", "-fps_mode", "vfr", *_X264, _GOP,
    num_frames=51,
)  # fmt: skip
ONE_FRAME = _pattern("one_frame.mp4", *_X264, _GOP, num_frames=1)
ODD_SIZE = _pattern(
    "odd_size.mp4", "-vf", "scale=97:65,format=yuv444p", *_X264, _GOP, num_frames=24
)
TEN_BIT = _pattern("ten_bit.mp4", "-pix_fmt", "yuv420p10le", *_X264, _GOP, num_frames=24)
H264_TS = _copy("h264.ts", H264_OPEN_GOP.name)
HEVC_TS = _copy("hevc.ts", HEVC_OPEN_GOP.name)
H264_MKV = _copy("h264.mkv", H264.name)
FRAGMENTED = _copy(
    "fragmented.mp4", H264.name, "-movflags", "frag_keyframe+empty_moov+default_base_moof"
)
ROTATED = _copy("rotated.mp4", H264.name, before=("-display_rotation", "90"))
START_OFFSET = _copy("start_offset.mkv", H264.name, "-output_ts_offset", "5")
EDIT_LIST = Asset(
    name="edit_list.mp4",
    copy_of=H264.name,
    input_arguments=("-ss", "0.8"),  # frame 20: the key packet before it is frame 12
    arguments=("-c", "copy"),
    num_frames=NUM_PATTERN_FRAMES - 20,
)
AUDIO_AND_VIDEO = _pattern(
    "audio_and_video.mp4", "-f", "lavfi", "-i", "sine=duration=2.88", *_X264, _GOP, "-c:a", "aac"
)
AUDIO_ONLY = Asset(
    name="audio_only.mp4", copy_of=AUDIO_AND_VIDEO.name, arguments=("-vn", "-c", "copy")
)
_COVER = ("-f", "lavfi", "-i", "color=red:size=32x32:rate=25:duration=0.04")
_ATTACH = ("-map", "0:v", "-map", "1", "-c:v:0", "mjpeg", "-disposition:v:0", "attached_pic")
COVER_ART = _copy("cover_art.mp4", H264.name, *_ATTACH, before=_COVER)
ALBUM = _copy("album.mp4", AUDIO_ONLY.name, *_ATTACH, before=_COVER)
VP8_HIDDEN = _pattern(
    "vp8_hidden.webm",
    *("-c:v", "libvpx", "-cpu-used", "4", "-auto-alt-ref", "1", "-lag-in-frames", "25"),
    *("-b:v", "100k", "-pass", "2"),
    num_frames=40,
)
ROTATED_VP8 = _copy("rotated_vp8.mkv", VP8.name, before=("-display_rotation", "-90"))
ONE_FRAME_TS = _copy("one_frame.ts", ONE_FRAME.name)
REPEATED_TIMES = _copy("repeated_times.mkv", MJPEG_AVI.name, "-bsf:v", "setts=ts='floor(N/2)*2'")
# Other homes of the same codecs, and what FFmpeg's own defaults would not make.
AV1_MKV = _copy("av1.mkv", AV1.name)
VP9_MP4 = _copy("vp9.mp4", VP9.name)
MPEG4_MP4 = _pattern("mpeg4.mp4", "-c:v", "mpeg4", "-g", str(GOP_FRAMES))
MPEG2_TS = _pattern("mpeg2.ts", "-c:v", "mpeg2video", "-g", str(GOP_FRAMES), "-bf", "2")
FASTSTART = _copy("faststart.mp4", H264.name, "-movflags", "faststart")
NO_CUES = _copy("no_cues.mkv", H264.name, "-live", "1")  # nor a duration
ATTACHMENT = _copy(
    "attachment.mkv", H264.name, "-attach", __file__, "-metadata:s:t", "mimetype=text/plain"
)
LONG_GOP = _pattern(
    "long_gop.mp4", *_X264, "keyint=600:min-keyint=600:scenecut=0:bframes=3", num_frames=600
)
# Groups of pictures that end nowhere near a multiple of 64.
GOPS_OF_50 = _pattern(
    "gops_of_50.mp4", *_X264, "keyint=50:min-keyint=50:scenecut=0:bframes=3", num_frames=600
)
FAST = _pattern("fast.mp4", "-vf", "settb=1/1000,setpts=N,fps=1000", *_X264, _GOP)
INTERLACED = _pattern("interlaced.mp4", *_X264, f"{_GOP}:tff=1", num_frames=24)
HEVC_422_TEN_BIT = _pattern(
    "hevc_422_ten_bit.mp4",
    *("-pix_fmt", "yuv422p10le", "-c:v", "libx265", "-preset", "veryfast"),
    *("-x265-params", f"{_GOP}:log-level=0"),
    num_frames=24,
)
HUGE_GAPS = _pattern(
    "huge_gaps.mp4", "-vf", "setpts=N*900/TB", "-fps_mode", "passthrough", *_X264, _GOP,
    num_frames=20,
)  # fmt: skip
DAY_LONG = _pattern(
    "day_long.mp4", "-vf", "setpts=N*3600/TB", "-fps_mode", "passthrough", *_X264, _GOP,
    num_frames=25,
)  # fmt: skip
PRORES = _pattern("prores.mov", "-c:v", "prores_ks", num_frames=2)
JPEG2000 = _pattern("jpeg2000.mov", "-c:v", "jpeg2000", num_frames=2)
FFV1 = _pattern("ffv1.mkv", "-c:v", "ffv1", num_frames=2)
FLV = _pattern("sorenson.flv", "-c:v", "flv", num_frames=2)

VIDEOS = (
    H264,
    H264_OPEN_GOP,
    HEVC_OPEN_GOP,
    AV1,
    VP9,
    VP8,
    VP8_HIDDEN,
    MJPEG_AVI,
    MPEG4_AVI,
    VFR,
    ONE_FRAME,
    ODD_SIZE,
    TEN_BIT,
    H264_TS,
    HEVC_TS,
    H264_MKV,
    FRAGMENTED,
    ROTATED,
    ROTATED_VP8,
    START_OFFSET,
    EDIT_LIST,
    AUDIO_AND_VIDEO,
    COVER_ART,
    AV1_MKV,
    VP9_MP4,
    MPEG4_MP4,
    MPEG2_TS,
    FASTSTART,
    NO_CUES,
    ATTACHMENT,
    LONG_GOP,
    FAST,
    INTERLACED,
    HEVC_422_TEN_BIT,
    HUGE_GAPS,
)
"""Files that are served."""

REFUSED = {
    AUDIO_ONLY: "the file has no video stream",
    ALBUM: "the file has no video stream",
    ONE_FRAME_TS: "the file announces no frame rate",
    REPEATED_TIMES: "12 frames have the presentation time of another",
    DAY_LONG: r"at most 21600 s \(max_duration_seconds\), got \d+ s",
    PRORES: "codec must be one of .* got prores",
    JPEG2000: "codec must be one of .* got jpeg2000",
    FFV1: "codec must be one of .* got ffv1",
    FLV: "the video cannot be read",
}
"""Intact files that are not, and what the refusal says."""

_BY_NAME = {asset.name: asset for asset in (*VIDEOS, *REFUSED)}


def asset_maker(directory: Path) -> Callable[[Asset], Path]:
    """Return a function that makes an asset in the directory, once, and gives its path."""

    def make(asset: Asset) -> Path:
        path = directory / asset.name
        if not path.exists():
            source = make(_BY_NAME[asset.copy_of]) if asset.copy_of else None
            if "-pass" in asset.arguments:
                _run(asset, source, path, "-pass", "1", "-f", "null")
            _run(asset, source, path)
        return path

    return make


def _run(asset: Asset, source: Path | None, path: Path, *arguments: str) -> None:
    pattern = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25")
    inputs = (*asset.input_arguments, "-i", str(source)) if source else pattern
    # fmt: off
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-fflags", "+bitexact",
         *inputs, *asset.arguments, *arguments, str(path)],
        check=True, stdout=subprocess.DEVNULL, env={"SVT_LOG": "0"}, cwd=path.parent,
    )
    # fmt: on
