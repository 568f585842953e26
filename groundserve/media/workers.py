"""The processes that read videos: every byte of a container or codec is parsed in there."""

from __future__ import annotations

import importlib.util
import queue
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MissingExtraError,
    UnavailableError,
)
from groundserve.limits import Limits
from groundserve.media._memory import needed_address_space
from groundserve.media._process import WorkerProcess
from groundserve.media._wire import Message, WireError, WorkerConfig, frames_name, targets_name
from groundserve.media.index import VideoIndex, check_frame_indices
from groundserve.media.outputs import FrameOutput, ResizeRule, check_outputs
from groundserve.media.segments import Segments
from groundserve.media.source import VideoSource
from groundserve.media.stream import StreamInfo
from groundserve.runtime.closing import Closing
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.places import Places

_MAX_DECODER_THREADS = 8
_CLOSE_SECONDS = 5.0
"""A worker that does not let go of a video within this is killed."""


class OpenVideo:
    """A video that one worker holds open; made by `MediaWorkers.open`, gone with its block."""

    def __init__(self, index: VideoIndex, worker: WorkerProcess, deadline: Deadline) -> None:
        self.index = index
        self._worker = worker
        self._deadline = deadline

    def cut(self, frame_indices: NDArray[np.int64], *, max_bytes: int | None = None) -> Segments:
        """Copy the parts of the file that decoding these frames takes; nothing is decoded.

        Frames are int64 (m,), m >= 1, ordinals in [0, N), strictly increasing. Where the segments
        of all take more than `max_bytes`, those of the first ones are returned, as many as fit but
        at least one segment; ask again for the rest.
        """
        check_frame_indices(frame_indices, self.index.num_source_frames)
        answer = self._worker.call(
            "cut",
            deadline=self._deadline,
            arrays={"frame_indices": frame_indices},
            max_bytes=max_bytes,
        )
        return Segments(**answer.arrays, stream=StreamInfo.from_fields(answer.fields))

    def clip(self, first: int, last: int, *, max_bytes: int) -> bytes:
        """Return an MP4 of the frames first..last, encoded in the worker; see `encode_clip`."""

        def check(answer: Message) -> None:
            file = answer.arrays.get("file")
            if file is None or file.dtype != np.uint8 or file.ndim != 1:
                raise WireError("no clip")

        check_frame_indices(np.arange(first, last + 1), self.index.num_source_frames)
        answer = self._worker.call(
            "clip",
            deadline=self._deadline,
            check=check,
            first=first,
            last=last,
            max_bytes=max_bytes,
        )
        return answer.arrays["file"].tobytes()

    def decode(
        self, segments: Segments, *, image_size: int | None = None, resize: ResizeRule = "square"
    ) -> NDArray[np.uint8]:
        """Do what `MediaWorkers.decode` does, in the worker that this video occupies already."""
        output = FrameOutput(image_size=image_size, resize=resize)
        (frames,) = _decode_outputs(self._worker, segments, [output], deadline=self._deadline)
        return frames


