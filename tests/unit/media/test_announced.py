from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments, StreamInfo, VideoSource
from groundserve.runtime.deadline import Deadline
from tests.media_assets import ONE_FRAME, Asset
from tests.media_assets.boxes import announcing
from tests.support.one_gop import one_gop_video
from tests.support.processes import peak_rss_mib


def segment(file: bytes, *, num_frames: int = 1) -> Segments:
    """Describe a file as a segment of the first frame of the asset `ONE_FRAME`."""
    stream = StreamInfo(
        codec_name="h264",
        pixel_format="yuv420p",
        width=96,
        height=64,
        rotation=0,
        frame_counts=(num_frames,),
    )
    return Segments.concatenate([file], [np.zeros(1, np.int32)], stream=stream)


@pytest.mark.parametrize("announced", [1, 2**31 - 1])
def test_header_that_announces_millions_of_packets_takes_no_memory(
    announced: int, make_asset: Callable[[Asset], Path], deadline: Deadline
) -> None:
    intact = make_asset(ONE_FRAME).read_bytes()
    with MediaWorkers(limits=Limits()) as workers:
        workers.decode(segment(intact), image_size=72, deadline=deadline)
        (pid,) = workers.pids()
        before_mib = peak_rss_mib(pid)
        bad = segment(announcing(intact, 60 * 10**6), num_frames=announced)
        with pytest.raises(MediaError):
            workers.decode(bad, image_size=72, deadline=deadline)
        assert workers.pids() == [pid]
        # 2.2 GiB where FFmpeg may build the index that the header announces.
        assert peak_rss_mib(pid) - before_mib < 128


def test_size_of_a_segment_does_not_count_as_memory_to_open_it(deadline: Deadline) -> None:
    video = one_gop_video(90 * 10**6, num_frames=8)
    with (
        MediaWorkers(limits=Limits()) as workers,
        VideoSource.from_bytes(video, limits=Limits()) as source,
    ):
        with workers.open(source, deadline=deadline) as opened:
            segments = opened.cut(np.array([7]))
        assert len(segments.data) > 80 * 10**6
        assert workers.decode(segments, image_size=8, deadline=deadline).shape == (1, 8, 8, 3)
