from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media._cut import cut_segments, plan_cuts
from groundserve.media._decode import decode_segments
from groundserve.media._packets import PacketTable
from groundserve.media._reader import PacketReader
from groundserve.media.outputs import FrameOutput
from tests.media_assets import (
    EDIT_LIST,
    GOP_FRAMES,
    H264,
    H264_OPEN_GOP,
    H264_TS,
    HEVC_TS,
    LONG_GOP,
    MJPEG_AVI,
    VIDEOS,
    VP8,
    VP8_HIDDEN,
    Asset,
)
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]
DecodeAsset = Callable[[Asset], list[NDArray[np.uint8]]]
Frames = NDArray[np.uint8]


def cut_and_decode(reader: PacketReader, frame_indices: list[int], num_threads: int = 1) -> Frames:
    segments = cut_segments(reader, np.array(frame_indices, np.int64))
    decoded = decode_segments(
        segments, [FrameOutput(image_size=None)], num_threads=num_threads, limits=Limits()
    )
    return decoded.outputs[0]


def table_of(packets: str) -> PacketTable:
    """Make a table of words in decode order: Key, P other, Discard or Hidden, then the pts."""
    words = packets.split()
    return PacketTable(
        pts=np.array([int(word[1:]) for word in words]),
        dts=np.arange(len(words)),
        sizes=np.ones(len(words), np.int64),
        is_key=np.array([word[0] == "K" for word in words]),
        is_discard=np.array([word[0] == "D" for word in words]),
        is_hidden=np.array([word[0] == "H" for word in words]),
    )


@pytest.mark.parametrize(
    ("packets", "target", "positions", "ranks", "local_frame"),
    [
        pytest.param("K0 P1 P2 P3", 2, [0, 1, 2], [0, 1, 2], 2, id="up_to_the_target"),
        pytest.param("K0 P1 K2 P3", 3, [2, 3], [0, 1], 1, id="from_the_last_key"),
        pytest.param("K0 P3 P1 P2", 1, [0, 1, 2], [0, 2, 1], 1, id="end_in_decode_order"),
        pytest.param("K0 P1 K4 P2 P3", 3, [0, 1, 2, 3, 4], [0, 1, 4, 2, 3], 3, id="leading_target"),
        pytest.param("K0 P1 K4 P2 P3 P5", 5, [2, 5], [0, 1], 1, id="leading_pictures_left_out"),
        pytest.param("K3 P1 P2", 1, [0, 1], [1, 0], 0, id="leading_target_at_the_start"),
        pytest.param("K-2 D-1 P0 P1", 1, [0, 1, 2, 3], [0, 1, 2, 3], 3, id="discard_is_kept"),
        pytest.param("K0 H1 P1 P2", 1, [0, 1, 2], [0, 1, 1], 1, id="hidden_has_no_rank"),
        pytest.param("P0 P1 K2", 1, [0, 1], [0, 1], 1, id="no_key_before_starts_with_the_file"),
    ],
)
def test_plan_cuts(
    packets: str, target: int, positions: list[int], ranks: list[int], local_frame: int
) -> None:
    table = table_of(packets)
    (shown,) = np.flatnonzero((table.pts == target) & ~table.is_hidden)
    (cut,) = plan_cuts(table, np.array([shown]))
    assert cut.positions.tolist() == positions
    assert cut.ranks.tolist() == ranks
    assert cut.local_frames.tolist() == [local_frame]


def test_plan_cuts_makes_one_segment_a_start_key() -> None:
    cuts = plan_cuts(table_of("K0 P1 P2 K3 P4 P5"), np.array([1, 2, 4]))
    assert [cut.positions.tolist() for cut in cuts] == [[0, 1, 2], [3, 4]]
    assert [cut.local_frames.tolist() for cut in cuts] == [[1, 2], [1]]


def test_plan_cuts_keeps_leading_targets_beside_others() -> None:
    (cut,) = plan_cuts(table_of("K3 P1 P2 P4"), np.array([1, 2, 0, 3]))
    assert cut.positions.tolist() == [0, 1, 2, 3]
    assert cut.local_frames.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("asset", VIDEOS, ids=lambda asset: asset.name)