class MediaWorkers(Closing):
    """A fixed number of killable processes; all methods may be called from any thread.

    A worker has no descriptors but its own, may not write files, has bounded memory and processor
    time, and ends when this process does.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        num_workers: int = 1,
        num_cpus: int | None = None,
        address_space_bytes: int | None = None,
    ) -> None:
        """Start nothing yet: each process starts at its first job.

        Args:
            limits: Ceilings on a video.
            num_workers: Videos that can be read at one time, >= 1.
            num_cpus: Cores that the workers share; None: all that this process may use.
            address_space_bytes: Of one worker; None: what the largest video let in takes.
        """
        if num_workers < 1:
            raise InvalidRequestError(f"num_workers must be >= 1, got {num_workers}")
        # Looked for and not imported: this process needs neither, its workers do.
        for module in ("av", "PIL"):
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError("serve", module)
        # Workers decode side by side, so each has its share of the cores.
        num_cpus_each = max(1, (num_cpus or available_cpus()) // num_workers)
        num_threads = min(num_cpus_each, _MAX_DECODER_THREADS)
        config = WorkerConfig(
            address_space_bytes=address_space_bytes
            or needed_address_space(limits, num_threads=num_threads),
            num_threads=num_threads,
            limits=limits,
        )
        self._workers = [WorkerProcess(config) for _ in range(num_workers)]
        # Last used, first taken: that process runs already, others may never have to start.
        self._idle: queue.LifoQueue[WorkerProcess] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._places = Places(num_workers)

    @contextmanager
    def open(self, source: VideoSource, *, deadline: Deadline) -> Iterator[OpenVideo]:
        """Demux a video once and hold it open in one worker, until the block ends.

        The source stays the caller's; the deadline holds in the block as well. A second lease
        inside the block (`decode`, `open`) waits for another worker; with one worker use
        `OpenVideo.decode` there.

        Raises:
            MediaError: It is not a video that is served here, or past a limit.
            DeadlineExceededError: No worker became free, or it took too long.
            RequestCancelledError: Nobody waits for it any more.
            UnavailableError: The worker died.
        """
        with self._lease(deadline) as worker:
            answer = worker.call("open", deadline=deadline, fd=source.fileno())
            try:
                yield OpenVideo(VideoIndex(**answer.fields | answer.arrays), worker, deadline)
            finally:
                _let_go(worker)

    def decode(
        self,
        segments: Segments,
        *,
        image_size: int | None = None,
        resize: ResizeRule = "square",
        deadline: Deadline,
    ) -> NDArray[np.uint8]:
        """Do what `decode_outputs` does for one output of all targets."""
        output = FrameOutput(image_size=image_size, resize=resize)
        (frames,) = self.decode_outputs(segments, [output], deadline=deadline)
        return frames

    def decode_outputs(
        self, segments: Segments, outputs: Sequence[FrameOutput], *, deadline: Deadline
    ) -> list[NDArray[np.uint8]]:
        """Decode the targets of segments once, in any free worker.

        Segments are of `OpenVideo.cut`, in this process or another; each target is in one of the
        outputs at least. Return for each output uint8 (k, S, S, 3), RGB in the order of the
        targets, or as decoded (m, H, W, 3) after rotation.

        Raises:
            InvalidRequestError: An output is not such, or there are too many targets.
            MediaError: A target does not decode, or is past a limit. Others as of `open`.
        """
        with self._lease(deadline) as worker:
            return _decode_outputs(worker, segments, outputs, deadline=deadline)

    @property
    def limits(self) -> Limits:
        """Ceilings on a video."""
        return self._workers[0].limits

    def work_done(self) -> dict[str, int]:
        """Return what decoding took so far, all workers together, whatever the machine's speed.

        `packets_decoded` were given to decoders, `frames_converted` made for outputs, both without
        jobs that failed; `bytes_moved` are those of the arrays to and from workers.
        """
        # A worker has one job at a time, so no two threads add to one counter.
        names = ("packets_decoded", "frames_converted", "bytes_moved")
        return {name: sum(worker.work_done[name] for worker in self._workers) for name in names}

    def pids(self) -> list[int]:
        """Return the process ids of the workers that run now, for metrics."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def close(self) -> None:
        """End all workers, also amid a job, which then raises UnavailableError."""
        for worker in self._workers:
            worker.close()

    @contextmanager
    def _lease(self, deadline: Deadline) -> Iterator[WorkerProcess]:
        deadline.check()
        with ExitStack() as stack:
            try:
                stack.enter_context(self._places.held(deadline))
            except DeadlineExceededError:
                raise DeadlineExceededError(
                    f"all {len(self._workers)} decoder processes stayed busy for "
                    f"{deadline.total_seconds:.6g} s; allow more time or send fewer requests"
                ) from None
            worker = self._idle.get_nowait()
            stack.callback(self._idle.put, worker)
            yield worker


def _let_go(worker: WorkerProcess) -> None:
    """Have the worker close its video, unless it is gone; one that does not answer is killed."""
    # A call would start a new process only to have it close nothing.
    if worker.pid is not None:
        with suppress(DeadlineExceededError, UnavailableError):
            worker.call("close", deadline=Deadline.after(_CLOSE_SECONDS))


def _decode_outputs(
    worker: WorkerProcess, segments: Segments, outputs: Sequence[FrameOutput], *, deadline: Deadline
) -> list[NDArray[np.uint8]]:
    # Before anything is copied to the worker, who would refuse it too late.
    limits = worker.limits
    if segments.num_frames > limits.max_num_frames:
        raise InvalidRequestError(
            f"segments must have at most {limits.max_num_frames} targets (max_num_frames), "
            f"got {segments.num_frames}"
        )
    check_outputs(outputs, segments.num_frames, limits)
    targets = {targets_name(number): output.targets for number, output in enumerate(outputs)}
    answer = worker.call(
        "decode",
        deadline=deadline,
        arrays=segments.arrays | {name: one for name, one in targets.items() if one is not None},
        check=lambda answer: _check_decoded(answer, segments, outputs),
        stream=vars(segments.stream),
        outputs=[{"image_size": one.image_size, "resize": one.resize} for one in outputs],
    )
    worker.work_done.update(answer.fields)
    return [answer.arrays[frames_name(number)] for number in range(len(outputs))]


def _check_decoded(answer: Message, segments: Segments, outputs: Sequence[FrameOutput]) -> None:
    """Raise WireError unless there is a frame for each target, and counts that can be."""
    if answer.arrays.keys() != {frames_name(number) for number in range(len(outputs))}:
        raise WireError("other arrays than frames")
    num_converted = 0
    for number, output in enumerate(outputs):
        frames = answer.arrays[frames_name(number)]
        num_wanted = len(output.places(segments.num_frames))
        num_frames, *sides, num_channels = frames.shape if frames.ndim == 4 else (-1, 0, 0, 0)
        has_size = output.image_size is None or sides == [output.image_size] * 2
        if (num_frames, num_channels) != (num_wanted, 3) or not has_size:
            raise WireError(f"frames of shape {frames.shape}")
        if frames.dtype != np.uint8:
            raise WireError(f"frames of {frames.dtype.name}")
        num_converted += num_wanted
    # A packet has a byte at least.
    ceilings = {"packets_decoded": segments.data.nbytes, "frames_converted": num_converted}
    if answer.fields.keys() != ceilings.keys():
        raise WireError("other counts")
    for name, count in answer.fields.items():
        # `isinstance` would take JSON's true for 1.
        if type(count) is not int or not 1 <= count <= ceilings[name]:
            raise WireError(f"{name} out of range")
