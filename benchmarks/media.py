"""Videos to measure with, made of a real clip: codec, height and key interval are what they say."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import av
import imageio_ffmpeg

from scripts import fetch_clips

Codec = Literal["h264", "vp9"]

FRAMES_PER_SECOND = 30
_CLIP = "bigbuckbunny.mp4"
_ENCODED_SECONDS = 120
"""Videos up to this long are encoded as they are; what is longer repeats a piece."""
_PIECE_SECONDS = 100
"""Of 3,000 frames, which are whole GOPs of 12 and of 250."""

# Fast presets, and of each encoder its own default quality, reordering and references: x264 makes
# B-frames, libvpx frames that are never shown. Every key interval is kept to: a cut between scenes
# starts none.
_X264 = "keyint={gop}:min-keyint={gop}:scenecut=0"
_ENCODERS: dict[str, tuple[str, ...]] = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-x264-params", _X264),
    "vp9": (
        *("-c:v", "libvpx-vp9", "-crf", "32", "-b:v", "0", "-cpu-used", "5", "-row-mt", "1"),
        *("-threads", "4", "-g", "{gop}", "-keyint_min", "{gop}"),
    ),
}
_ENDINGS = {"vp9": ".webm"}


def make_video(folder: Path, *, codec: Codec, height: int, gop: int, seconds: int) -> Path:
    """Make a video, or find the one that an earlier call has made.

    5 seconds of Big Buck Bunny, which come again and again under a slow drift and fresh noise, so
    that no picture comes twice. What is longer than 120 seconds repeats the packets of 100.

    Args:
        folder: Where it is kept, by a name that says all the other arguments.
        codec: VP9 is in WebM, the others in MP4.
        height: Pixels, even; the width is 16/9 of it, rounded to an even number.
        gop: Frames from one key frame to the next.
        seconds: Length at 30 frames a second; over 120 it must be a multiple of 100.
    """
    path = folder / f"{codec}_{height}p_gop{gop}_{seconds}s{_ENDINGS.get(codec, '.mp4')}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # Of this process alone, so that two that make the same video do not meet.
    part = path.with_stem(f"{path.stem}.{os.getpid()}")
    try:
        if seconds <= _ENCODED_SECONDS:
            _encode(part, codec=codec, height=height, gop=gop, num_frames=_frames(seconds))
        else:
            if seconds % _PIECE_SECONDS or _frames(_PIECE_SECONDS) % gop:
                raise ValueError(
                    f"a video of more than 120 seconds must be a multiple of {_PIECE_SECONDS}, and "
                    f"its gop divide {_frames(_PIECE_SECONDS)}, got {seconds} seconds and a gop of "
                    f"{gop}"
                )
            piece = make_video(folder, codec=codec, height=height, gop=gop, seconds=_PIECE_SECONDS)
            repeats = ("-stream_loop", str(seconds // _PIECE_SECONDS - 1))
            _run_ffmpeg(*repeats, "-i", str(piece), "-c", "copy", str(part))
        _check_key_frames(part, gop=gop, num_frames=_frames(seconds))
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _frames(seconds: int) -> int:
    return seconds * FRAMES_PER_SECOND


def _encode(path: Path, *, codec: Codec, height: int, gop: int, num_frames: int) -> None:
    width = round(height * 16 / 9 / 2) * 2
    clips = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips"))
    fetch_clips.main(clips)
    filters = (
        # Frame for frame: the clip's 25 a second would give each fifth of 30 twice.
        f"setpts=N/{FRAMES_PER_SECOND}/TB",
        # An eighth larger than what is seen; the two swings do not fall in with the clip's loop.
        f"scale={width * 9 // 8}:{height * 9 // 8}",
        f"crop={width}:{height}:(iw-ow)/2*(1+sin(n/97)):(ih-oh)/2*(1+sin(n/61))",
        "noise=all_seed=1:alls=4:allf=t",
        "format=yuv420p",
    )
    source = ("-stream_loop", "-1", "-i", str(clips / _CLIP), "-an", "-vf", ",".join(filters))
    rate = ("-r", str(FRAMES_PER_SECOND), "-frames:v", str(num_frames))
    encoder = tuple(argument.format(gop=gop) for argument in _ENCODERS[codec])
    if codec != "vp9":
        _run_ffmpeg(*source, *rate, *encoder, str(path))
        return
    # In one pass libvpx makes no hidden frames, which VP9 as it is met with has.
    with tempfile.TemporaryDirectory() as name:
        log = ("-passlogfile", str(Path(name, "log")))
        _run_ffmpeg(*source, *rate, *encoder, "-pass", "1", *log, "-f", "null", "-")
        _run_ffmpeg(*source, *rate, *encoder, "-pass", "2", *log, str(path))


def _run_ffmpeg(*arguments: str) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-y", "-v", "error", *arguments]
    subprocess.run(command, check=True)


def _check_key_frames(path: Path, *, gop: int, num_frames: int) -> None:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    shown = sorted(packet.pts for packet in packets if packet.pts is not None)
    keys = {packet.pts for packet in packets if packet.is_keyframe}
    places = [place for place, pts in enumerate(shown) if pts in keys]
    if len(shown) != num_frames or places != list(range(0, num_frames, gop)):
        raise RuntimeError(
            f"{path.name} must have {num_frames} frames with a key frame each {gop}, got "
            f"{len(shown)} with key frames at {places[:4]}..."
        )
