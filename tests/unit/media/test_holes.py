"""Files with holes, which cost no disk: given up early where nothing is found, read where it is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from groundserve.errors import MediaError
from groundserve.limits import GIB, MIB
from groundserve.media import _file
from groundserve.media._file import CountedFile
from tests.media_assets import H264, H264_TS, MJPEG_AVI, VP9, Asset
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]
GIVEN_UP = pytest.raises(MediaError, match="more than 33554432 bytes without a frame of the video")
NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * 184


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that each call read."""
    sizes: list[int] = []
    read = CountedFile.read

    def spy(self: CountedFile, size: int) -> bytes:
        data = read(self, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(CountedFile, "read", spy)
    return sizes


@pytest.mark.parametrize("asset", [VP9, MJPEG_AVI, H264_TS], ids=lambda a: a.name)
def test_hole_behind_a_good_start_is_given_up(
    asset: Asset,
    make_asset: MakeAsset,
    tmp_path: Path,
    count_reads: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_file, "MAX_BYTES_WITHOUT_PACKET", 32 * MIB)
    data = make_asset(asset).read_bytes()
    path = tmp_path / "hole"
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.truncate(15 * GIB)
    # FFmpeg itself stops looking for the next packet of a transport stream.
    expected = pytest.raises(av.FFmpegError) if asset is H264_TS else GIVEN_UP
    with expected, reader_of(path):
        pass
    assert sum(count_reads) < 2 * _file.MAX_BYTES_WITHOUT_PACKET


def test_index_behind_15_gib_of_samples_is_found(make_asset: MakeAsset, tmp_path: Path) -> None:
    """An MP4 as cameras write it, its samples 15 GiB in; a box of some MiB is passed over."""
    data = make_asset(H264).read_bytes()
    places = {data[i + 4 : i + 8]: i for i in top_boxes(data)}
    start, end = places[b"mdat"], places[b"moov"]
    shift = 15 * GIB
    free = 4 * MIB
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.write(data[:start])
        # The samples move to the end of a box that has a size of 64 bits.
        file.write(struct.pack(">I4sQ", 1, b"mdat", shift + end - start))
        file.seek(start + shift)
        file.write(data[start:end])
        file.write(struct.pack(">I4s", free, b"free"))
        file.seek(free - 8, 1)
        file.write(with_chunks_moved(data[end:], shift))
    with reader_of(path) as reader:
        assert reader.index.num_source_frames == H264.num_frames
        first, last = reader.read(0, 1)[0], reader.read(H264.num_frames - 1, H264.num_frames)[0]
        assert bytes(first) in data
        assert bytes(last) in data


def test_null_packets_of_a_broadcast_are_passed_over(make_asset: MakeAsset, tmp_path: Path) -> None:
    """A multiplex of constant rate, 8 MiB of padding after each packet of the video."""
    data = make_asset(H264_TS).read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    path = tmp_path / "padded.ts"
    padding = NULL_PACKET * (8 * MIB // 188)
    with path.open("wb") as file:
        for number, packet in enumerate(packets):
            file.write(packet)
            if number % 40 == 0:
                file.write(padding)
    assert path.stat().st_size > 15 * MIB
    with reader_of(path) as reader:
        assert reader.index.num_source_frames == H264_TS.num_frames


def top_boxes(data: bytes) -> list[int]:
    """Offsets of the boxes of an MP4."""
    offsets, at = [], 0
    while at < len(data):
        offsets.append(at)
        at += int.from_bytes(data[at : at + 4], "big")
    return offsets


def with_chunks_moved(moov: bytes, shift: int) -> bytes:
    """Turn the chunk offsets of a `moov` box of one track into 64 bits, moved."""
    at = moov.index(b"stco") - 4
    size, _, _, count = struct.unpack(">I4sII", moov[at : at + 16])
    offsets = struct.unpack(f">{count}I", moov[at + 16 : at + size])
    new = struct.pack(">I4sII", 16 + 8 * count, b"co64", 0, count)
    new += struct.pack(f">{count}Q", *(offset + shift for offset in offsets))
    grown = len(new) - size
    moved = bytearray(moov[:at] + new + moov[at + size :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        box = moved.index(name) - 4
        old = int.from_bytes(moved[box : box + 4], "big")
        moved[box : box + 4] = (old + grown).to_bytes(4, "big")
    return bytes(moved)
