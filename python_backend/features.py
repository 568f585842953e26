"""From a video to pooled features: probe, sample, then decode and encode chunk by chunk.

Decoding of the next chunk runs beside encoding of the current one, so that two chunks of resized
frames are held at most, whatever the length of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.grid import grid_side, pooling_weights
from groundserve.limits import Limits
from groundserve.manifest import Manifest
from groundserve.media import MediaWorkers, OpenVideo, Segments, VideoIndex, VideoSource
from groundserve.options import ScoreOptions
from groundserve.sampling import sample_frames, snap_to_keyframes
from python_backend.stopwatch import Stopwatch

CHUNK_FRAMES = 64

DecodeFunction = Callable[[Segments], NDArray[np.uint8]]
EncodeFunction = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFeatures:
    """One video, ready for any number of questions."""

    features: NDArray[np.float32]
    """float32 (T, g*g, D_v)."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), source ordinals, increasing."""
    pts_seconds: NDArray[np.float64]
    """float64 (T,), when each frame is shown."""
    stage_info: dict[str, Any]
    """What the answer's INFO says of the video; JSON values only."""


def extract_features(
    source: VideoSource,
    options: ScoreOptions,
    *,
    workers: MediaWorkers,
    manifest: Manifest,
    decode: DecodeFunction,
    encode: EncodeFunction,
    limits: Limits,
    deadline: Deadline,
) -> VideoFeatures:
    """Decode and encode the frames that the options sample.

    Args:
        source: The open video.
        options: Sampling and seeking; the selector is not used here.
        workers: Processes that demux.
        manifest: Of the engine that `encode` runs.
        decode: Segments of one chunk -> uint8 (n, S, S, 3). Runs in a helper thread.
        encode: Frames and pooling weights (g, s) -> float32 (n, g*g, D_v).
        limits: Ceilings on the request.
        deadline: Checked between chunks.

    Raises:
        InvalidRequestError: The options or the video break a rule.
        DeadlineExceededError: Time ran out.
        UnavailableError: A worker process died.
    """
    options.check(limits)
    watch = Stopwatch()
    model = manifest.model
    with workers.open(source, deadline=deadline) as video:
        watch.lap("probe")
        index = video.index
        frame_indices, shift_seconds = _sample(index, options)
        num_frames = len(frame_indices)
        grid = grid_side(num_frames, vision_token_num=model.vision_token_num, side=model.side)
        pooling = pooling_weights(grid, side=model.side)
        features = np.empty((num_frames, grid * grid, model.vision_hidden_size), np.float32)
        start = 0
        for frames in _decoded_chunks(video, frame_indices, decode, watch):
            deadline.check()
            with watch.measure("encode"):
                features[start : start + len(frames)] = encode(frames, pooling)
            start += len(frames)
    return VideoFeatures(
        features=features,
        frame_indices=frame_indices,
        pts_seconds=index.pts_seconds[frame_indices],
        stage_info={
            "num_source_frames": index.num_source_frames,
            "fps": index.average_fps,
            "duration_seconds": index.duration_seconds,
            "grid": grid,
            "engine": manifest.identity,
            "cache_hit": False,
            "keyframe_shift_seconds": shift_seconds,
            "timing_ms": watch.timing_ms,
        },
    )


def _sample(index: VideoIndex, options: ScoreOptions) -> tuple[NDArray[np.int64], float]:
    frame_indices = sample_frames(
        index.num_source_frames,
        index.average_fps,
        sampling=options.sampling,
        sample_fps=options.sample_fps,
        num_frames=options.num_frames,
    )
    if options.seek == "exact":
        return frame_indices, 0.0
    return snap_to_keyframes(frame_indices, index.is_key, index.pts_seconds)


def _decoded_chunks(
    video: OpenVideo, frame_indices: NDArray[np.int64], decode: DecodeFunction, watch: Stopwatch
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of each chunk, the next one already being decoded."""

    def load(chunk: NDArray[np.int64]) -> NDArray[np.uint8]:
        with watch.measure("cut"):
            segments = video.cut(chunk)
        with watch.measure("decode"):
            return decode(segments)

    chunks = [
        frame_indices[i : i + CHUNK_FRAMES] for i in range(0, len(frame_indices), CHUNK_FRAMES)
    ]
    with ThreadPoolExecutor(max_workers=1) as ahead:
        pending = ahead.submit(load, chunks[0])
        for next_chunk in [*chunks[1:], None]:
            frames = pending.result()
            if next_chunk is not None:
                pending = ahead.submit(load, next_chunk)
            yield frames
