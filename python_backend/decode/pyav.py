"""Decoding with FFmpeg on the CPU, in killable workers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.families.plans import FrameStream
from groundserve.media import FrameOutput, MediaWorkers, Segments
from groundserve.media.outputs import check_resize_rule
from groundserve.runtime.deadline import Deadline
from python_backend.decode.base import DecodedFrames
from python_backend.meter import Meter, count_deaths


class PyAVDecoder:
    """Decodes every codec FFmpeg does; pixels equal the reference's."""

    def __init__(
        self, workers: MediaWorkers, *, streams: Sequence[FrameStream], meter: Meter
    ) -> None:
        """Check how each stream is resized, or raise InvalidRequestError; starts no worker."""
        for stream in streams:
            check_resize_rule(stream.resize, image_size=stream.size)
        self._workers = workers
        self._meter = meter
        self._streams = streams

    def decode(
        self, segments: Segments, *, shown: NDArray[np.bool_] | None = None, deadline: Deadline
    ) -> DecodedFrames:
        """Implement `FrameDecoder.decode`; the frames are numpy's."""
        if shown is None:
            shown = np.ones((segments.num_frames, len(self._streams)), np.bool_)
        outputs = [
            FrameOutput(
                image_size=stream.size,
                resize=stream.resize,
                targets=None if of_stream.all() else np.flatnonzero(of_stream),
            )
            for stream, of_stream in zip(self._streams, shown.T, strict=True)
        ]
        with count_deaths(self._meter):
            frames = self._workers.decode_outputs(segments, outputs, deadline=deadline)
        return DecodedFrames(tuple(frames), "pyav")
