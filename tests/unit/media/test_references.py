"""Leaving out what no target needs changes no pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from groundserve.limits import Limits
from groundserve.media import _h264
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media.outputs import FrameOutput
from tests.media_assets import H264, NUM_PATTERN_FRAMES, Asset
from tests.media_assets.reading import reader_of
from tests.media_assets.whole_file import decode_whole_file

MakeAsset = Callable[[Asset], Path]


def x264(name: str, params: str, *arguments: str) -> Asset:
    frames = ("-frames:v", str(NUM_PATTERN_FRAMES))
    encoder = ("-c:v", "libx264", "-preset", "medium", "-x264-params", params)
    return Asset(name=name, arguments=(*arguments, *encoder, *frames))


def av1(name: str, *arguments: str) -> Asset:
    return Asset(name=name, arguments=(*arguments, "-frames:v", str(NUM_PATTERN_FRAMES)))


STREAMS = (
    x264("pyramid.mp4", "keyint=30:bframes=7:b-pyramid=normal:ref=6:weightp=2:weightb=1"),
    x264("no_pyramid.ts", "keyint=24:bframes=3:b-pyramid=none:aud=1:nal-hrd=vbr:vbv-maxrate=200:"
         "vbv-bufsize=200:repeat-headers=1"),
    x264("open.ts", "keyint=16:bframes=5:open-gop=1:b-pyramid=normal:b-adapt=0"),
    x264("temporal_direct.mp4", "keyint=36:bframes=3:direct=temporal:b-adapt=0:weightb=1"),
    x264("slices.mp4", "keyint=30:bframes=3:slices=4:cabac=0:b-adapt=0"),
    x264("constrained.mp4", "keyint=30:ref=1:bframes=2:b-adapt=0:fade-compensate=1"),
    x264("fields.ts", "keyint=24:bframes=3:tff=1:b-adapt=0"),
    x264("ten_bit_422.mp4", "keyint=24:bframes=3:b-adapt=0", "-pix_fmt", "yuv422p10le"),
    av1("svt.mp4", "-c:v", "libsvtav1", "-preset", "10", "-g", "33"),
    av1("aom.mkv", "-c:v", "libaom-av1", "-cpu-used", "8", "-g", "40", "-lag-in-frames", "25"),
    av1("grain.mp4", "-c:v", "libsvtav1", "-preset", "10", "-g", "33", "-svtav1-params",
        "film-grain=20"),
)  # fmt: skip


@pytest.mark.parametrize("asset", STREAMS, ids=lambda asset: asset.name)
def test_targets_equal_full_decode(asset: Asset, make_asset: MakeAsset) -> None:
    path = make_asset(asset)
    expected = decode_whole_file(path)
    rng = np.random.default_rng(len(asset.name))
    with reader_of(path) as reader:
        num_frames = reader.index.num_source_frames
        assert num_frames == len(expected)
        sets = [rng.choice(num_frames, size, replace=False) for size in (1, 2, 5, 12) * 3]
        sets += [np.array([i]) for i in range(num_frames - 12, num_frames)]
        for chosen in map(np.sort, sets):
            segments = cut_segments(reader, chosen)
            decoded = decode_segments(
                segments, [FrameOutput(image_size=None)], num_threads=2, limits=Limits()
            )
            np.testing.assert_array_equal(decoded.outputs[0], [expected[i] for i in chosen])
            assert decoded.frames_converted == len(chosen)
            assert decoded.packets_decoded <= sum(segments.stream.frame_counts)


def packets_of(path: Path) -> tuple[list[bytes], bytes]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return packets[:12], stream.codec_context.extradata or b""


@pytest.fixture
def h264(make_asset: MakeAsset) -> tuple[list[bytes], bytes]:
    packets, extradata = packets_of(make_asset(H264))
    assert any(_h264.unreferenced(packets, extradata))
    return packets, extradata


def unit(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param(b"\x68\xce\x38\x80", id="picture_parameter_set"),
        pytest.param(b"\x06\x06\x01\x80\x80", id="recovery_point"),
        pytest.param(b"\x0e\x00", id="layer_prefix"),
        pytest.param(b"\x41\xe0", id="slice_of_a_reference"),
    ],
)
def test_h264_packet_stays_for_what_comes_with_it(
    beside: bytes, h264: tuple[list[bytes], bytes]
) -> None:
    packets, extradata = h264
    place = _h264.unreferenced(packets, extradata).index(True)
    packets[place] += unit(beside)
    try:
        assert not _h264.unreferenced(packets, extradata)[place]
    except ValueError:
        assert beside[0] == 0x41
