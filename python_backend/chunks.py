"""Decode and encode side by side: groups at key frames, and chunks of a fixed size.

What the next chunk still lacks is decoded while `num_encodes` before it are being encoded:

decode  0 | 1 | 2 |     | 3 |
encode      0 ──────────|
                1 ──────────────|      two at once: 2 is encoded when 0 is done
                        2 ──────────

Frames held at most, whatever the length of the video: those of `num_encodes` chunks, of one that is
incomplete, and of one group, each as many as `VisionInputs.chunk_frames` says; and for moments a
copy of a chunk.

A chunk may have more units than one encode takes, where several show the same frames; then it is
encoded in pieces. Nothing is encoded before a chunk is complete: on a CPU either stage keeps all
cores busy, so there is nothing to gain beside it, and smaller pieces would be other batches.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.errors import MediaError
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.media import OpenVideo, Segments, StreamInfo, VideoIndex
from python_backend.arrays import Array, concatenate, empty
from python_backend.decode import DecodedFrames
from python_backend.encode import EncodeFunction
from python_backend.encoded import EncodedVideo
from python_backend.fair_share import Turn
from python_backend.frame_buffer import FrameBuffer
from python_backend.meter import Meter, count_deaths
from python_backend.stopwatch import Stopwatch
from python_backend.units import Chunk, cut_chunks, gather_units

T = TypeVar("T")

NUM_SERVED_ENCODES = 2
"""Calls of the model `vision_encoder` that one request of the server has outstanding."""

DecodeFunction = Callable[[Segments], DecodedFrames]


@dataclass(frozen=True, kw_only=True)
class ChunkRunner:
    """The two stages of one request."""

    decode: DecodeFunction
    """Segments of one group, or of a part of it -> n frames. Runs in a helper thread."""
    encode: EncodeFunction
    """As many units as a chunk has frames -> their features. Runs in helper threads."""
    inputs: VisionInputs
    """What `encode` takes."""
    num_encodes: int
    """Calls of `encode` at once, >= 1."""
    max_segment_bytes: int
    """Segments of a group that take more are decoded in several calls; of a video of many bytes a
    second they would take gigabytes of a decoder's memory."""
    watch: Stopwatch
    """Where the time goes."""
    meter: Meter
    """Where frames, passes and dead workers are counted."""
    deadline: Deadline
    """Checked between chunks, and while one is waited for."""
    turn: Turn | None = None
    """What the video needs to have a group decoded; nothing where None."""

    def run(self, video: OpenVideo, plan: VideoPlan) -> EncodedVideo:
        """Decode and encode the frames of a plan.

        After an error nothing new begins; what runs is waited for, and its result dropped.

        Args:
            video: Held open by a worker until this returns.
            plan: Of this video.

        Raises:
            InvalidRequestError: A frame does not decode, or the frames are as decoded and differ in
                size.
            DeadlineExceededError: Time ran out.
            RequestCancelledError: Nobody waits for the answer any more.
            UnavailableError: A worker process died.
        """
        features: Array | None = None
        decoders: dict[str, None] = {}
        start = 0
        most_frames = self.inputs.chunk_frames(plan.index.width, plan.index.height)
        cut = cut_chunks(plan, most_frames=most_frames)
        plan_inputs = self.inputs.of_plan(plan)
        with (
            closing(self._decoded_chunks(video, cut, decoders)) as chunks,
            closing(self._encoded_pieces(chunks, plan_inputs, most_frames)) as encoded_pieces,
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
    ) -> Generator[tuple[Chunk, Array], None, None]:
        """Yield each chunk with its m frames, the next one already being decoded.

        Args:
            video: The open video.
            chunks: In order.
            decoders: Where what decoded them is noted, as keys.
        """
        buffer = FrameBuffer()
        # Of a group's frames, as soon as one is decoded.
        shape: tuple[int, ...] | None = None
        given_up = threading.Event()

        def load(groups: Iterable[NDArray[np.int64]]) -> None:
            nonlocal shape
            for frame_indices in groups:
                if given_up.is_set():
                    return
                buffer.detach()
                parts: list[Array] = []
                for decoded in self._load(video, frame_indices):
                    decoders[decoded.decoder] = None
                    shape = shape or decoded.frames.shape[1:]
                    if decoded.frames.shape[1:] != shape:
                        raise MediaError(
                            "the video's frames differ in size, and are wanted as decoded: "
                            "re-encode it in one size"
                        )
                    parts.append(decoded.frames)
                buffer.put(concatenate(parts))

        with ThreadPoolExecutor(max_workers=1) as ahead:
            try:
                # One worker, so groups are cut in order: an open video takes one job at a time.
                pending = deque([ahead.submit(load, chunks[0].groups)])
                for chunk, next_chunk in zip(chunks, [*chunks[1:], None], strict=True):
                    self._wait_for_first(pending)
                    pending.popleft().result()
                    self.meter.add("frames_decoded", sum(map(len, chunk.groups)))
                    frames = buffer.take(chunk.num_frames, num_left=chunk.num_left)
                    if next_chunk is not None:
                        pending.append(ahead.submit(load, next_chunk.groups))
                    yield chunk, frames
            finally:
                given_up.set()

    def _encoded_pieces(
        self,
        chunks: Iterator[tuple[Chunk, Array]],
        plan_inputs: Sequence[NDArray[np.float32]],
        most_units: int,
    ) -> Generator[Array, None, None]:
        """Yield the features of all units, in order, the next ones being encoded.

        Args:
            chunks: Each with its frames.
            plan_inputs: Of the plan.
            most_units: Of one encode.
        """
        with ThreadPoolExecutor(max_workers=self.num_encodes) as encoders:
            pending: deque[Future[Array]] = deque()
            for chunk, frames in chunks:
                for start in range(0, len(chunk.units), most_units):
                    self.deadline.check()
                    units = chunk.units[start : start + most_units]
                    pending.append(encoders.submit(self._encode, frames, units, plan_inputs))
                    if len(pending) == self.num_encodes:
                        self._wait_for_first(pending)
                        yield pending.popleft().result()
            while pending:
                self._wait_for_first(pending)
                yield pending.popleft().result()

    def _wait_for_first(self, pending: deque[Future[T]]) -> None:
        while not pending[0].done():
            # In turns: `wait_seconds` raises once time is up or the request was cancelled.
            wait([pending[0]], timeout=self.deadline.wait_seconds())

    def _load(self, video: OpenVideo, frame_indices: NDArray[np.int64]) -> Iterator[DecodedFrames]:
        """Yield the frames of a group in parts whose segments fit `max_segment_bytes`."""
        while len(frame_indices):
            part = self._load_first(video, frame_indices)
            yield part
            # `cut` took as many as fit, always from the front.
            frame_indices = frame_indices[len(part.frames) :]

    def _load_first(self, video: OpenVideo, frame_indices: NDArray[np.int64]) -> DecodedFrames:
        with self.watch.measure("cut"), count_deaths(self.meter):
            segments = video.cut(frame_indices, max_bytes=self.max_segment_bytes)
        if self.inputs.stream.size is None:
            _check_announced(video.index, segments.stream)
        # The wait for a turn is booked apart from the decoding that the turn is held for.
        with ExitStack() as stack:
            if self.turn is not None:
                with self.watch.measure("wait"):
                    stack.enter_context(self.turn())
            with self.watch.measure("decode"):
                return self.decode(segments)

    def _encode(
        self,
        frames: Array,
        units: NDArray[np.int64],
        plan_inputs: Sequence[NDArray[np.float32]],
    ) -> Array:
        with self.watch.measure("encode"):
            return self.encode(gather_units(frames, units, self.inputs.stream), *plan_inputs)


def _check_announced(index: VideoIndex, stream: StreamInfo) -> None:
    """Check that frames as decoded are no larger than those that chunks were cut for.

    Raises:
        MediaError: They are: the file announces another size than its first frame has.
    """
    if stream.width * stream.height > index.width * index.height:
        raise MediaError(
            f"the video's frames differ in size from what it announces: {stream.width} x "
            f"{stream.height} pixels, announced {index.width} x {index.height}; re-encode it"
        )
