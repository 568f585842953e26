"""A video whose every chunk of frames needs the file from its start on."""

from __future__ import annotations

import tempfile
from typing import Any

import av
import numpy as np


def one_gop_video(num_bytes: int, *, num_frames: int = 250) -> bytes:
    """Return an H.264 MP4 of about that size: one key frame, filler (NAL type 12) in packets."""
    pattern = np.indices((64, 64)).sum(0).astype(np.uint8)
    padding = b"\0\0\0\1\x0c" + b"\xff" * (num_bytes // num_frames) + b"\x80"
    with tempfile.TemporaryFile() as file:
        with av.open(file, "w", format="mp4") as container:
            options = {"x264-params": "keyint=infinite:scenecut=0:bframes=0"}
            stream = container.add_stream("libx264", rate=25, options=options)
            stream.width = stream.height = 64
            for i in range(num_frames):
                image = np.repeat(np.roll(pattern, i, 1)[..., None], 3, axis=2)
                for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                    container.mux(_padded(packet, padding))
            for packet in stream.encode():
                container.mux(_padded(packet, padding))
        file.seek(0)
        return file.read()


def _padded(packet: av.Packet[Any], padding: bytes) -> av.Packet[Any]:
    padded = av.Packet(bytes(packet) + padding)
    padded.pts, padded.dts, padded.duration = packet.pts, packet.dts, packet.duration
    padded.time_base, padded.stream = packet.time_base, packet.stream
    padded.is_keyframe = packet.is_keyframe
    return padded
