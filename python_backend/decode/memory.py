"""What DALI takes of a GPU's memory, and how the segments of a chunk are split to keep within it.

Read in DALI 2.4.0, not run: the headers in its wheel, the sources at NVIDIA/DALI 7be7458, and the
machine code of the wheel's `NVDECCache::GetDecoder`, which is as in those sources:

- `VideoDecoderBase::SetupImpl` makes the decoders of all segments of a batch before it decodes one;
  each takes 8 RGB pictures (`FramesDecoderGpu::num_decode_surfaces_`, `InitGpuParser`) and gives
  them back when its segment is done (`RunImpl`), to what DALI has set aside
  (`DeviceBuffer::allocate`), which the process keeps.
- An NVDEC session is opened when a thread begins with a segment (`NVDECCache::GetDecoder`), for as
  many surfaces as the parser asks for, 20 where it names no number, and 2 for output. It is kept
  afterwards, up to 100 a process, and used again for a video of the same size. Looked up is the
  size as coded, remembered the size as shown: where they differ, as for H.264 of 1920 x 1080, which
  is coded as 1920 x 1088, every segment opens a new one. Nothing empties that cache.
- The decoder keeps one picture of the fill color a thread (`WorkerContext::constant_frame`), of the
  largest size so far, and every operator its largest output (`exec_dynamic=False`).
- Resizing keeps float32 between its two passes, for `minibatch_size` frames at a time
  (`SeparableResamplingGPUImpl`, `ResizeOpImplGPU`).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from groundserve.limits import GIB
from groundserve.media import Segments, StreamInfo
from python_backend.decode.nvdec import BIT_DEPTHS, MAX_SIDE_PIXELS

MAX_BATCH_SEGMENTS = 64
"""Segments of a chunk; a chunk has that many frames at most."""
DECODERS_BYTES = 4 * GIB
"""Ceiling of the decoders that exist at once. One of 8192 x 8192 at 8 bits takes 3.6 GiB; of
4096 x 2160 eight fit, which is one for each NVDEC of an H100 and one that waits."""
FRAMES_BYTES = 2 * GIB
"""Ceiling of the frames, at the size they decode to, that come out of one run. 64 of 4096 x 2160
take 1.6 GiB."""
RESIZE_FRAMES = 8
"""Frames that are resized at a time; DALI's default is 32."""

# The numbers of the sources above.
_RGB_SURFACES = 8
_DECODE_SURFACES = 20
_OUTPUT_SURFACES = 2
_CODED_MULTIPLE = 64  # coded sides are multiples of a block, the largest that a codec here has
_SAMPLES_A_PIXEL = 1.5  # 4:2:0


def picture_bytes(width: int, height: int) -> int:
    """Return the bytes of one picture as DALI hands it out: RGB, 8 bits."""
    return width * height * 3


def surfaces_bytes(stream: StreamInfo) -> int:
    """Return the bytes of the RGB pictures that a decoder makes when it is made."""
    return _RGB_SURFACES * picture_bytes(stream.width, stream.height)


def session_bytes(stream: StreamInfo) -> int:
    """Return the bytes of an NVDEC session's surfaces at most; the driver may take more for itself.

    Samples of more than 8 bits are counted as 2 bytes: NVDEC decodes to them and DALI takes 8.
    """
    sample_bytes = 1 if BIT_DEPTHS.get(stream.pixel_format, 8) == 8 else 2
    coded = _rounded_up(stream.width) * _rounded_up(stream.height) * _SAMPLES_A_PIXEL
    shown = stream.width * stream.height * _SAMPLES_A_PIXEL
    return int(_DECODE_SURFACES * coded * sample_bytes + _OUTPUT_SURFACES * shown)


def decoder_bytes(stream: StreamInfo) -> int:
    """Return the bytes of one segment's decoder: RGB pictures and session."""
    return surfaces_bytes(stream) + session_bytes(stream)


def why_too_large(segments: Segments) -> str | None:
    """Return why no split keeps to the ceilings, None where `split` finds one."""
    stream = segments.stream
    size = f"{stream.width} x {stream.height}"
    if decoder_bytes(stream) > DECODERS_BYTES:
        return f"a decoder of {stream.pixel_format} {size} takes more than {DECODERS_BYTES} bytes"
    num_frames = int(np.diff(segments.local_offsets).max())
    if num_frames * picture_bytes(stream.width, stream.height) > FRAMES_BYTES:
        return f"{num_frames} frames of {size} take more than {FRAMES_BYTES} bytes"
    return None


def split(segments: Segments) -> list[slice]:
    """Return runs of neighboring segments, in order, as long as both ceilings allow."""
    decoder = decoder_bytes(segments.stream)
    picture = picture_bytes(segments.stream.width, segments.stream.height)
    parts: list[slice] = []
    begin = num_frames = 0
    for i, count in enumerate(np.diff(segments.local_offsets).tolist()):
        num_frames += count
        # All decoders of a run exist at once, whatever their segments' frames.
        too_many = (i + 1 - begin) * decoder > DECODERS_BYTES
        if too_many or num_frames * picture > FRAMES_BYTES:
            # Segment i opens the next run; it fits alone, see `why_too_large`.
            parts.append(slice(begin, i))
            begin, num_frames = i, count
    return [*parts, slice(begin, segments.num_segments)]


@dataclass(frozen=True, kw_only=True)
class DecodeMemory:
    """What one process that decodes holds of its GPU at most, each field in bytes.

    Not in it: a CUDA context, and NVDEC sessions that are open but not at work, up to 100.
    """

    decoders: int
    """RGB pictures and NVDEC sessions of the segments at work."""
    frames: int
    """Frames at the size they decode to."""
    fill: int
    """The picture of the fill color that each thread keeps."""
    resizing: int
    """What lies between the passes of a resize."""
    resized: int
    """A chunk at the model's size: DALI's, copied out part by part, joined."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(astuple(self))


def decode_memory(*, max_side_pixels: int, image_size: int, num_threads: int) -> DecodeMemory:
    """Return the worst case over all videos that are let in."""
    # Larger videos never reach a GPU: `why_not_on_gpu`.
    side = min(max_side_pixels, MAX_SIDE_PIXELS)
    largest = picture_bytes(side, side)
    return DecodeMemory(
        decoders=DECODERS_BYTES,
        frames=FRAMES_BYTES,
        fill=num_threads * largest,
        # One side is S already, the other is the video's still.
        resizing=RESIZE_FRAMES * image_size * side * 3 * np.dtype(np.float32).itemsize,
        resized=3 * MAX_BATCH_SEGMENTS * picture_bytes(image_size, image_size),
    )


def _rounded_up(side: int) -> int:
    return -(-side // _CODED_MULTIPLE) * _CODED_MULTIPLE
