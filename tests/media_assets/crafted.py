"""Files that lie about themselves or point at others, each described once: made how, refused how.

They are made from the assets of `tests.media_assets` by editing bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.media_assets import (
    FRAGMENTED,
    H264,
    H264_MKV,
    H264_TS,
    MJPEG_AVI,
    MPEG4_AVI,
    VP9,
    Asset,
)
from tests.media_assets.boxes import announcing, content_offset, patch_box, replace_box

UNREADABLE = "the video cannot be read: it is damaged, or not one of mov, mp4, matroska"
NO_FRAMES = "the video has no frames"
TOO_MANY_FRAMES = "at most 5184001 frames"
UNDECODABLE = "does not decode: the video is damaged there"
BILLION = 10**9
_STBL = "moov/trak/mdia/minf/stbl"


@dataclass(frozen=True, kw_only=True)
class Crafted:
    """One file that no muxer writes."""

    name: str
    """What is wrong with it."""
    source: Asset
    """The intact file it is made from, or that it points at."""
    make: Callable[[bytes, Path], bytes]
    """From the source's bytes and path."""
    refusal: str | None = None
    """Pattern of what the refusal says; None where frames must come."""


def _edited(
    name: str, source: Asset, edit: Callable[[bytes], bytes], refusal: str | None = None
) -> Crafted:
    return Crafted(name=name, source=source, make=lambda data, _: edit(data), refusal=refusal)


def _patched(
    name: str, path: str, offset: int, *values: int, refusal: str | None = None
) -> Crafted:
    return _edited(name, H264, lambda data: patch_box(data, path, offset, *values), refusal)


def _reference(name: str, text: str) -> Crafted:
    """A text file that would make FFmpeg open the source, given as {path}."""
    return Crafted(
        name=name,
        source=H264_TS,
        make=lambda _, path: text.format(path=path).encode(),
        refusal=UNREADABLE,
    )


def _plain(name: str, data: bytes) -> Crafted:
    return _edited(name, H264, lambda _: data, UNREADABLE)


def _one_chunk_of(num_samples: int) -> Callable[[bytes], bytes]:
    """Announce samples of one byte, all in the first chunk: an index without a table."""

    def edit(data: bytes) -> bytes:
        data = replace_box(data, f"{_STBL}/ctts", struct.pack(">2I", 0, 0))
        return announcing(data, num_samples)

    return edit


def _without_a_key(data: bytes) -> bytes:
    return replace_box(_one_chunk_of(5 * 10**6)(data), f"{_STBL}/stss", bytes(8))


def _with_vp9_size(data: bytes, first_key: int) -> bytes:
    """Announce 12,000 x 12,000 in key frames: 32 bits, four bits behind each one's sync code."""
    sync_ends = [match.end() for match in re.finditer(b"\x49\x83\x42", data)]
    for start in sync_ends[first_key:]:
        old = int.from_bytes(data[start : start + 5], "big")
        new = old & 0xF00000000F | (11999 << 16 | 11999) << 4
        data = data[:start] + new.to_bytes(5, "big") + data[start + 5 :]
    return data


def _with_external_data(entry: bytes) -> Callable[[bytes], bytes]:
    """Have the track's samples live in another file."""
    content = struct.pack(">2I", 0, 1) + struct.pack(">I", len(entry) + 4) + entry
    return lambda data: replace_box(data, "moov/trak/mdia/minf/dinf/dref", content)


def _alias(path: str) -> bytes:
    """A Macintosh alias with an absolute path (type 2), as FFmpeg reads it."""
    record = bytes(150) + struct.pack(">2h", 2, len(path)) + path.encode() + b"\xff\xff\0\0"
    return b"alis" + bytes(4) + record


def _with_mjpeg_size(data: bytes) -> bytes:
    """Announce 16,384 x 16,384 in every picture."""
    size = struct.pack(">2H", 16384, 16384)
    parts = data.split(b"\xff\xc0\x00\x11\x08")
    return b"\xff\xc0\x00\x11\x08".join([parts[0], *(size + part[4:] for part in parts[1:])])


def _without_avi_index(data: bytes) -> bytes:
    return data[: data.rindex(b"idx1")]


def _with_avi_rate(data: bytes, scale: int, rate: int) -> bytes:
    start = data.index(b"strh") + 8 + 20
    return data[:start] + struct.pack("<2I", scale, rate) + data[start + 8 :]


def _with_avi_frames(data: bytes, num_frames: int) -> bytes:
    number = struct.pack("<I", num_frames)
    for start in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):
        data = data[:start] + number + data[start + 4 :]
    return data


def _with_long_matroska_duration(data: bytes) -> bytes:
    start = data.index(b"\x44\x89\x88") + 3
    return data[:start] + struct.pack(">d", 1e12) + data[start + 8 :]


def _mp4_cut_in_its_data(data: bytes) -> bytes:
    """Put `moov` first and leave out most of what it points at."""
    moov = content_offset(data, "moov") - 8
    return data[:moov][:2000] + data[moov:]


