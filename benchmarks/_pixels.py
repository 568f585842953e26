"""Are decoded frames those that decoding the whole video gives, or others near them?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 3
"""Frames to each side among which a wrong frame is looked for."""
_GRID = 8
"""Every so many pixels are compared with neighbours; with the target itself, all."""


def decode_in_order(path: Path) -> Iterator[av.VideoFrame]:
    """Yield every frame as PyAV decodes it from the start, with no seek."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        yield from container.decode(video=0)


def compare(
    reference: Path, frame_indices: Sequence[int], found: dict[str, NDArray[np.uint8]]
) -> dict[str, dict[str, Any]]:
    """Compare libraries' frames with those of a video that is decoded in order.

    Args:
        reference: The video, or the part of it that comes again and again: ordinals past its end
            start over.
        frame_indices: m ordinals.
        found: For each library uint8 (m, H, W, 3), RGB.

    Returns:
        For each library: the number of frames and the share of them that are equal in every value;
        of those that are the right frame the largest difference; and "off_by", how many look most
        like the frame so many later (or earlier, below 0). Of frames of another size, "error".
    """
    first = next(decode_in_order(reference))
    size = (first.height, first.width, 3)
    wrong_size = {
        name: {"error": f"frames of {frames.shape[1:]}, not {size}"}
        for name, frames in found.items()
        if frames.shape[1:] != size
    }
    found = {name: frames for name, frames in found.items() if name not in wrong_size}
    num_reference = sum(1 for _ in _packets(reference))
    # Ordinal in the reference -> which targets it is compared with, and its distance from each.
    uses: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, index in enumerate(frame_indices):
        for distance in range(-NEIGHBOURS, NEIGHBOURS + 1):
            uses[(index + distance) % num_reference].append((number, distance))
    # For each library and target the mean difference at each distance.
    misses: dict[str, list[dict[int, float]]] = {
        name: [{} for _ in frame_indices] for name in found
    }
    largest: dict[str, list[int]] = {name: [0] * len(frame_indices) for name in found}
    for ordinal, frame in enumerate(decode_in_order(reference)):
        if ordinal not in uses:
            continue
        pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        for number, distance in uses[ordinal]:
            for name, frames in found.items():
                misses[name][number][distance] = _mean_difference(frames[number], pixels)
                if distance == 0:
                    largest[name][number] = _largest_difference(frames[number], pixels)
    return wrong_size | {name: _report(misses[name], largest[name]) for name in found}


def _packets(path: Path) -> Iterator[object]:
    with av.open(str(path)) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)


def _mean_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    grid = (slice(None, None, _GRID), slice(None, None, _GRID))
    return float(np.abs(one[grid].astype(np.int16) - other[grid]).mean())


def _largest_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    # |a - b| without leaving 8 bits, for whole frames of 1080p.
    return int((np.maximum(one, other) - np.minimum(one, other)).max())


def _report(misses: list[dict[int, float]], largest: list[int]) -> dict[str, Any]:
    # Of equal distances the target's own counts.
    off_by = [
        0 if difference == 0 else min(by_distance, key=lambda n: (by_distance[n], abs(n)))
        for by_distance, difference in zip(misses, largest, strict=True)
    ]
    right = [
        difference for difference, distance in zip(largest, off_by, strict=True) if not distance
    ]
    return {
        "frames": len(largest),
        "share_equal": sum(difference == 0 for difference in largest) / len(largest),
        "largest_difference": max(right, default=None),
        "off_by": {str(n): count for n, count in sorted(Counter(off_by).items()) if n},
    }
