"""What decoding takes of a GPU, by hand and against the headers that DALI's wheel brings."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path

import numpy as np

from groundserve.media import Segments, StreamInfo
from python_backend.decode.memory import (
    DECODERS_BYTES,
    FRAMES_BYTES,
    decoder_bytes,
    picture_bytes,
    split,
    surfaces_bytes,
    why_too_large,
)


def stream_of(width: int, height: int, pixel_format: str = "yuv420p", num_segments: int = 1):
    return StreamInfo(
        codec_name="hevc",
        pixel_format=pixel_format,
        width=width,
        height=height,
        rotation=0,
        frame_counts=(1000,) * num_segments,
    )


def segments_of(width: int, height: int, counts: list[int]) -> Segments:
    """Make segments of one byte, with so many targets each."""
    return Segments.concatenate(
        [b"x"] * len(counts),
        [np.arange(count, dtype=np.int32) for count in counts],
        stream=stream_of(width, height, num_segments=len(counts)),
    )


def dali_header(path: str) -> str:
    spec = importlib.util.find_spec("nvidia.dali")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (folder,) = spec.submodule_search_locations
    return (Path(folder) / "include" / "dali" / path).read_text("utf-8")


def test_installed_dali_is_as_it_was_read():
    """What the sums rest on, as far as headers tell: DALI 2.4.0."""
    decoder = dali_header("operators/video/frames_decoder_gpu.h")
    (surfaces,) = re.findall(r"const int num_decode_surfaces_ = (\d+);", decoder)
    stream = stream_of(1920, 1080)
    assert surfaces_bytes(stream) == int(surfaces) * 1920 * 1080 * 3
    buffer = dali_header("core/dev_buffer.h")
    assert "mm::alloc_raw_unique<T, mm::memory_kind::device>" in buffer  # the pool, not cudaMalloc
    operator = dali_header("operators/video/decoder/video_decoder_base.h")
    setup, run = operator.split("void RunImpl(")
    assert "frames_decoders_[s] = CreateDecoder(" in setup  # all of them, before any decodes
    assert "frames_decoders_[s].reset();" in run
    assert "ConstantFrame(ctx.constant_frame" in run  # one a thread
    resize = dali_header("kernels/imgproc/resample/separable_impl.h")
    assert "using IntermediateElement = float;" in resize


def test_parts_are_in_order_complete_within_the_ceilings_and_no_shorter_than_they_demand():
    generator = random.Random(5)
    for _ in range(200):
        width, height = generator.randint(144, 8192), generator.randint(144, 8192)
        decoder = decoder_bytes(stream_of(width, height))
        picture = picture_bytes(width, height)
        most = min(64, FRAMES_BYTES // picture)
        counts = [generator.randint(1, most) for _ in range(generator.randint(1, 64))]
        segments = segments_of(width, height, counts)
        assert why_too_large(segments) is None
        parts = split(segments)
        assert [i for part in parts for i in range(part.start, part.stop)] == [*range(len(counts))]
        for part, after in zip(parts, [*parts[1:], None], strict=True):
            taken = counts[part]
            assert taken
            assert len(taken) * decoder <= DECODERS_BYTES
            assert sum(taken) * picture <= FRAMES_BYTES
            if after is not None:
                more = [*taken, counts[after.start]]
                assert len(more) * decoder > DECODERS_BYTES or sum(more) * picture > FRAMES_BYTES
