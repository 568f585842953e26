"""Cut target frames out of a video by copying packets: seeking and parallelism for any decoder.

decode order   K0 ─ P ─ b ─ K1 ─ b ─ b ─ P ─ T ─ ...      K key packet, b shown before K1,
                           └────────────────┘             T the target
                           K1 starts it, the b after K1 are left out, T ends it

Of the packets between, those that neither a target nor a later packet needs are left out, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, groupby

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.media import _av1, _h264
from groundserve.media._mux import write_segment
from groundserve.media._packets import PacketTable
from groundserve.media._reader import PacketReader
from groundserve.media.segments import Segments
from groundserve.media.stream import StreamInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """The packets of one segment."""

    positions: NDArray[np.int64]
    """int64 (k,): packets to copy, increasing."""
    ranks: NDArray[np.int64]
    """int64 (k,): the frames of the segment that are shown before each packet's."""
    num_frames: int
    """Frames of the segment: packets that come out of the decoder."""
    local_frames: NDArray[np.int32]
    """int32: ranks of the targets, increasing."""

    def keep(self, is_kept: NDArray[np.bool_]) -> Cut:
        """Return the cut of some of its packets, bool (k,); each other has a frame, no target's."""
        if is_kept.all():
            return self
        kept_ranks = self.ranks[is_kept]
        # Ranks are numbers without a gap: a frame's new one is how many kept ones are below.
        in_time_order = np.sort(kept_ranks)
        return Cut(
            positions=self.positions[is_kept],
            ranks=np.searchsorted(in_time_order, kept_ranks),
            num_frames=len(kept_ranks),
            local_frames=np.searchsorted(in_time_order, self.local_frames).astype(np.int32),
        )


def cut_segments(
    reader: PacketReader, frame_indices: NDArray[np.int64], *, max_bytes: int | None = None
) -> Segments:
    """Do what `OpenVideo.cut` does; one segment per key packet that decoding starts at."""
    table = reader.table
    # Ordinals count frames as they are shown, positions count packets as they are decoded.
    files: list[bytes] = []
    cuts: list[Cut] = []
    for planned in plan_cuts(table, table.frame_positions[frame_indices]):
        file, cut = _copy(reader, planned)
        # The first file is kept whatever its size, else asking for the rest would never get on.
        if files and max_bytes is not None and sum(map(len, files)) + len(file) > max_bytes:
            break
        files.append(file)
        cuts.append(cut)
    return Segments.concatenate(
        files,
        [cut.local_frames for cut in cuts],
        # One decoded frame stands for all segments, so the others are not decoded here.
        stream=StreamInfo(
            **reader.appearance(files[0]), frame_counts=tuple(cut.num_frames for cut in cuts)
        ),
    )


def plan_cuts(table: PacketTable, targets: NDArray[np.int64]) -> list[Cut]:
    """Group targets, int64 (m,) positions in order of presentation, by the packet to start at."""
    starts = [_start_position(table, int(target)) for target in targets]
    return [
        _plan_cut(table, start, np.array([target for _, target in group]))
        for start, group in groupby(zip(starts, targets, strict=True), key=lambda pair: pair[0])
    ]


def _start_position(table: PacketTable, target: int) -> int:
    """Return the last key packet, in decode order, that is shown no later than the target.

    A later one that is shown after the target precedes it in decode order only (open GOP). Without
    any, decoding starts where the file starts, as it would for the whole file.
    """
    keys = np.flatnonzero(table.is_key[: target + 1])
    usable = keys[table.pts[keys] <= table.pts[target]]
    # 0: the first packet, key or not.
    return int(usable[-1]) if len(usable) else 0


def _plan_cut(table: PacketTable, start: int, targets: NDArray[np.int64]) -> Cut:
    positions = np.arange(start, targets.max() + 1)
    if table.is_key[start] and table.pts[start] <= table.pts[targets[0]]:
        # Leading pictures refer to packets before the key; only where a file starts so are they
        # targets, and then decoded as far as they would be with the whole file.
        positions = positions[table.pts[positions] >= table.pts[start]]
    # Packets marked discard stay: others refer to them (a key packet before an edit's start).
    # (k,): positions again, sorted by when they are shown.
    in_time_order = positions[np.argsort(table.pts[positions], kind="stable")]
    comes_out = ~table.is_hidden[in_time_order]
    ranks = np.empty(len(positions), np.int64)
    # An exclusive sum in time order, the frames shown before each packet's, put back in decode
    # order. A hidden packet gets the rank of the frame that follows it.
    ranks[np.searchsorted(positions, in_time_order)] = np.cumsum(comes_out) - comes_out
    local_frames = ranks[np.searchsorted(positions, targets)].astype(np.int32)
    return Cut(
        positions=positions,
        ranks=ranks,
        num_frames=int(np.count_nonzero(comes_out)),
        local_frames=local_frames,
    )


def _copy(reader: PacketReader, planned: Cut) -> tuple[bytes, Cut]:
    """Return the segment, and what of the plan is in it."""
    start = planned.positions[0]
    # Read as one run, for the reader goes forward only; leading pictures are dropped afterwards.
    run = reader.read(int(start), int(planned.positions[-1]) + 1)
    packets = [run[position - start] for position in planned.positions]
    is_target = np.isin(planned.ranks, planned.local_frames)
    is_needed = needed_packets(packets, reader.stream, is_target)
    cut = planned.keep(is_needed)
    return write_segment(list(compress(packets, is_needed)), cut.ranks, reader.stream), cut


_FINDERS: dict[str, Callable[[Sequence[bytes], bytes], list[bool]]] = {
    "av1": _av1.unreferenced,
    "h264": _h264.unreferenced,
}
"""By FFmpeg's canonical name of the codec."""


def needed_packets(
    packets: Sequence[Packet[VideoStream]], stream: VideoStream, is_target: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Say which packets the targets, bool (k,), need: all that are not known to be needless.

    Of others no target is made, and nothing that is decoded later refers to them. The bitstream
    itself decides: flags of the container may be wrong, and would then change pixels. Whatever is
    not understood is kept, and so are all packets of the other codecs:

    - HEVC: FFmpeg gives up a picture whose reference picture set lists one that is missing, though
      it is not referred to, so the pictures marked as unreferenced are not enough to know.
    - VP9: also a frame that refreshes no slot leaves its motion vectors, segmentation and loop
      filter deltas to the next one. VP8 likewise keeps probabilities.
    - Motion JPEG has key frames only; of MPEG-4 and MPEG-2 there is little left to serve.

    The k packets are in decode order, from one where decoding starts.
    """
    codec = stream.codec_context
    find = _FINDERS.get(codec.codec.canonical_name)
    # Parameters that a packet brings beside its data are not looked into.
    if find is None or any(packet.has_sidedata("new_extradata") for packet in packets):
        return np.ones_like(is_target)
    try:
        is_unreferenced = find([bytes(packet) for packet in packets], codec.extradata or b"")
    except ValueError:
        return np.ones_like(is_target)
    return is_target | ~np.array(is_unreferenced)
