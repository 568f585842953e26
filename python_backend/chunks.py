"""Decode and encode chunk by chunk.

The next chunk is decoded while `num_encodes` before it are being encoded, so that at most
`num_encodes + 1` chunks of resized frames are held, whatever the length of the video:

decode  0 | 1 | 2 |     | 3 |
encode      0 ──────────|
                1 ──────────────|      two at once: 2 is encoded when 0 is done
                        2 ──────────

A chunk may have more units than one encode takes, where several show the same frames; then it is
encoded in pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.families.base import VideoPlan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.manifest import CHUNK_FRAMES
from groundserve.media import OpenVideo, Segments
from python_backend.arrays import Array, concatenate, empty
from python_backend.decode import DecodedFrames
from python_backend.encode import EncodeFunction
from python_backend.encoded import EncodedVideo
from python_backend.fair_share import Turn
from python_backend.meter import Meter, count_deaths
from python_backend.stopwatch import Stopwatch
from python_backend.units import Chunk, cut_chunks, gather_units

T = TypeVar("T")

NUM_SERVED_ENCODES = 2
"""Calls of the model `vision_encoder` that one request of the server has outstanding."""

DecodeFunction = Callable[[Segments], DecodedFrames]


def decoded_pixels(plan: VideoPlan) -> int:
    """Return the pixels that a decoder makes of a plan, before resizing, chunk by chunk.

    Each chunk decodes what its frames need from the key frame before them, so a group of pictures
    that spans several chunks is decoded anew, up to its target, in each.
    """
    chunks = [chunk.frame_indices for chunk in cut_chunks(plan)]
    # (n,)
    targets = np.concatenate(chunks)
    # (K,): ordinals of the key frames, as targets are ordinals.
    keys = np.flatnonzero(plan.index.is_key)
    # (n,): which key frame each target is decoded from, -1 for none. "right": a key frame needs
    # itself only.
    before = np.searchsorted(keys, targets, side="right") - 1
    # Where no key frame comes before, decoding starts where the file does.
    starts = np.where(before < 0, 0, keys[before]) if len(keys) else np.zeros_like(targets)
    chunk_numbers = np.repeat(np.arange(len(chunks)), [len(chunk) for chunk in chunks])
    # (n,): targets with the same start share one decode within a chunk, which runs to the last of
    # them.
    is_last = np.append((np.diff(starts) != 0) | (np.diff(chunk_numbers) != 0), True)
    num_frames = int((targets - starts + 1)[is_last].sum())
    return num_frames * plan.index.width * plan.index.height


@dataclass(frozen=True, kw_only=True)
class ChunkRunner:
    """The two stages of one request."""

    decode: DecodeFunction
    """Segments of one chunk, or of a part of it -> n frames. Runs in a helper thread."""
    encode: EncodeFunction
    """At most `CHUNK_FRAMES` units -> their features. Runs in helper threads."""
    inputs: VisionInputs
    """What `encode` takes."""
    num_encodes: int
    """Calls of `encode` at once, >= 1."""
    max_segment_bytes: int
    """Segments of a chunk that take more are decoded in several calls; of a video of many bytes a
    second they would take gigabytes of a decoder's memory."""
    watch: Stopwatch
    """Where the time goes."""
    meter: Meter
    """Where frames, passes and dead workers are counted."""
    deadline: Deadline
    """Checked between chunks, and while one is waited for."""
    turn: Turn | None = None
    """What the video needs to have a chunk decoded; nothing where None."""

    def run(self, video: OpenVideo, plan: VideoPlan) -> EncodedVideo:
        """Decode and encode the frames of a plan.

        After an error nothing new begins; what runs is waited for, and its result dropped.

        Args:
            video: Held open by a worker until this returns.
            plan: Of this video.

        Raises:
            InvalidRequestError: A frame does not decode.
            DeadlineExceededError: Time ran out.
            RequestCancelledError: Nobody waits for the answer any more.
            UnavailableError: A worker process died.
        """
        features: Array | None = None
        decoders: dict[str, None] = {}
        start = 0
        with (
            closing(self._decoded_chunks(video, cut_chunks(plan))) as chunks,
            closing(self._encoded_pieces(chunks, self.inputs.of_plan(plan))) as encoded_pieces,
        ):
            for decoder, encoded in encoded_pieces:
                end = start + len(encoded)
                decoders[decoder] = None
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
        self, video: OpenVideo, chunks: list[Chunk]
    ) -> Generator[tuple[Chunk, DecodedFrames], None, None]:
        """Yield each chunk with its m frames, the next one already being decoded."""
        with ThreadPoolExecutor(max_workers=1) as ahead:
            # One worker, so chunks are cut in order: an open video takes one job at a time.
            pending = deque([ahead.submit(self._load, video, chunks[0].frame_indices)])
            kept: list[Array] = []
            for chunk, next_chunk in zip(chunks, [*chunks[1:], None], strict=True):
                self._wait_for_first(pending)
                decoded = pending.popleft().result()
                self.meter.add("frames_decoded", len(decoded.frames))
                if kept:
                    decoded = replace(decoded, frames=concatenate([*kept, decoded.frames]))
                kept = []
                if next_chunk is not None:
                    pending.append(ahead.submit(self._load, video, next_chunk.frame_indices))
                    if next_chunk.num_kept:
                        kept = [decoded.frames[-next_chunk.num_kept :]]
                yield chunk, decoded

    def _encoded_pieces(
        self,
        chunks: Iterator[tuple[Chunk, DecodedFrames]],
        plan_inputs: Sequence[NDArray[np.float32]],
    ) -> Generator[tuple[str, Array], None, None]:
        """Yield decoder and features of all units, in order, the next ones being encoded."""
        with ThreadPoolExecutor(max_workers=self.num_encodes) as encoders:
            pending: deque[Future[tuple[str, Array]]] = deque()
            for chunk, decoded in chunks:
                for start in range(0, len(chunk.units), CHUNK_FRAMES):
                    self.deadline.check()
                    units = chunk.units[start : start + CHUNK_FRAMES]
                    pending.append(encoders.submit(self._encode, decoded, units, plan_inputs))
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

    def _load(self, video: OpenVideo, frame_indices: NDArray[np.int64]) -> DecodedFrames:
        parts: list[DecodedFrames] = []
        while len(frame_indices):
            parts.append(self._load_first(video, frame_indices))
            # `cut` took as many as fit, always from the front.
            frame_indices = frame_indices[len(parts[-1].frames) :]
        decoders = dict.fromkeys(part.decoder for part in parts)
        return DecodedFrames(concatenate([part.frames for part in parts]), ", ".join(decoders))

    def _load_first(self, video: OpenVideo, frame_indices: NDArray[np.int64]) -> DecodedFrames:
        with self.watch.measure("cut"), count_deaths(self.meter):
            segments = video.cut(frame_indices, max_bytes=self.max_segment_bytes)
        # The wait for a turn is booked apart from the decoding that the turn is held for.
        with ExitStack() as stack:
            if self.turn is not None:
                with self.watch.measure("wait"):
                    stack.enter_context(self.turn())
            with self.watch.measure("decode"):
                return self.decode(segments)

    def _encode(
        self,
        decoded: DecodedFrames,
        units: NDArray[np.int64],
        plan_inputs: Sequence[NDArray[np.float32]],
    ) -> tuple[str, Array]:
        with self.watch.measure("encode"):
            frames = gather_units(decoded.frames, units, self.inputs.stream)
            return decoded.decoder, self.encode(frames, *plan_inputs)
