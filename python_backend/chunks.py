"""Decode and encode side by side: groups at key frames, and chunks of a fixed size.

What the next chunk still lacks is decoded while `num_encodes` before it are being encoded:

decode  0 | 1 | 2 |     | 3 |
encode      0 ──────────|
                1 ──────────────|      two at once: 2 is encoded when 0 is done
                        2 ──────────

Frames held at most, whatever the length of the video: those of `num_encodes` chunks, of one that is
incomplete, and of one group, each as many as `VisionInputs.chunk_frames` says; and for moments a
copy of a chunk.

A chunk may have more units than one encode takes (`VisionInputs.chunk_units`), where several show
the same frames; then it is encoded in pieces. Nothing is encoded before a chunk is complete: on a
CPU either stage keeps all cores busy, so there is nothing to gain beside it, and smaller pieces
would be other batches.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs, take_units
from groundserve.media import OpenVideo, Segments, StreamInfo, VideoIndex
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.progress import OnFrames
from python_backend.arrays import Array, concatenate, empty
from python_backend.decode import DecodedFrames
from python_backend.encode import EncodeFunction
from python_backend.encoded import EncodedVideo
from python_backend.frame_buffer import FrameBuffer
from python_backend.interruption import ending_with
from python_backend.meter import Meter, count_deaths
from python_backend.stopwatch import Stopwatch
from python_backend.units import Chunk, Group, cut_chunks, gather_units

T = TypeVar("T")

NUM_SERVED_ENCODES = 2
"""Calls of the model `vision_encoder` that one request of the server has outstanding."""

DecodeFunction = Callable[[Segments, NDArray[np.bool_]], DecodedFrames]
"""Segments of one group, or of a part of it, and bool (m, s), which streams show each target."""


@dataclass(frozen=True, kw_only=True)
class ChunkRunner:
    """The two stages of one request."""

    decode: DecodeFunction
    """Runs in a helper thread."""
    encode: EncodeFunction
    """`VisionInputs.chunk_units` at most -> their features. Runs in helper threads."""
    inputs: VisionInputs
    num_encodes: int
    """Calls of `encode` at once, >= 1."""
    max_segment_bytes: int
    """Segments of a group that take more are decoded in several calls; of a video of many bytes a
    second they would take gigabytes of a decoder's memory."""
    watch: Stopwatch
    meter: Meter
    """Where frames, passes and dead workers are counted."""
    deadline: Deadline
    """Checked between chunks, and while one is waited for."""
    on_frames: OnFrames | None = None
    """Told after each chunk how many frames are decoded."""

    def run(self, video: OpenVideo, plan: VideoPlan) -> EncodedVideo:
        """Decode and encode the frames of a plan of this video, which a worker holds open.

        After an error nothing new begins; what runs is waited for, and its result dropped.
        """
        features: Array | None = None
        decoders: dict[str, None] = {}
        start = 0
        width, height = plan.index.width, plan.index.height
        most_frames = self.inputs.chunk_frames(width, height)
        most_units = self.inputs.chunk_units(width, height)
        cut = cut_chunks(plan, self.inputs.streams, most_frames=most_frames)
        plan_inputs = self.inputs.of_plan(plan)
        with (
            closing(self._decoded_chunks(video, cut, decoders)) as chunks,
            closing(self._encoded_pieces(chunks, plan_inputs, most_units)) as encoded_pieces,
        ):
            for encoded in encoded_pieces:
                end = start + len(encoded)
                with self.watch.measure("encode"):
                    if features is None:
                        features = empty((len(plan.units), *encoded.shape[1:]), like=encoded)
                    # Copied on: parts in a list and one concatenation would hold all features
                    # twice.
                    features[start:end] = encoded  # type: ignore[assignment]  # of one home
                self.meter.add("vision_passes")
                self.meter.add("vision_frames", end - start)
                start = end
        assert features is not None, "a plan has frames"
        # What no chunk wrote to is memory that held something else.
        assert start == len(features), "each unit has its features"
        return EncodedVideo(features=features, decoders=list(decoders))

    # Futures wait in a deque and not in a variable: a failed one, which holds its error, whose
    # traceback holds the variables here, would keep the frames until the next garbage collection.

    def _decoded_chunks(
        self, video: OpenVideo, chunks: list[Chunk], decoders: dict[str, None]
    ) -> Generator[tuple[Chunk, list[Array]], None, None]:
        """Yield each chunk with its m frames of each stream, the next one already being decoded."""
        buffers = [FrameBuffer() for _ in self.inputs.streams]
        # Of a group's frames, as soon as one is decoded.
        shapes: list[tuple[int, ...]] = []
        given_up = threading.Event()
        num_done, num_frames = 0, sum(len(group) for chunk in chunks for group in chunk.groups)

        def load(groups: Iterable[Group]) -> None:
            nonlocal shapes
            for group in groups:
                if given_up.is_set():
                    return
                for buffer in buffers:
                    buffer.detach()
                parts: list[tuple[Array, ...]] = []
                for decoded in self._load(video, group):
                    decoders[decoded.decoder] = None
                    found = [frames.shape[1:] for frames in decoded.streams]
                    shapes = shapes or found
                    if found != shapes:
                        raise MediaError(
                            "the video's frames differ in size, and are wanted as decoded: "
                            "re-encode it in one size"
                        )
                    parts.append(decoded.streams)
                for buffer, of_stream in zip(buffers, zip(*parts, strict=True), strict=True):
                    buffer.put(concatenate(of_stream))

        with ThreadPoolExecutor(max_workers=1) as ahead:
            try:
                # One worker, so groups are cut in order: an open video takes one job at a time.
                pending = deque([ahead.submit(load, chunks[0].groups)])
                for chunk, next_chunk in zip(chunks, [*chunks[1:], None], strict=True):
                    self._wait_for_first(pending)
                    pending.popleft().result()
                    num_decoded = sum(map(len, chunk.groups))
                    self.meter.add("frames_decoded", num_decoded)
                    num_done += num_decoded
                    if self.on_frames is not None:
                        self.on_frames(num_done, num_frames)
                    frames = [
                        buffer.take(of_stream.num_frames, num_left=of_stream.num_left)
                        for buffer, of_stream in zip(buffers, chunk.streams, strict=True)
                    ]
                    if next_chunk is not None:
                        pending.append(ahead.submit(load, next_chunk.groups))
                    yield chunk, frames
            finally:
                given_up.set()

    def _encoded_pieces(
        self,
        chunks: Iterator[tuple[Chunk, list[Array]]],
        plan_inputs: Sequence[NDArray[np.float32]],
        most_units: int,
    ) -> Generator[Array, None, None]:
        """Yield the features of all units, in order, the next ones being encoded."""
        with ThreadPoolExecutor(max_workers=self.num_encodes) as encoders:
            pending: deque[Future[Array]] = deque()
            for chunk, frames in chunks:
                for start in range(0, chunk.num_units, most_units):
                    self.deadline.check()
                    units = slice(start, min(start + most_units, chunk.num_units))
                    pending.append(encoders.submit(self._encode, chunk, frames, units, plan_inputs))
                    if len(pending) == self.num_encodes:
                        self._wait_for_first(pending)
                        yield pending.popleft().result()
            while pending:
                self._wait_for_first(pending)
                yield pending.popleft().result()

    def _wait_for_first(self, pending: deque[Future[T]]) -> None:
        while not pending[0].done():
            # In turns: `wait_seconds` raises once time is up or the request was cancelled.
            seconds = self.deadline.wait_seconds()
            with suppress(TimeoutError):
                pending[0].exception(timeout=seconds)

    def _load(self, video: OpenVideo, group: Group) -> Iterator[DecodedFrames]:
        """Yield the frames of a group in parts whose segments fit `max_segment_bytes`."""
        while len(group):
            with self.watch.measure("cut"), count_deaths(self.meter):
                segments = video.cut(group.frame_indices, max_bytes=self.max_segment_bytes)
            # `cut` took as many as fit, always from the front.
            num_cut = segments.num_frames
            yield self._decode(video, segments, group[:num_cut])
            group = group[num_cut:]

    def _decode(self, video: OpenVideo, segments: Segments, group: Group) -> DecodedFrames:
        if self.inputs.are_as_decoded:
            _check_announced(video.index, segments.stream)
        with self.watch.measure("decode"):
            return self.decode(segments, group.shown)

    def _encode(
        self,
        chunk: Chunk,
        frames: Sequence[Array],
        units: slice,
        plan_inputs: Sequence[NDArray[np.float32]],
    ) -> Array:
        """Encode some of a chunk's units."""
        first = chunk.first_unit
        with self.watch.measure("encode"):
            streams = [
                gather_units(of_stream, taken.units[units])
                for of_stream, taken in zip(frames, chunk.streams, strict=True)
            ]
            of_plan = take_units(plan_inputs, slice(first + units.start, first + units.stop))
            with ending_with(self.deadline):
                return self.encode(*streams, *of_plan)


def _check_announced(index: VideoIndex, stream: StreamInfo) -> None:
    """Raise MediaError where frames as decoded are larger than those that chunks were cut for."""
    if stream.width * stream.height > index.width * index.height:
        raise MediaError(
            f"the video's frames differ in size from what it announces: {stream.width} x "
            f"{stream.height} pixels, announced {index.width} x {index.height}; re-encode it"
        )
