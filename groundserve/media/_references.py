"""Find packets that nobody needs: no target, and nothing that is decoded later refers to them.

What decides is the bitstream itself. Flags of the container may be wrong, and would then change
pixels. Whatever is not understood is kept, and so are all packets of the other codecs:

- HEVC: FFmpeg gives up a picture whose reference picture set lists one that is missing, though it
  is not referred to, so the pictures marked as unreferenced are not enough to know.
- VP9: also a frame that refreshes no slot leaves its motion vectors, segmentation and loop filter
  deltas to the next one.
- VP8 likewise keeps probabilities.
- Motion JPEG has key frames only; of MPEG-4 and MPEG-2 there is little left to serve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.media import _av1, _h264

_FINDERS: dict[str, Callable[[Sequence[bytes], bytes], list[bool]]] = {
    "av1": _av1.unreferenced,
    "h264": _h264.unreferenced,
}
"""By FFmpeg's canonical name of the codec."""


def needed_packets(
    packets: Sequence[Packet[VideoStream]], stream: VideoStream, is_target: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Say which packets decoding the targets takes.

    Args:
        packets: k packets in decode order, from one where decoding starts.
        stream: The stream that they were read from.
        is_target: bool (k,): their frames are asked for.

    Returns:
        bool (k,): the targets, and all that is not known to be needless.
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
