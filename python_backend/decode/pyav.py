"""Decoding with FFmpeg on the CPU, in killable workers."""

from __future__ import annotations

from groundserve.deadline import Deadline
from groundserve.media import MediaWorkers, Segments
from python_backend.decode.base import DecodedFrames
from python_backend.meter import Meter, count_deaths


class PyAVDecoder:
    """Decodes every codec FFmpeg does; pixels equal the reference's."""

    def __init__(self, workers: MediaWorkers, *, image_size: int, meter: Meter) -> None:
        self._workers = workers
        self._meter = meter
        self._image_size = image_size

    def decode(self, segments: Segments, *, deadline: Deadline) -> DecodedFrames:
        """See `FrameDecoder.decode`; the frames are numpy's."""
        with count_deaths(self._meter):
            frames = self._workers.decode(segments, image_size=self._image_size, deadline=deadline)
        return DecodedFrames(frames, "pyav")
