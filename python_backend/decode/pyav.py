"""Decoding with FFmpeg on the CPU, in killable workers."""

from __future__ import annotations

from groundserve.deadline import Deadline
from groundserve.media import MediaWorkers, Segments
from groundserve.media.resize import ResizeRule, check_resize_rule
from python_backend.decode.base import DecodedFrames
from python_backend.meter import Meter, count_deaths


class PyAVDecoder:
    """Decodes every codec FFmpeg does; pixels equal the reference's."""

    def __init__(
        self,
        workers: MediaWorkers,
        *,
        image_size: int | None,
        resize: ResizeRule = "square",
        meter: Meter,
    ) -> None:
        """Check the rule; no worker is started yet.

        Args:
            workers: Where FFmpeg runs.
            image_size: Side S of the frames that come out; None leaves them as decoded.
            resize: How they come to it.
            meter: Where deaths of workers are counted.

        Raises:
            InvalidRequestError: `resize` is no rule, or not one for an `image_size` of None.
        """
        check_resize_rule(resize, image_size=image_size)
        self._workers = workers
        self._meter = meter
        self._image_size = image_size
        self._resize = resize

    def decode(self, segments: Segments, *, deadline: Deadline) -> DecodedFrames:
        """See `FrameDecoder.decode`; the frames are numpy's."""
        with count_deaths(self._meter):
            frames = self._workers.decode(
                segments, image_size=self._image_size, resize=self._resize, deadline=deadline
            )
        return DecodedFrames(frames, "pyav")
