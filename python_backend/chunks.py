"""Decode and encode chunk by chunk.

Decoding of the next chunk runs beside encoding of the current one, so that two chunks of resized
frames are held at most, whatever the length of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.grid import pooling_weights
from groundserve.manifest import ModelSpec
from groundserve.media import OpenVideo, Segments
from python_backend.arrays import Array, empty
from python_backend.decode import DecodedFrames
from python_backend.encoded import EncodedVideo
from python_backend.meter import Meter, count_deaths
from python_backend.plan import FramePlan
from python_backend.stopwatch import Stopwatch

CHUNK_FRAMES = 64

DecodeFunction = Callable[[Segments], DecodedFrames]
EncodeFunction = Callable[[Array, NDArray[np.float32]], Array]


@dataclass(frozen=True, kw_only=True)
class ChunkRunner:
    """The two stages of one request."""

    decode: DecodeFunction
    """Segments of one chunk -> n frames. Runs in a helper thread."""
    encode: EncodeFunction
    """Frames uint8 (n, S, S, 3) and pooling weights (g, s) -> (n, g*g, D_v)."""
    watch: Stopwatch
    """Where the time goes."""
    meter: Meter
    """Where frames, passes and dead workers are counted."""
    deadline: Deadline
    """Checked between chunks."""

    def run(self, video: OpenVideo, plan: FramePlan, model: ModelSpec) -> EncodedVideo:
        """Decode and encode the frames of a plan.

        Raises:
            InvalidRequestError: A frame does not decode.
            DeadlineExceededError: Time ran out.
            UnavailableError: A worker process died.
        """
        pooling = pooling_weights(plan.grid, side=model.side)
        shape = (len(plan.frame_indices), plan.grid**2, model.vision_hidden_size)
        features: Array | None = None
        decoders: dict[str, None] = {}
        start = 0
        for chunk in self._decoded_chunks(video, plan.frame_indices):
            end = start + len(chunk.frames)
            decoders[chunk.decoder] = None
            self.deadline.check()
            self.meter.add("frames_decoded", end - start)
            with self.watch.measure("encode"):
                encoded = self.encode(chunk.frames, pooling)
                features = empty(shape, like=encoded) if features is None else features
                features[start:end] = encoded  # type: ignore[assignment]  # of one home
            self.meter.add("vision_passes")
            self.meter.add("vision_frames", end - start)
            start = end
        assert features is not None, "a plan has frames"
        return EncodedVideo(features=features, decoders=list(decoders))

    def _decoded_chunks(
        self, video: OpenVideo, frame_indices: NDArray[np.int64]
    ) -> Iterator[DecodedFrames]:
        """Yield the frames of each chunk, the next one already being decoded."""
        chunks = [
            frame_indices[i : i + CHUNK_FRAMES] for i in range(0, len(frame_indices), CHUNK_FRAMES)
        ]
        with ThreadPoolExecutor(max_workers=1) as ahead:
            pending = ahead.submit(self._load, video, chunks[0])
            for next_chunk in [*chunks[1:], None]:
                frames = pending.result()
                if next_chunk is not None:
                    pending = ahead.submit(self._load, video, next_chunk)
                yield frames

    def _load(self, video: OpenVideo, chunk: NDArray[np.int64]) -> DecodedFrames:
        with self.watch.measure("cut"), count_deaths(self.meter):
            segments = video.cut(chunk)
        with self.watch.measure("decode"):
            return self.decode(segments)
