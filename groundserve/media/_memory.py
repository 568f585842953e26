"""What reading the largest video that is let in takes of a worker's address space."""

from __future__ import annotations

from groundserve.limits import MIB, Limits

_BLOCK_PIXELS = 64
"""Coded sides, and those of a decoder's buffers, are multiples of 64 at most."""
_IDLE_BYTES = 512 * MIB
"""A worker without a video; 0.33 GiB measured, and its lists of packets."""
_THREAD_BYTES = 72 * MIB
"""A thread's stack and the heap that glibc reserves for it; little of it is ever touched."""
_FILE_COPIES = 4
"""Of the segments of one call, which are held to the size of an upload: their packets, the files
they are written to or read from, what is sent, room."""
_REFERENCE_PICTURES = 16
"""What H.264 and HEVC keep at most for later pictures to refer to."""
_CONVERTED_PICTURES = 3
"""One frame as FFmpeg converts it and as an array, and as decoded while the next one is."""
_BYTES_PER_PIXEL = 3
"""RGB, and 4:2:0 of more than 8 bits."""


def max_coded_pixels(limits: Limits) -> int:
    """Return the pixels of the largest picture let in, both sides rounded up to whole blocks."""
    return _coded_pixels(limits.max_frame_pixels, limits)


def needed_address_space(limits: Limits, *, num_threads: int) -> int:
    """Return the virtual memory of a worker that decodes with so many threads.

    Each thread works on a picture of its own besides those referred to. Other layouts take more a
    pixel (4:4:4 twice as much) and are decoded as far as this goes.
    """
    # Besides the decoders' threads the ones that decoders are called from, and those that convert
    # what comes out: where decoders have several threads each, half as many of either at most.
    num_calling = max(1, num_threads // 2)
    return (
        _IDLE_BYTES
        + (num_threads + 2 * num_calling) * _THREAD_BYTES
        + _FILE_COPIES * limits.max_upload_bytes
        + _pictures_bytes(limits.max_frame_pixels, limits, num_threads=num_threads)
    )


def max_decoders(num_pixels: int, limits: Limits, *, num_threads: int) -> int:
    """Return how many decoders of one thread have room where one decoder of `num_threads` has.

    Each has reference pictures of its own, of `num_pixels` at most: of the largest that are let in
    it is one.
    """
    room = _pictures_bytes(limits.max_frame_pixels, limits, num_threads=num_threads)
    return max(1, room // _pictures_bytes(num_pixels, limits, num_threads=1))


def _pictures_bytes(num_pixels: int, limits: Limits, *, num_threads: int) -> int:
    num_pictures = _REFERENCE_PICTURES + num_threads + _CONVERTED_PICTURES
    return num_pictures * _coded_pixels(num_pixels, limits) * _BYTES_PER_PIXEL


def _coded_pixels(num_pixels: int, limits: Limits) -> int:
    # (w + 63)(h + 63) = w h + 63 (w + h) + 63^2, where w + h is at most twice the longest side.
    return num_pixels + 2 * _BLOCK_PIXELS * limits.max_side_pixels
