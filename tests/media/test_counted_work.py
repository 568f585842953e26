"""What answering takes in counted work: a change that makes it more is seen on any machine.

The numbers are those of this version on real files. Fewer packets or bytes: lower the number here.
More: the change costs every request, whatever its own benchmark says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve import ScoreOptions
from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.families.plans import FrameStream
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from python_backend.chunks import ChunkRunner
from python_backend.decode import DecodedFrames
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline
from python_backend.stopwatch import Stopwatch
from tests.media_assets import GOPS_OF_50, H264_OPEN_GOP, LONG_GOP, VP9, Asset
from tests.unit.python_backend.plans import frame_units

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


@pytest.mark.parametrize(
    ("asset", "num_frames", "seek", "rounds"),
    [
        pytest.param(GOPS_OF_50, 512, "exact", 1, id="groups_of_pictures_across_chunks"),
        pytest.param(GOPS_OF_50, 512, "keyframe", 1, id="keyframes"),
        pytest.param(H264_OPEN_GOP, 70, "exact", 1, id="open_groups"),
        pytest.param(VP9, 72, "exact", 1, id="vp9"),
        # One group of pictures with 512 targets: eight times from its start, each time farther.
        pytest.param(LONG_GOP, 512, "exact", 4.5, id="one_group_of_pictures"),
    ],
)
def test_no_group_of_pictures_is_decoded_twice(
    make_asset: Callable[[Asset], Path], asset: Asset, num_frames: int, seek: str, rounds: float
) -> None:
    """As many packets in chunks as where all frames are asked for at once, and the same pixels."""
    deadline, limits = Deadline.after(60), Limits()
    encoded: list[NDArray[np.uint8]] = []
    with (
        MediaWorkers(limits=limits, num_cpus=1) as workers,
        VideoSource.from_path(make_asset(asset), limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        targets = np.linspace(0, video.index.num_source_frames - 1, num_frames).astype(np.int64)
        if seek == "keyframe":
            targets = np.intersect1d(targets, np.flatnonzero(video.index.is_key))
        at_once = video.decode(video.cut(targets), image_size=SIDE)
        packets_at_once = workers.work_done()["packets_decoded"]

        def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
            encoded.append(frames.copy())
            return np.zeros((len(frames), 1, 1), np.float32)

        runner = ChunkRunner(
            decode=lambda segments, _: DecodedFrames(
                (video.decode(segments, image_size=SIDE),), "pyav"
            ),
            encode=encode,
            inputs=VisionInputs(streams=(FrameStream(name="FRAMES", size=SIDE),), plan_inputs=()),
            num_encodes=1,
            max_segment_bytes=limits.max_upload_bytes,
            watch=Stopwatch(),
            meter=Counts(),
            deadline=deadline,
        )
        runner.run(video, replace(frame_units(targets), index=video.index))
        packets = workers.work_done()["packets_decoded"] - packets_at_once
    np.testing.assert_array_equal(np.concatenate(encoded), at_once)
    assert [len(frames) for frames in encoded[:-1]] == [CHUNK_FRAMES] * (len(encoded) - 1)
    assert packets <= packets_at_once * rounds
