"""DALI on the CPU: the same pipeline as on a GPU, for the codecs its FFmpeg decodes."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from groundserve.errors import EngineMismatchError, MissingExtraError
from groundserve.limits import Limits
from groundserve.media import ResizeRule, Segments
from groundserve.media._decode import decode_segments
from groundserve.media._resize import resize
from groundserve.media.outputs import FrameOutput
from groundserve.runtime.deadline import Deadline
from python_backend.decode import DaliDecoder
from tests.media_assets import (
    GOP_FRAMES,
    H264,
    ROTATED_VP8,
    VP8,
    VP8_HIDDEN,
    VP9,
    Asset,
)
from tests.media_assets.mutation import mutate
from tests.unit.python_backend.dali_decoder import (
    IMAGE_SIZE,
    Fallback,
    overwritten,
    with_hidden_packets,
)

_PATTERN = ("-frames:v", "24", "-c:v", "libvpx-vp9", "-cpu-used", "8", "-g", str(GOP_FRAMES))
ODD_444 = Asset(
    name="odd_444.webm", arguments=("-vf", "scale=97:65,format=yuv444p", *_PATTERN), num_frames=24
)
TEN_BIT_VP9 = Asset(
    name="ten_bit.webm", arguments=("-pix_fmt", "yuv420p10le", *_PATTERN), num_frames=24
)
ALT_REF = Asset(
    name="alt_ref.webm",
    arguments=(
        *("-frames:v", "40", "-c:v", "libvpx-vp9", "-cpu-used", "4", "-auto-alt-ref", "1"),
        *("-lag-in-frames", "25", "-b:v", "60k", "-pass", "2"),
    ),
    num_frames=40,
)


def decode_accurately(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Decode every frame with FFmpeg, converted with the flags that DALI's source names."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(template=stream),
            graph.add("scale", "flags=bilinear+accurate_rnd+full_chroma_int"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for frame in container.decode(stream):
            graph.push(frame)
            yield np.rot90(graph.pull().to_ndarray(), round(frame.rotation / 90))


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.abs(a.astype(np.int64) - b)


ASSETS = [
    pytest.param(asset, id=asset.name)
    for asset in (*(ALT_REF, ODD_444, TEN_BIT_VP9, VP8_HIDDEN, ROTATED_VP8),)
]


@pytest.mark.parametrize("asset", ASSETS)
def test_every_frame_is_the_right_one_and_nearly_the_same(
    asset: Asset,
    make: Callable[[Asset], Path],
    cut: Callable[..., Segments],
    decoder: DaliDecoder,
    deadline: Deadline,
) -> None:
    segments = cut(asset, *range(asset.num_frames))
    decoded = decoder.decode(segments, deadline=deadline)
    assert decoded.decoder == "dali"
    frames = decoded.frames
    assert isinstance(frames, np.ndarray)
    assert (frames.dtype, frames.shape) == (
        np.uint8,
        (asset.num_frames, IMAGE_SIZE, IMAGE_SIZE, 3),
    )

    # DALI converts to RGB exactly like this; what is left is its resize, which rounds its weights
    # otherwise than Pillow. Measured: mean 0.13 to 0.17, max 7 to 10 of 255.
    accurate = np.stack([resize(frame, IMAGE_SIZE) for frame in decode_accurately(make(asset))])
    assert difference(frames, accurate).mean() < 0.25
    assert difference(frames, accurate).max() <= 14

    # PyAV's scaler takes the nearest chroma sample, which on a pattern of saturated edges is a lot;
    # all of the difference is there also between the two conversions of FFmpeg. Measured: mean 4.6
    # at most (0.2 without chroma subsampling).
    exact = decode_segments(
        segments, [FrameOutput(image_size=IMAGE_SIZE)], num_threads=1, limits=Limits()
    ).outputs[0]
    assert difference(frames, exact).mean() < 5.5
    assert abs(difference(frames, exact).mean() - difference(accurate, exact).mean()) < 0.25
    by_frame = [difference(frame, exact).mean(axis=(1, 2, 3)).argmin() for frame in frames]
    assert by_frame == list(range(asset.num_frames))


def test_frames_that_do_not_come_out_are_not_another_requests(
    cut: Callable[..., Segments], decoder: DaliDecoder, deadline: Deadline
) -> None:
    good = cut(VP8, *range(GOP_FRAMES))
    bad = with_hidden_packets(good, 7)
    expected = decoder.decode(good, deadline=deadline).frames
    for _ in range(3):
        assert (
            decoder.decode(bad, deadline=deadline).decoder == "pyav (DALI wrote no frame 7 of 12)"
        )
        np.testing.assert_array_equal(decoder.decode(good, deadline=deadline).frames, expected)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda cut: replace(cut, data=np.zeros_like(cut.data)), id="zeros"),
        pytest.param(lambda cut: overwritten(cut, 0xFF), id="overwritten"),
    ],
)
def test_damage_goes_to_the_other_decoder_without_internals_and_does_not_last(
    damage: Callable[[Segments], Segments],
    cut: Callable[..., Segments],
    decoder: DaliDecoder,
    deadline: Deadline,
) -> None:
    good = cut(VP9, *range(8))
    expected = decoder.decode(good, deadline=deadline).frames
    assert decoder.decode(damage(good), deadline=deadline).decoder == "pyav (DALI failed on it)"
    np.testing.assert_array_equal(decoder.decode(good, deadline=deadline).frames, expected)


def test_mutated_segments_give_frames_of_their_own_or_go_to_the_other_decoder(
    cut: Callable[..., Segments], decoder: DaliDecoder, deadline: Deadline
) -> None:
    other = cut(VP8, *range(12, 24))
    others = {frame.tobytes() for frame in decoder.decode(other, deadline=deadline).frames}
    good = cut(VP9, *range(12))
    num_handed_over = 0
    for seed in (*range(12), 50, 57):  # without filling memory first, 1, 50 and 57 give `others`
        decoder.decode(other, deadline=deadline)
        file = mutate(good.data.tobytes(), seed)
        mutated = Segments.concatenate([file], [good.local_frames], stream=good.stream)
        decoded = decoder.decode(mutated, deadline=deadline)
        num_handed_over += decoded.decoder != "dali"
        assert not others & {frame.tobytes() for frame in decoded.frames}
    assert 0 < num_handed_over < 14


@pytest.mark.parametrize(
    ("asset", "changes", "reason"),
    [
        pytest.param(H264, {}, "DALI on the CPU does not decode h264", id="codec"),
        pytest.param(
            VP9,
            {"width": 8192, "height": 8192, "pixel_format": "yuv420p10le"},
            "a decoder of yuv420p10le 8192 x 8192 takes more than 4294967296 bytes",
            id="one_decoder",
        ),
    ],
)
def test_what_dali_does_not_decode_goes_to_the_other_decoder_and_says_so(
    asset: Asset,
    changes: dict[str, int | str],
    reason: str,
    cut: Callable[..., Segments],
    decoder: DaliDecoder,
    fallback: Fallback,
    deadline: Deadline,
) -> None:
    segments = cut(asset, *range(12))
    segments = replace(segments, stream=replace(segments.stream, **changes))
    before = fallback.num_calls
    decoded = decoder.decode(segments, deadline=deadline)
    assert decoded.decoder == f"pyav ({reason})"
    assert decoded.frames.shape == (12, 2, 2, 3)
    assert fallback.num_calls == before + 1


@pytest.mark.parametrize("resize", ["short_side", "bilinear"])
def test_dali_leaves_rules_other_than_the_square_to_pyav(
    resize: ResizeRule, cut: Callable[..., Segments], deadline: Deadline
) -> None:
    fallback = Fallback()
    dali = DaliDecoder(image_size=20, resize=resize, device="cpu", num_threads=1, fallback=fallback)
    decoded = dali.decode(cut(VP9, 3), deadline=deadline)
    assert decoded.decoder == f"pyav (DALI does not resize by the rule {resize})"
    assert fallback.num_calls == 1


def test_threads_share_a_decoder(
    cut: Callable[..., Segments], decoder: DaliDecoder, deadline: Deadline
) -> None:
    segments = [cut(VP9, ordinal) for ordinal in (0, 20, 40, 60)]
    alone = [decoder.decode(one, deadline=deadline).frames for one in segments]
    together: dict[int, NDArray[np.uint8]] = {}

    def decode(i: int) -> None:
        together[i] = decoder.decode(segments[i], deadline=deadline).frames

    threads = [threading.Thread(target=decode, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, frames in enumerate(alone):
        np.testing.assert_array_equal(together[i], frames)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_nvdec_without_a_gpu_is_refused(fallback: Fallback) -> None:
    with pytest.raises(EngineMismatchError, match="decodes on an NVIDIA GPU, this machine has"):
        DaliDecoder(image_size=IMAGE_SIZE, device="mixed", num_threads=1, fallback=fallback)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'groundserve\[dali\]'"):
        DaliDecoder(image_size=8, device="cpu", num_threads=1, fallback=Fallback())


# What runs on tensors of a GPU, on tensors of the CPU.
