"""Read untrusted videos: probe, cut, decode and resize, all of it in killable processes.

    with MediaWorkers(limits=limits) as workers:
        with (
            VideoSource.from_path(path, limits=limits) as source,
            workers.open(source, deadline=deadline) as video,
        ):
            segments = video.cut(frame_indices)
        frames = workers.decode(segments, image_size=384, deadline=deadline)

The caller's process needs numpy only; PyAV and Pillow are imported by the workers.
"""

from groundserve.media.index import VideoIndex
from groundserve.media.outputs import FrameOutput, ResizeRule
from groundserve.media.segments import Segments
from groundserve.media.source import VideoSource
from groundserve.media.stream import StreamInfo
from groundserve.media.workers import MediaWorkers, OpenVideo

__all__ = [
    "FrameOutput",
    "MediaWorkers",
    "OpenVideo",
    "ResizeRule",
    "Segments",
    "StreamInfo",
    "VideoIndex",
    "VideoSource",
]
