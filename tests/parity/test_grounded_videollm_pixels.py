"""Both streams of Grounded-VideoLLM as they come to its vision stage, against the reference's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.families import get_family
from groundserve.families.grounded_videollm.plan import PHI_3_5
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.chunks import ChunkRunner
from python_backend.decode import PyAVDecoder
from python_backend.meter import Counts
from python_backend.stopwatch import Stopwatch

FOLDER = Path(__file__).parent.parent / "fixtures" / "grounded_videollm_ref"
CASES = json.loads((FOLDER / "pixels.json").read_text("utf-8"))
del CASES["formula"]  # which has no file
MEAN_AND_STD = {
    "TEMPORAL_PIXELS": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "SPATIAL_PIXELS": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
}


def sha256_normalized(frames: Iterator[NDArray[np.uint8]], name: str) -> str:
    """Hash float32 (T, 3, S, S), normalised as the reference does, frame by frame."""
    mean, std = (np.float32(numbers) for numbers in MEAN_AND_STD[name])
    sha256 = hashlib.sha256()
    for frame in frames:
        pixels = (frame.astype(np.float32) / np.float32(255) - mean) / std
        sha256.update(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return sha256.hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_one_decode_gives_both_streams_bit_for_bit(clips, name):
    case = CASES[name]
    path = {**clips, "short_50f": FOLDER / "clips" / "short_50f.mp4"}[case["video"]]
    family, limits, deadline = get_family("grounded_videollm"), Limits(), Deadline.after(300)
    inputs = VisionInputs.of(family, PHI_3_5)
    parts: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def encode(temporal, spatial):
        parts.append((temporal, spatial))
        return np.zeros((len(temporal), 1, 1), np.float32)

    counts = Counts()
    with (
        MediaWorkers(limits=limits) as readers,
        MediaWorkers(limits=limits) as workers,
        VideoSource.from_path(path, limits=limits) as source,
        readers.open(source, deadline=deadline) as video,
    ):
        plan = family.plan(video.index, AnswerOptions(), PHI_3_5)
        decoder = PyAVDecoder(workers, streams=inputs.streams, meter=counts)
        ChunkRunner(
            decode=lambda segments, shown: decoder.decode(segments, shown=shown, deadline=deadline),
            encode=encode,
            inputs=inputs,
            num_encodes=1,
            max_segment_bytes=limits.max_upload_bytes,
            watch=Stopwatch(),
            meter=counts,
            deadline=deadline,
        ).run(video, plan)
        made = workers.work_done()["frames_converted"]
    assert [temporal.shape[1:] for temporal, _ in parts] == [(8, 224, 224, 3)] * len(parts)
    temporal = (frame for segments, _ in parts for segment in segments for frame in segment)
    assert sha256_normalized(temporal, "TEMPORAL_PIXELS") == case["temporal_pixels_sha256"]
    spatial = (frame for _, keys in parts for frame in keys)
    assert sha256_normalized(spatial, "SPATIAL_PIXELS") == case["spatial_pixels_sha256"]
    num_frames = min(96, case["num_source_frames"])
    keys = {case["frame_indices"][place] for place in case["key_frame_positions"]}
    assert counts["frames_decoded"] == num_frames
    assert made == num_frames + len(keys)
    assert counts["vision_frames"] == 12
