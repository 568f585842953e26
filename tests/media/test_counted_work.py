"""What answering takes in counted work: a change that makes it more is seen on any machine.

The numbers are those of this version on real files. Fewer packets or bytes: lower the number here.
More: the change costs every request, whatever its own benchmark says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from groundserve import ScoreOptions
from groundserve.deadline import Deadline
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline

SIDE = 32


@pytest.mark.parametrize(
    ("clip", "num_frames", "packets", "segment_bytes"),
    [
        pytest.param("bikes", 16, 120, 393549, id="bikes"),
        pytest.param("bigbuckbunny", 8, 132, 797276, id="bigbuckbunny"),
        pytest.param("carphone_pristine", 16, 74, 446170, id="carphone"),
        pytest.param("vfr", 8, 57, 21409, id="vfr"),
    ],
)
def test_decoding(
    clips: dict[str, Path], clip: str, num_frames: int, packets: int, segment_bytes: int
) -> None:
    deadline = Deadline.after(60)
    limits = Limits()
    with (
        # One thread, so that a decoder is given no packets ahead of its targets.
        MediaWorkers(limits=limits, num_cpus=1) as workers,
        VideoSource.from_path(clips[clip], limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        wanted = np.linspace(0, video.index.num_source_frames - 1, num_frames).astype(np.int64)
        segments = video.cut(wanted)
        video.decode(segments, image_size=SIDE)
        work = workers.work_done()
    assert work["packets_decoded"] == packets
    assert segments.data.nbytes <= segment_bytes
    assert work["frames_converted"] == num_frames
    moved = 2 * segments.data.nbytes + num_frames * SIDE * SIDE * 3
    # The index, offsets and ordinals beside the segments and the frames.
    assert moved < work["bytes_moved"] < moved + 64 * 1024


@pytest.mark.parametrize("num_frames", [1, 64, 65, 130])
def test_scoring(engine_dirs: dict[str, Path], clips: dict[str, Path], num_frames: int) -> None:
    """Two questions about one video: each frame is decoded, converted and encoded once."""
    counts = Counts()
    options = ScoreOptions(num_frames=num_frames, sample_fps=25)
    with Pipeline.open(engine_dirs["cpu"], meter=counts) as pipeline:
        result = pipeline.score(clips["bikes"], ["When?", "Where?"], options)
        work = pipeline.decoders.work_done()
        opened = pipeline.extractor.workers.work_done()
    assert len(result.frame_indices) == num_frames
    assert counts["frames_decoded"] == counts["vision_frames"] == num_frames
    assert counts["vision_passes"] == -(-num_frames // 64)
    assert work["frames_converted"] == num_frames
    # Who demuxes decodes nothing.
    assert opened["frames_converted"] == 0
