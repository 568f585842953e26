"""Five libraries that decode given frames of a video, each as its good user would call it.

Ours resizes in its worker, so it is asked for all frames, in as many calls as an upload's ceiling
of segments takes. The others hand their frames, as they come, to a thread for each core. Where one
takes a list, frames are asked for 64 at a time: it gives them whole, and 512 of 1080p are 3 GB.
Decoders may use all cores; where a library has a setting for that, it is FFmpeg's "auto".
"""

from __future__ import annotations

import atexit
import signal
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks._usage import measured
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline

MAX_JOB_SECONDS = 900
_CHUNK = 64

Frame = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process decodes, once."""

    path: str
    frame_indices: list[int]
    """Ordinals in presentation order, increasing."""
    gop: int
    """Frames from key to key, for the library that cannot ask where they are."""
    image_size: int | None
    """Side S to resize to, with Pillow's bicubic filter; None: frames as they are, RGB."""


Decode = Callable[[Job], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Library:
    """One of those compared."""

    distribution: str
    load: Callable[[], Decode]
    """Imports it, and starts what a program starts once."""


Answer = dict[str, Any]
"""`Usage` of a job (memory since the process began) and the frames' "shape", or "error"."""


class DecoderProcess:
    """A process that decodes with one library alone: no import of another slows it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))

    def run(self, job: Job) -> Answer:
        """Decode and wait for the answer; a process that ended is an error like any other."""
        try:
            return self._pool.submit(_answer, self._name, job).result()
        except BrokenProcessPool:
            return {"error": "its process ended"}

    def close(self) -> None:
        """End it."""
        self._pool.shutdown()


_loaded: dict[str, Decode] = {}
"""In such a process: its library, once the first job has loaded it."""


def _answer(name: str, job: Job) -> Answer:
    # A decoder that waits for ever ends here, and its process with it.
    signal.alarm(MAX_JOB_SECONDS)
    try:
        if name not in _loaded:
            _loaded[name] = LIBRARIES[name].load()
        with measured() as usage:
            frames = _loaded[name](job)
        return {**asdict(usage), "shape": list(frames.shape)}
    # Whatever a library raises of a video is its result.
    except Exception as error:  # noqa: BLE001
        return {"error": f"{type(error).__name__}: {error}".partition("\n")[0][:300]}
    finally:
        signal.alarm(0)


def _ours() -> Decode:
    workers = MediaWorkers(limits=Limits())
    atexit.register(workers.close)

    def decode(job: Job) -> NDArray[np.uint8]:
        wanted = np.array(job.frame_indices, np.int64)
        limits, deadline = workers.limits, Deadline.after(MAX_JOB_SECONDS)
        with (
            VideoSource.from_path(job.path, limits=limits) as source,
            workers.open(source, deadline=deadline) as video,
        ):
            parts = []
            while len(wanted):
                segments = video.cut(wanted, max_bytes=limits.max_upload_bytes)
                parts.append(video.decode(segments, image_size=job.image_size))
                wanted = wanted[segments.num_frames :]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return decode


def _others(frames: Callable[[Job], Iterator[Frame]]) -> Decode:
    pool = ThreadPoolExecutor(available_cpus())

    def decode(job: Job) -> NDArray[np.uint8]:
        if job.image_size is None:
            return np.stack(list(frames(job)))
        size = (job.image_size, job.image_size)

        def resize(frame: Frame) -> Frame:
            return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))

        return np.stack(list(pool.map(resize, frames(job))))

    return decode


def _pyav() -> Decode:
    import av

    def frames(job: Job) -> Iterator[Frame]:
        with av.open(job.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            packets = [packet for packet in container.demux(stream) if packet.size]
            shown = sorted(packet.pts or 0 for packet in packets)
            keys = sorted(packet.pts or 0 for packet in packets if packet.is_keyframe)
            del packets
            key_before = -1
            for pts in (shown[index] for index in job.frame_indices):
                key = bisect_right(keys, pts) - 1
                # Within the group of pictures that is being decoded it only goes on.
                if key != key_before:
                    container.seek(keys[key], stream=stream)
                    decoded, key_before = container.decode(stream), key
                frame = next(frame for frame in decoded if frame.pts == pts)
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)

    return _others(frames)


def _decord() -> Decode:
    import decord

    def frames(job: Job) -> Iterator[Frame]:
        reader = decord.VideoReader(job.path, num_threads=0)
        for wanted in _chunks(job):
            yield from reader.get_batch(wanted).asnumpy()

    return _others(frames)


def _torchcodec() -> Decode:
    from torchcodec.decoders import VideoDecoder

    def frames(job: Job) -> Iterator[Frame]:
        decoder = VideoDecoder(
            job.path, dimension_order="NHWC", num_ffmpeg_threads=0, seek_mode="exact"
        )
        for wanted in _chunks(job):
            yield from decoder.get_frames_at(wanted).data.numpy()

    return _others(frames)


def _opencv() -> Decode:
    import cv2

    def frames(job: Job) -> Iterator[Frame]:
        capture = cv2.VideoCapture(job.path, cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise ValueError("VideoCapture does not open it")
        position = 0
        for index in job.frame_indices:
            # It does not tell where key frames are. Its seek decodes what leads up to the frame,
            # from 16 before it at the latest: that pays where a whole group is left out.
            if index // job.gop > position // job.gop + 1:
                capture.set(cv2.CAP_PROP_POS_FRAMES, index)
                position = index
            while position < index and capture.grab():
                position += 1
            is_read, pixels = capture.read()
            if not is_read:
                raise ValueError(f"frame {index} does not come out")
            position += 1
            yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        capture.release()

    return _others(frames)


def _chunks(job: Job) -> Iterator[list[int]]:
    for first in range(0, len(job.frame_indices), _CHUNK):
        yield job.frame_indices[first : first + _CHUNK]


LIBRARIES = {
    "ours": Library(distribution="groundserve", load=_ours),
    "pyav": Library(distribution="av", load=_pyav),
    "decord": Library(distribution="decord", load=_decord),
    "torchcodec": Library(distribution="torchcodec", load=_torchcodec),
    "opencv": Library(distribution="opencv-python-headless", load=_opencv),
}
