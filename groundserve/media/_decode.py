"""Decode the target frames of segments, exactly as decoding the whole file would."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media._container import (
    check_codec_size,
    check_size,
    decoder_options,
    select_video_stream,
)
from groundserve.media._memory import max_decoders
from groundserve.media._packets import is_hidden_packet, open_announced, read_announced
from groundserve.media._resize import FrameConverter
from groundserve.media._side_by_side import run_behind, run_side_by_side
from groundserve.media.outputs import FrameOutput
from groundserve.media.segments import Segments

_SIZE_REFUSALS = (errno.EINVAL, errno.ERANGE)
"""What a decoder says of a picture past `decoder_options`, ERANGE dav1d; damage is rarely that."""


def decode_segments(
    segments: Segments, outputs: Sequence[FrameOutput], *, num_threads: int, limits: Limits
) -> Decoded:
    """Decode each target once, rotate as the file asks, and resize for the outputs that have it.

    Segments are decoded side by side, with one thread each: threads of one decoder wait for each
    other, and those of the last pictures have nothing to do. Fewer segments than threads have
    several threads each, and one more that converts what they decoded.

    Outputs are as `check_outputs` lets in. Frames as decoded must have one size and, where there
    are several, at most the pixels that the file announces.

    Raises:
        MediaError: No frame comes out for a target. The reference's decoder (decord) gives another
            frame's pixels then. Damage that the codec conceals within a frame is not an error. Or
            a frame is past the limits, or frames differ in size and are not resized. Of several
            errors of that second kind the first segment's is raised.
    """
    stream = segments.stream
    # Announced and not known; a frame that is larger may find no room, which is an error as ever.
    num_pixels = min(stream.width * stream.height, limits.max_frame_pixels)
    num_decoders = min(
        segments.num_segments,
        num_threads,
        max_decoders(num_pixels, limits, num_threads=num_threads),
    )
    # What as many frames as one expects together take is known beforehand. One alone, which is
    # within the limits, may be larger.
    made = _Targets(segments.num_frames, outputs, most_pixels=num_pixels)
    # One a thread: each keeps tables from one frame to the next.
    converters: SimpleQueue[FrameConverter] = SimpleQueue()
    for _ in range(num_decoders):
        converters.put(FrameConverter(outputs, limits))

    num_threads_each = num_threads // num_decoders

    def decode(segment: _OpenSegment) -> None:
        to_pixels = converters.get()

        def convert(target: tuple[int, VideoFrame]) -> None:
            number, frame = target
            for output, pixels in to_pixels(frame, made.outputs_of(number)):
                made.put(number, output, pixels)
            made.have(number)

        try:
            targets = segment.decode_targets(limits)
            if num_threads_each > 1:
                run_behind(convert, targets)
            else:
                for target in targets:
                    convert(target)
        finally:
            # Also after an error: segments before this one go on, and one of them may need it.
            converters.put(to_pixels)
        made.add_packets(segment.num_decoded)

    # All are opened before one is decoded: `open_announced` limits the memory of the process.
    opened = list(_open_all(segments, num_threads=num_threads_each))
    run_side_by_side(
        decode, opened, num_threads=num_decoders, cost=lambda segment: segment.num_bytes
    )
    return made.to_decoded()


def iterate_targets(
    segments: Segments, *, num_threads: int, limits: Limits
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the number of each target that decodes, with its frame, one segment after another."""
    for segment in _open_all(segments, num_threads=num_threads):
        yield from segment.decode_targets(limits)


def decode_all(
    stream: VideoStream, packets: Iterable[Packet[VideoStream]], limits: Limits
) -> Iterator[VideoFrame]:
    """Yield frames in presentation order, as far as the stream's decoder gets, which is used up.

    MediaError where a frame is past the limits on its size, also one that does not come out.
    """
    codec = stream.codec_context
    codec.options = decoder_options(limits)
    try:
        # None drains the decoder: frames that it holds back for reordering, or in its threads.
        for packet in chain(packets, (None,)):
            for frame in stream.decode(packet):
                check_codec_size(codec, limits)
                # Each frame, not the first alone: a stream may change its size at any key frame.
                check_size(frame.width, frame.height, limits)
                yield frame
    # PyAV's MemoryError is an FFmpegError too, and no sign of damage: the worker words it.
    except MemoryError:
        raise
    except av.FFmpegError as error:
        check_codec_size(codec, limits)
        # Any other damage ends the frames here: `decode_segments` finds the target that is missing.
        if error.errno in _SIZE_REFUSALS:
            raise MediaError(
                "a frame of the video is damaged, or too large: at most "
                f"{limits.max_side_pixels} pixels a side (max_side_pixels) and "
                f"{limits.max_frame_pixels} in all (max_frame_pixels)"
            ) from None