REFERENCES = (
    _reference("ffconcat", "ffconcat version 1.0\nfile '{path}'\n"),
    _reference("m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{path}\n#EXT-X-ENDLIST\n"),
    _reference(
        "m3u8_over_http",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:1/{path}\n#EXT-X-ENDLIST\n",
    ),
    _reference(
        "mpd",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
        '<Representation id="0"><BaseURL>{path}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>",
    ),
    _reference(
        "sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n"
    ),
    _reference("image_pattern", "{path}%03d.jpg\n"),
    _reference("smil", '<smil><body><video src="{path}"/></body></smil>'),
    _reference("ism", "<SmoothStreamingMedia><!-- {path} --></SmoothStreamingMedia>"),
    _reference("lavfi", "movie={path}[out0]"),
    Crafted(
        name="external_url",
        source=H264,
        make=lambda data, path: _with_external_data(b"url " + bytes(4) + str(path).encode())(data),
    ),
    Crafted(
        name="external_alias",
        source=H264,
        make=lambda data, path: _with_external_data(_alias(str(path)))(data),
        refusal="the video has no frames",
    ),
)
"""Files that name another file; what that holds must never come out."""

LIES = (
    _patched("billion_frames_stts", f"{_STBL}/stts", 8, BILLION, refusal=TOO_MANY_FRAMES),
    _patched("billion_frames_stsz", f"{_STBL}/stsz", 8, BILLION, refusal=UNREADABLE),
    _patched("billion_entries_stts", f"{_STBL}/stts", 4, BILLION, refusal="more memory than"),
    _edited("billion_frames", H264, _one_chunk_of(BILLION), TOO_MANY_FRAMES),
    _edited("hundred_million_frames", H264, _one_chunk_of(10**8), TOO_MANY_FRAMES),
    _edited("six_million_frames", H264, _one_chunk_of(6 * 10**6), TOO_MANY_FRAMES),
    _edited("ten_million_frames", H264, _one_chunk_of(10**7), TOO_MANY_FRAMES),
    _edited("five_million_frames", H264, _one_chunk_of(5 * 10**6), UNDECODABLE),
    _edited("five_million_frames_without_a_key", H264, _without_a_key, UNDECODABLE),
    _patched("data_larger_than_the_file", "mdat", -8, 2**31 - 1, refusal=UNREADABLE),
    _patched("empty_movie", "moov", -8, 8),
    _patched("zero_time_scale", "moov/trak/mdia/mdhd", 12, 0),
    _patched("billion_time_scale", "moov/trak/mdia/mdhd", 12, 2**31 - 1),
    _patched("days_announced", "moov/trak/mdia/mdhd", 16, 2**31),
    _patched("edit_past_the_end", "moov/trak/edts/elst", 12, 2**31 - 1, refusal=NO_FRAMES),
    _patched("edit_of_nothing", "moov/trak/edts/elst", 8, 0, refusal=NO_FRAMES),
    _patched("billion_edits", "moov/trak/edts/elst", 4, BILLION),
    _patched("chunk_past_the_end", f"{_STBL}/stco", 8, 2**32 - 1, refusal=NO_FRAMES),
    _edited("huge_matroska_duration", H264_MKV, _with_long_matroska_duration),
    _edited(
        "huge_avi_count",
        MJPEG_AVI,
        lambda data: _with_avi_frames(data, BILLION),
        "max_duration_seconds",
    ),
    _edited("avi_at_0_fps", MJPEG_AVI, lambda data: _with_avi_rate(data, 1, 0)),
    _edited("avi_at_a_billion_fps", MJPEG_AVI, lambda data: _with_avi_rate(data, 1, BILLION)),
    _edited("mjpeg_of_16384_pixels", MJPEG_AVI, _with_mjpeg_size, UNDECODABLE),
    _edited("vp9_of_12000_pixels", VP9, lambda data: _with_vp9_size(data, 0), "max_side_pixels"),
    _edited(
        "vp9_grows_to_12000_pixels", VP9, lambda data: _with_vp9_size(data, 1), "max_side_pixels"
    ),
)
"""Headers that promise what is not there, in the container's own fields."""

ODDITIES = (
    _edited("mjpeg_avi_without_index", MJPEG_AVI, _without_avi_index),
    _edited("mpeg4_avi_without_index", MPEG4_AVI, _without_avi_index),
    _edited("times_go_back", H264_TS, lambda data: data * 2, "presentation time of another"),
    _edited("concatenated_mp4", H264, lambda data: data * 2),
    _edited("mp4_without_most_data", H264, _mp4_cut_in_its_data, UNREADABLE),
    _edited("fragments_only", FRAGMENTED, lambda data: data[data.index(b"moof") - 4 :], UNREADABLE),
    _edited("matroska_in_matroska", VP9, lambda data: data[:200] + data),
    _edited("ts_from_the_middle", H264_TS, lambda data: data[188 * 40 + 17 :], "max_side_pixels"),
    _edited("trailing_zeros", H264, lambda data: data + bytes(10**6)),
)
"""Files that broke on the way."""

GARBAGE = (
    _plain("zeros", bytes(100_000)),
    _plain("noise", np.random.default_rng(0).bytes(100_000)),
    _plain("matroska_magic", b"\x1a\x45\xdf\xa3" + bytes(1000)),
    _plain("avi_magic", b"RIFF\0\0\0\0AVI LIST"),
    _plain("mp4_magic", b"\0\0\0\x18ftypisom" + bytes(1000)),
    _plain("html", b"<!doctype html><html><body>404</body></html>" * 20),
    _plain(
        "deep_boxes", b"".join(struct.pack(">I4s", 800_000 - 8 * i, b"moov") for i in range(10**5))
    ),
    _plain(
        "deep_matroska",
        b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" * 10**4,
    ),
)
"""Not videos at all."""

CRAFTED = (*REFERENCES, *LIES, *ODDITIES, *GARBAGE)