def test_each_frame_alone_equals_full_decode(
    asset: Asset, make_asset: MakeAsset, decode_asset: DecodeAsset
) -> None:
    expected = decode_asset(asset)
    # A frame costs all before it in its group: of 600 in one, as many as meet each place among the
    # B-frames, whose pattern repeats every 4.
    step = 7 if asset is LONG_GOP else 1
    with reader_of(make_asset(asset)) as reader:
        assert reader.index.num_source_frames == asset.num_frames == len(expected)
        for i in [*range(0, asset.num_frames, step), asset.num_frames - 1]:
            np.testing.assert_array_equal(cut_and_decode(reader, [i])[0], expected[i], f"{i}")


@pytest.mark.parametrize("asset", VIDEOS, ids=lambda asset: asset.name)
def test_frame_sets_equal_full_decode(
    asset: Asset, make_asset: MakeAsset, decode_asset: DecodeAsset
) -> None:
    expected = decode_asset(asset)
    rng = np.random.default_rng(7)
    sizes = [2, 3, 5, 8, 13, 34, asset.num_frames]
    with reader_of(make_asset(asset)) as reader:
        for size in [size for size in sizes if size <= asset.num_frames]:
            chosen = sorted(rng.choice(asset.num_frames, size, replace=False).tolist())
            frames = cut_and_decode(reader, chosen, num_threads=2)
            np.testing.assert_array_equal(frames, [expected[i] for i in chosen])


def test_segments_are_one_a_group_of_pictures(make_asset: MakeAsset) -> None:
    with reader_of(make_asset(H264)) as reader:
        segments = cut_segments(reader, np.arange(H264.num_frames))
    assert segments.num_segments == H264.num_frames // GOP_FRAMES
    assert np.diff(segments.local_offsets).tolist() == [GOP_FRAMES] * segments.num_segments


@pytest.mark.parametrize(
    ("asset", "magic"), [(H264, b"ftyp"), (MJPEG_AVI, b"ftyp"), (VP8, b"\x1a\x45\xdf\xa3")]
)
def test_segments_are_mp4_where_it_can_hold_the_codec(
    asset: Asset, magic: bytes, make_asset: MakeAsset
) -> None:
    with reader_of(make_asset(asset)) as reader:
        segments = cut_segments(reader, np.array([5]))
    assert magic in segments.data[:8].tobytes()


@pytest.mark.parametrize("asset", [H264_OPEN_GOP, EDIT_LIST, VP8_HIDDEN, MJPEG_AVI])
def test_file_that_cannot_seek_is_read_from_the_start(
    asset: Asset,
    make_asset: MakeAsset,
    decode_asset: DecodeAsset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PacketReader, "_read_after_seek", lambda *_: None)
    expected = decode_asset(asset)
    with reader_of(make_asset(asset)) as reader:
        frames = cut_and_decode(reader, [3, 15, 20])
    np.testing.assert_array_equal(frames, [expected[i] for i in (3, 15, 20)])


@pytest.mark.parametrize("asset", VIDEOS, ids=lambda asset: asset.name)
def test_later_packets_are_reached_by_seeking(
    asset: Asset, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader_of(make_asset(asset)) as reader:
        monkeypatch.setattr(PacketReader, "_open", lambda _: pytest.fail("read from the start"))
        for i in range(asset.num_frames):
            cut_segments(reader, np.array([i]))


def test_seek_that_lands_elsewhere_is_noticed(
    make_asset: MakeAsset, decode_asset: DecodeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_after_seek = PacketReader._read_after_seek
    results = []

    def seek_too_far(self: PacketReader, timestamp: int, first: int, stop: int) -> object:
        end = int(self.table.pts[-1])
        results.append(read_after_seek(self, end, first, stop))
        return results[-1]

    monkeypatch.setattr(PacketReader, "_read_after_seek", seek_too_far)
    with reader_of(make_asset(H264)) as reader:
        frame = cut_and_decode(reader, [14])[0]
    assert results == [None, None]
    np.testing.assert_array_equal(frame, decode_asset(H264)[14])


def test_file_that_changed_meanwhile_fails(make_asset: MakeAsset, tmp_path: Path) -> None:
    path = tmp_path / "video"
    path.write_bytes(make_asset(H264_TS).read_bytes())
    with reader_of(path) as reader:
        path.write_bytes(make_asset(HEVC_TS).read_bytes())
        with pytest.raises(MediaError, match="packets differ from one reading to the next"):
            cut_segments(reader, np.array([40]))
