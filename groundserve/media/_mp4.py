"""The sample tables of an MP4 or MOV track: where each sample lies, how much later it is shown.

Read is what is plain: one sample description, no fragments, no encryption, one edit, every table
there once and as long as it says. All else is left to FFmpeg's own reading of the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.limits import MIB

MAX_SAMPLES = 2**20
"""Of a track: more than 9 hours at 30 frames a second; some 100 bytes each while they are read."""
_MAX_HEADER_BYTES = 32 * MIB
_MAX_BOXES = 256
"""In one box, or in the file."""
# Beside these a file may hold fragments, or an index of fragments.
_TOP_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"pnot"}
# Fragments, encrypted samples, and audio (IAMF) that FFmpeg reads even if nobody wants it.
_FOREIGN = (b"mvex", b"moof", b"trun", b"sinf", b"senc", b"saiz", b"saio", b"iacb")
_TABLES = (b"stsd", b"stsz", b"stz2", b"stsc", b"stco", b"co64", b"ctts", b"stss", b"elst")


class UnclearIndexError(Exception):
    """The index is not one that is certain to say what demuxing would."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTables:
    """The samples of one track in decode order, as stored: edits are not applied."""

    offsets: NDArray[np.int64]
    """int64 (S,): first byte of each in the file."""
    sizes: NDArray[np.int64]
    """int64 (S,): bytes."""
    delays: NDArray[np.int64]
    """int64 (S,): presentation time minus decoding time in the track's time scale; both times as
    FFmpeg gives them, so never below 0 (but for the last two runs of a table)."""


def read_sample_tables(fd: int, track_id: int) -> SampleTables:
    """Read the tables; UnclearIndexError where the file is not plain, or contradicts itself.

    Source: ISO/IEC 14496-12, section 8; what FFmpeg makes of it: libavformat/mov.c of 8.1.
    """
    moov = _read_moov(fd)
    require(not any(name in moov for name in _FOREIGN))
    track = _find_track(memoryview(moov), track_id)
    table = _only(_only(_only(track, b"mdia"), b"minf"), b"stbl")
    tables = {name: _at_most_one(table, name) for name in _TABLES}
    edits = _at_most_one(track, b"edts")
    tables[b"elst"] = _at_most_one(edits, b"elst") if edits else None
    # FFmpeg takes a table wherever it stands, and the last of several.
    stored = bytes(track)
    require(all(stored.count(name) == (box is not None) for name, box in tables.items()))
    _check_edits(tables[b"elst"])
    require(_count(tables[b"stsd"]) == 1)
    # Without a key packet FFmpeg looks for them in the samples.
    require(tables[b"stss"] is None or _count(tables[b"stss"]) > 0)
    sizes = _sizes(tables[b"stsz"])
    return SampleTables(
        offsets=_offsets(sizes, tables[b"stsc"], tables[b"stco"], tables[b"co64"]),
        sizes=sizes,
        delays=_delays(tables[b"ctts"], len(sizes)),
    )


def _read_moov(fd: int) -> bytes:
    """Return the content of the one `moov` box, the boxes of the file followed to its end."""
    file_bytes = os.fstat(fd).st_size
    found = []
    at = 0
    for _ in range(_MAX_BOXES):
        header = os.pread(fd, 16, at)
        require(len(header) >= 8)
        size, header_bytes = int.from_bytes(header[:4], "big"), 8
        if size == 1:
            size, header_bytes = int.from_bytes(header[8:], "big"), 16
        require(header[4:8] in _TOP_BOXES and header_bytes <= size <= file_bytes - at)
        if header[4:8] == b"moov":
            found.append((at + header_bytes, size - header_bytes))
        at += size
        if at == file_bytes:
            break
    require(at == file_bytes and len(found) == 1)
    [(start, size)] = found
    require(size <= _MAX_HEADER_BYTES)
    moov = os.pread(fd, size, start)
    require(len(moov) == size)
    return moov


def _find_track(moov: memoryview, track_id: int) -> memoryview:
    tracks = [box for name, box in _boxes(moov) if name == b"trak"]
    tracks = [track for track in tracks if _track_id(track) == track_id]
    require(len(tracks) == 1)
    return tracks[0]


def _track_id(track: memoryview) -> int:
    header = _only(track, b"tkhd")
    require(len(header) >= 24)
    # Behind the version, and two times of 32 or 64 bits.
    return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


