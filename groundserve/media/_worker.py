"""The worker process: reads one video at a time for the process that started it.

Started by `_process.WorkerProcess` as `python -m groundserve.media._worker SOCKET_FD CONFIG`. What
goes wrong with a video is answered as an error in our words; anything else is a bug of ours and
ends the process, which the other side reports and replaces.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import asdict

import av

# PyAV loads it at its first file, whose header may leave no memory to load anything.
import av.subtitles.stream
import numpy as np

from groundserve.errors import InvalidRequestError, MediaError
from groundserve.limits import MIB
from groundserve.media._clip import encode_clip
from groundserve.media._container import DEMUXERS
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media._reader import PacketReader
from groundserve.media._sandbox import (
    allow_cpu_seconds,
    allow_more_memory,
    be_killed_first,
    die_with_peer,
    limit_resources,
)
from groundserve.media._wire import (
    Channel,
    Message,
    WireError,
    WorkerConfig,
    frames_name,
    targets_name,
)
from groundserve.media.outputs import FrameOutput
from groundserve.media.segments import Segments
from groundserve.media.stream import StreamInfo

_MEDIA_FAULTS = (av.FFmpegError, ArithmeticError, EOFError, LookupError, OSError, ValueError)
"""What demuxers and decoders raise on files that are not what they claim to be."""

_OPEN_BYTES = 512 * MIB
"""Memory to open a video: FFmpeg builds the index that a header announces, whatever the file holds.

Measured: 160 MiB for 8192 x 8192 H.264, 350 MiB for an MP4 of 5 million frames (6 h at 240 fps).
"""


class Worker:
    """One video at most is open; the jobs are `open`, `cut`, `clip`, `close` and `decode`."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._fd = -1
        self._reader: PacketReader | None = None

    def answer(self, job: Message, fd: int | None) -> Message:
        """Do the job that `fields["job"]` names, `open` alone with a descriptor.

        What is wrong with the video or the request comes back as an error.
        """
        error: InvalidRequestError
        try:
            return self._do(job, fd)
        # Before the faults: PyAV's MemoryError is an FFmpegError, and InvalidRequestError a
        # ValueError.
        except MemoryError:
            error = MediaError(
                "reading this video takes more memory than a decoder process may use "
                f"({self._config.address_space_bytes} bytes); send a smaller one, or fewer frames "
                "at a time"
            )
        except InvalidRequestError as own_error:
            error = own_error
        except _MEDIA_FAULTS:
            error = MediaError(
                "the video cannot be read: it is damaged, or not one of "
                f"{', '.join(DEMUXERS)} (recognised by content)"
            )
        return Message(fields={"error": type(error).__name__, "message": str(error)})

    def _do(self, job: Message, fd: int | None) -> Message:
        match job.fields["job"]:
            case "open" if fd is not None:
                return self._open(fd)
            case "cut":
                return self._cut(job)
            case "clip":
                return self._clip(job)
            case "decode":
                return self._decode(job)
            case "close":
                self._close()
                return Message(fields={})
        raise RuntimeError("an unknown job")

    def _open(self, fd: int) -> Message:
        self._close()
        self._fd = fd
        with allow_more_memory(_OPEN_BYTES):
            self._reader = PacketReader(fd, self._config.limits)
        # Arrays travel as bytes, the rest as JSON; together they make a `VideoIndex` again.
        index = vars(self._reader.index).copy()
        arrays = {name: index.pop(name) for name in ("pts_seconds", "is_key")}
        return Message(fields=index, arrays=arrays)

    def _cut(self, job: Message) -> Message:
        assert self._reader is not None, "open comes first"
        segments = cut_segments(
            self._reader, job.arrays["frame_indices"], max_bytes=job.fields["max_bytes"]
        )
        return Message(fields=asdict(segments.stream), arrays=segments.arrays)

    def _clip(self, job: Message) -> Message:
        assert self._reader is not None, "open comes first"
        file = encode_clip(
            self._reader,
            *(job.fields[name] for name in ("first", "last")),
            num_threads=self._config.num_threads,
            limits=self._config.limits,
            max_bytes=job.fields["max_bytes"],
        )
        return Message(fields={}, arrays={"file": np.frombuffer(file, np.uint8)})

    def _decode(self, job: Message) -> Message:
        arrays = job.arrays
        outputs = [
            FrameOutput(**sizes, targets=arrays.pop(targets_name(number), None))
            for number, sizes in enumerate(job.fields["outputs"])
        ]
        decoded = decode_segments(
            Segments(**arrays, stream=StreamInfo.from_fields(job.fields["stream"])),
            outputs,
            num_threads=self._config.num_threads,
            limits=self._config.limits,
        )
        # Arrays travel as bytes, the rest as JSON.
        counts = vars(decoded).copy()
        made = enumerate(counts.pop("outputs"))
        return Message(
            arrays={frames_name(number): frames for number, frames in made}, fields=counts
        )

    def _close(self) -> None:
        if self._reader:
            self._reader.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._reader, self._fd = None, -1


def main(socket_fd: str, config_json: str) -> None:
    """Answer jobs until the other side closes the socket."""
    config = WorkerConfig.from_json(config_json)
    # Slurm sends it to every process of a job. The one that started this may finish its step with
    # our help first; when it ends, so does this.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Nobody would read what FFmpeg says of a file: stderr is /dev/null.
    av.logging.set_level(None)
    with socket.socket(fileno=int(socket_fd)) as peer:
        be_killed_first()
        die_with_peer(peer)
        limit_resources(address_space_bytes=config.address_space_bytes)
        channel, worker = Channel(peer), Worker(config)
        while True:
            try:
                job, fd = channel.receive_with_fd(max_bytes=config.address_space_bytes)
            # The other side is gone, and nobody waits for a reason.
            except WireError:
                return
            # Of all threads together: those of the decoder, and this one, which converts and
            # resizes.
            allow_cpu_seconds(job.fields["seconds"] * (config.num_threads + 1))
            channel.send(worker.answer(job, fd))
            # Not held until the next one is here: segments of a long video take tens of MiB.
            del job


if __name__ == "__main__":
    main(*sys.argv[1:])