class _OpenSegment:
    """One segment whose packets have been read; it is decoded once."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        packets: list[Packet[VideoStream]],
        targets: dict[int, int],
        num_bytes: int,
    ) -> None:
        self.num_bytes = num_bytes
        self.num_decoded = 0
        self._container, self._stream, self._packets = container, stream, packets
        self._targets = targets

    def decode_targets(self, limits: Limits) -> Iterator[tuple[int, VideoFrame]]:
        """Yield each target that decodes, as its number 0..m-1 with its frame."""
        try:
            for frame in decode_all(self._stream, self._count_decoded(), limits):
                number = None if frame.pts is None else self._targets.pop(frame.pts, None)
                if number is not None:
                    yield number, frame
                if not self._targets:
                    return
        finally:
            # Now, for others are yet to be decoded: the decoder goes with the last that names it,
            # and its reference pictures with the decoder.
            self._container.close()
            del self._container, self._stream, self._packets

    def _count_decoded(self) -> Iterator[Packet[VideoStream]]:
        for packet in self._packets:
            self.num_decoded += 1
            yield packet


def _open_all(segments: Segments, *, num_threads: int) -> Iterator[_OpenSegment]:
    """Open segments and read all their packets, in order."""
    first_target = 0
    for (file, local_frames), num_frames in zip(
        segments, segments.stream.frame_counts, strict=True
    ):
        container = open_announced(file, num_frames)
        stream = select_video_stream(container)
        # Whole frames and slices side by side; PyAV's own default is slices only.
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = num_threads
        packets = read_announced(container, stream, num_frames=num_frames, num_bytes=len(file))
        # The muxer chose the unit of the times (Matroska's is 1 ms); their order is the rank.
        shown = sorted(packet.pts or 0 for packet in packets if not is_hidden_packet(packet))
        # Every rank is there: `Segments` and `read_announced` have compared both sides with the
        # frames announced.
        targets = {shown[rank]: first_target + i for i, rank in enumerate(local_frames)}
        yield _OpenSegment(container, stream, packets, targets, len(file))
        first_target += len(local_frames)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """The targets of segments, and what they took."""

    outputs: tuple[NDArray[np.uint8], ...]
    """For each output uint8 (k, S, S, 3), RGB, in the order of the targets."""
    packets_decoded: int
    frames_converted: int
    """Frames made for outputs, all together: one that two outputs have counts twice."""


class _Targets:
    """The targets of all segments, which threads write in any order."""

    def __init__(
        self, num_targets: int, outputs: Sequence[FrameOutput], *, most_pixels: int
    ) -> None:
        self._lock = threading.Lock()
        self._made = [_Output(output, num_targets, most_pixels=most_pixels) for output in outputs]
        self._missing = set(range(num_targets))
        self._num_targets = num_targets
        self._num_packets = 0

    def outputs_of(self, target: int) -> list[int]:
        return [number for number, made in enumerate(self._made) if target in made.rows]

    def put(self, target: int, output: int, pixels: NDArray[np.uint8]) -> None:
        """Store a target's frame for one output."""
        made = self._made[output]
        with self._lock:
            frames = made.frames_for(pixels)
        frames[made.rows[target]] = pixels

    def have(self, target: int) -> None:
        with self._lock:
            self._missing.remove(target)

    def add_packets(self, num_packets: int) -> None:
        with self._lock:
            self._num_packets += num_packets

    def to_decoded(self) -> Decoded:
        """Return all targets, once all threads are done."""
        if self._missing:
            raise MediaError(
                f"frame {min(self._missing)} of the {self._num_targets} asked for does not decode: "
                "the video is damaged there"
            )
        return Decoded(
            outputs=tuple(made.frames for made in self._made if made.frames is not None),
            packets_decoded=self._num_packets,
            frames_converted=sum(len(made.rows) for made in self._made),
        )


class _Output:
    """One array of frames."""

    def __init__(self, output: FrameOutput, num_targets: int, *, most_pixels: int) -> None:
        self.rows = {int(target): row for row, target in enumerate(output.places(num_targets))}
        self._most_pixels = most_pixels
        size = output.image_size
        # As decoded the first frame decides, which alone tells H and W for certain.
        self.frames = None if size is None else self._empty((size, size, 3))

    def frames_for(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return where a frame is to be stored."""
        if self.frames is None:
            height, width, _ = pixels.shape
            if len(self.rows) > 1 and height * width > self._most_pixels:
                raise MediaError(
                    "the video's frames differ in size from what it announces: "
                    f"{width} x {height} pixels are more; re-encode it, or ask for one frame at a "
                    "time"
                )
            self.frames = self._empty(pixels.shape)
        if pixels.shape != self.frames.shape[1:]:
            raise MediaError(
                "the video's frames differ in size, and are wanted as decoded: re-encode it in "
                "one size, or ask for an image_size"
            )
        return self.frames

    def _empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return np.empty((len(self.rows), *shape), np.uint8)