def _check_edits(edits: memoryview | None) -> None:
    """Allow one edit, with an empty one before it: a track that starts late, or is cut."""
    if edits is None:
        return
    num_edits = _count(edits)
    if num_edits == 2:
        entry = ">qq" if edits[0] == 1 else ">Ii"
        require(len(edits) >= 8 + struct.calcsize(entry))
        require(struct.unpack_from(entry, edits, 8)[1] == -1)
    require(num_edits <= 2)


def _sizes(box: memoryview | None) -> NDArray[np.int64]:
    box = _present(box)
    require(len(box) >= 12)
    size, num_samples = struct.unpack_from(">II", box, 4)
    require(0 < num_samples <= MAX_SAMPLES)
    if size:
        return np.full(num_samples, size, np.int64)
    return _numbers(box[12:], ">u4", num_samples)


def _offsets(
    sizes: NDArray[np.int64],
    runs: memoryview | None,
    chunks_32: memoryview | None,
    chunks_64: memoryview | None,
) -> NDArray[np.int64]:
    """Add up the sizes of the samples of a chunk, from where that starts."""
    require((chunks_32 is None) != (chunks_64 is None))
    box, dtype = (chunks_64, ">u8") if chunks_32 is None else (chunks_32, ">u4")
    num_chunks = _count(box)
    # Every chunk has a sample.
    require(0 < num_chunks <= len(sizes))
    chunks = _numbers(_present(box)[8:], dtype, num_chunks)
    num_runs = _count(runs)
    require(0 < num_runs <= num_chunks)
    # (num_runs, 3): first chunk from 1, samples in each chunk, sample description.
    first, in_chunk, description = (
        _numbers(_present(runs)[8:], ">u4", 3 * num_runs).reshape(-1, 3).T
    )
    chunks_in_run = np.diff(first, append=num_chunks + 1)
    require(first[0] == 1 and chunks_in_run.min() > 0 and np.all(description == 1))
    require(in_chunk.min() > 0 and in_chunk.max() <= len(sizes))
    require(int(np.sum(chunks_in_run * in_chunk)) == len(sizes))
    per_chunk = np.repeat(in_chunk, chunks_in_run)
    before = np.cumsum(sizes) - sizes
    first_samples = np.cumsum(per_chunk) - per_chunk
    offsets: NDArray[np.int64] = np.repeat(chunks - before[first_samples], per_chunk) + before
    return offsets


def _delays(box: memoryview | None, num_samples: int) -> NDArray[np.int64]:
    num_runs = 0 if box is None else _count(box)
    if not num_runs:
        return np.zeros(num_samples, np.int64)
    require(num_runs <= num_samples)
    # (num_runs, 2): samples, offset; signed whatever the version says.
    counts, offsets = _numbers(_present(box)[8:], ">i4", 2 * num_runs).reshape(-1, 2).T
    require(counts.min() > 0 and int(counts.sum()) == num_samples)
    require(offsets.min() > -(2**31))
    # FFmpeg moves decoding times back so far that no offset is below 0, the last two runs aside.
    shift = max(0, -int(offsets[:-2].min(initial=0)))
    return np.repeat(offsets + shift, counts)


def _numbers(data: memoryview, dtype: str, count: int) -> NDArray[np.int64]:
    require(len(data) >= count * np.dtype(dtype).itemsize)
    numbers = np.frombuffer(data, dtype, count)
    require(int(numbers.max()) < 2**62)
    return numbers.astype(np.int64)


def _count(box: memoryview | None) -> int:
    """Return the number of entries that a table announces, behind its version and flags."""
    box = _present(box)
    require(len(box) >= 8)
    return int(struct.unpack_from(">I", box, 4)[0])


def _only(box: memoryview, name: bytes) -> memoryview:
    return _present(_at_most_one(box, name))


def _present(box: memoryview | None) -> memoryview:
    if box is None:
        raise UnclearIndexError
    return box


def _at_most_one(box: memoryview, name: bytes) -> memoryview | None:
    found = [content for its_name, content in _boxes(box) if its_name == name]
    require(len(found) <= 1)
    return found[0] if found else None


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield name and content of the boxes that fill a box."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at == len(data):
            return
        require(len(data) - at >= 8)
        size = int.from_bytes(data[at : at + 4], "big")
        require(8 <= size <= len(data) - at)
        yield bytes(data[at + 4 : at + 8]), data[at + 8 : at + size]
        at += size
    require(at == len(data))


def require(condition: bool | np.bool_) -> None:
    """Raise UnclearIndexError unless the condition holds."""
    if not condition:
        raise UnclearIndexError
