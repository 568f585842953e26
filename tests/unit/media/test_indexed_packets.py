"""A list made of an MP4's index says exactly what demuxing says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundserve.errors import MediaError
from groundserve.media import _reader
from groundserve.media._reader import PacketReader
from tests.media_assets import (
    AUDIO_AND_VIDEO,
    EDIT_LIST,
    H264,
    H264_OPEN_GOP,
    HEVC_OPEN_GOP,
    MPEG4_MP4,
    REFUSED,
    VFR,
    VIDEOS,
    Asset,
)
from tests.media_assets.boxes import content_offset
from tests.media_assets.layouts import CLEAR, UNCLEAR
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]
FAULTS = (av.FFmpegError, ArithmeticError, EOFError, LookupError, MediaError, OSError, ValueError)
ARRAYS = ("pts", "dts", "sizes", "is_key", "is_discard", "is_hidden")
DAMAGED = (H264, H264_OPEN_GOP, EDIT_LIST, HEVC_OPEN_GOP, MPEG4_MP4, AUDIO_AND_VIDEO, VFR)


@pytest.fixture(scope="module")
def demux() -> Callable[[Path], PacketReader | str]:
    """A function that opens a file as if no index were ever clear."""

    def demux(path: Path) -> PacketReader | str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_reader, "list_indexed_packets", lambda *_: None)
            return opened(path)

    return demux


def opened(path: Path) -> PacketReader | str:
    """The reader of a file, closed again, or what its refusal says."""
    try:
        with reader_of(path) as reader:
            return reader
    except FAULTS as error:
        return f"{type(error).__name__}: {error}"


def is_indexed(reader: PacketReader | str) -> bool:
    return not isinstance(reader, str) and reader.table.offsets is not None


def assert_same(found: PacketReader | str, expected: PacketReader | str) -> None:
    if isinstance(found, str) or isinstance(expected, str):
        assert found == expected
        return
    for name in ARRAYS:
        new, old = getattr(found.table, name), getattr(expected.table, name)
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old, err_msg=name)
    for name, value in vars(expected.index).items():
        np.testing.assert_array_equal(getattr(found.index, name), value, err_msg=name)


@pytest.mark.parametrize("asset", [*VIDEOS, *REFUSED, *CLEAR, *UNCLEAR], ids=lambda a: a.name)
def test_equals_demuxing(
    asset: Asset, make_asset: MakeAsset, demux: Callable[[Path], PacketReader | str]
) -> None:
    path = make_asset(asset)
    found = opened(path)
    assert_same(found, demux(path))
    if asset in (*CLEAR, *UNCLEAR):
        assert is_indexed(found) == (asset in CLEAR)


@settings(deadline=None, max_examples=50)
@given(
    which=st.sampled_from(DAMAGED),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    part=st.sampled_from(["moov", "stbl", "samples"]),
)
def test_damaged_tables_and_first_bytes(
    which: Asset,
    edits: list[tuple[float, int]],
    part: str,
    make_asset: MakeAsset,
    scratch: Path,
    demux: Callable[[Path], PacketReader | str],
) -> None:
    data = bytearray(make_asset(which).read_bytes())
    places = places_of(bytes(data), part, make_asset(which))
    for place, byte in edits:
        data[places[int(place * len(places))]] = byte
    scratch.write_bytes(data)
    assert_same(opened(scratch), demux(scratch))


def places_of(data: bytes, part: str, path: Path) -> list[int]:
    """The bytes of a box, or the first 24 of each sample."""
    if part == "samples":
        with reader_of(path) as reader:
            assert reader.table.offsets is not None
            return [int(start) + i for start in reader.table.offsets for i in range(24)]
    start = content_offset(data, "moov")
    end = start + int.from_bytes(data[start - 8 : start - 4], "big") - 8
    return list(range(data.index(b"stbl", start) if part == "stbl" else start, end))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "damaged"
