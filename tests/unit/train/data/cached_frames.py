"""A video whose frames JPEG changes, and reading it; without torch, as other processes do."""

from contextlib import closing

import av
import numpy as np

from groundserve.data_record import Media
from tests.unit.train.data.samples import GRAY_STEP, open_reader

VIDEO = Media("video", "a.mp4")


def write_textured(path, *, num_frames):
    """Write frames as `write_video` does, with squares on them: JPEG keeps flat ones exactly."""
    squares = 5 * (-1) ** (np.indices((64, 64)).sum(0) // 7)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(num_frames):
            gray = np.clip(GRAY_STEP * i % 256 + squares, 0, 255).astype(np.uint8)
            pixels = np.repeat(gray[..., np.newaxis], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def read(media, cache, *, sample_fps=1.0, keeps_all=False, max_frames=1024):
    """Read as a new process would."""
    with closing(open_reader(media, frame_cache=cache, max_frames=max_frames)) as reader:
        frames = reader.read(VIDEO, sample_fps=sample_fps, keeps_all=keeps_all)
        return frames, len(reader._workers.pids())


def files(cache):
    return sorted(cache.rglob("*.safetensors"))
