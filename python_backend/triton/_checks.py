"""Ceilings of the whole service, for who calls one of its inner models.

Between our own steps none of them is ever passed. All look at shapes before anything is made of a
tensor's content.

Shape letters: T frames, U units, P tokens a unit, D feature width, Q questions, n segments, m
targets of a chunk, s streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import FrameStream, SeenVideo
from groundserve.limits import Limits
from groundserve.manifest import CHUNK_FRAMES, Manifest
from groundserve.media import StreamInfo
from python_backend.arrays import is_finite
from python_backend.triton._tensors import Tensors, require


def check_features(tensors: Tensors, *, manifest: Manifest, limits: Limits) -> None:
    """Check FEATURES (U, P, D) by the rules of the model's family.

    Args:
        tensors: A request's.
        manifest: Of the engine that scores them.
        limits: Ceilings on a request.

    Raises:
        InvalidRequestError: They break a rule.
    """
    require(tensors, "FEATURES")
    manifest.seam.check_features(tensors["FEATURES"].shape, manifest.model, limits)


def check_finite(tensors: Tensors, name: str) -> None:
    """Check that a tensor of a request, on the host or a GPU, holds no NaN and no infinity.

    Raises:
        InvalidRequestError: It holds one.
    """
    if not is_finite(tensors[name]):
        raise InvalidRequestError(f"{name} must be finite")


def check_seen(seen: SeenVideo | None, *, num_units: int, manifest: Manifest) -> SeenVideo:
    """Return what STAGE_INFO says of the video, checked by the rules of the model's family.

    Args:
        seen: What it says.
        num_units: U of FEATURES, checked.
        manifest: Of the engine that answers.

    Raises:
        InvalidRequestError: It says nothing, or breaks a rule.
    """
    if seen is None:
        raise InvalidRequestError("STAGE_INFO must say what the model sees of the video (seen)")
    manifest.text_seam.check_seen(seen, manifest.model)
    streams = manifest.seam.streams(manifest.model)
    num_frames = num_units * (1 + max(place for stream in streams for place in stream.frames))
    if seen.model_seconds is not None and len(seen.model_seconds) != num_frames:
        raise InvalidRequestError(
            f"model_seconds must have a time for each of the {num_frames} frames of FEATURES, "
            f"got {len(seen.model_seconds)}"
        )
    return seen


def check_selection(tensors: Tensors, *, limits: Limits) -> None:
    """Check FRAME_LOGITS (Q, T) against FRAME_INDICES (T,) and PTS_SECONDS (T,).

    Raises:
        InvalidRequestError: They break a rule.
    """
    require(tensors, "FRAME_LOGITS", "FRAME_INDICES", "PTS_SECONDS")
    num_queries, num_frames = tensors["FRAME_LOGITS"].shape
    _check_range("Q of FRAME_LOGITS (Q, T)", num_queries, limits.max_queries)
    _check_range("T of FRAME_LOGITS (Q, T)", num_frames, limits.max_num_frames)
    for name in ("FRAME_INDICES", "PTS_SECONDS"):
        if tensors[name].shape != (num_frames,):
            raise InvalidRequestError(
                f"{name} must have one entry for each of {num_frames} columns of FRAME_LOGITS, "
                f"got {len(tensors[name])}"
            )
    check_finite(tensors, "FRAME_LOGITS")
    frame_indices = tensors["FRAME_INDICES"]
    # Compared, not subtracted: differences of int64 from a caller may overflow.
    if frame_indices[0] < 0 or not (frame_indices[1:] > frame_indices[:-1]).all():
        raise InvalidRequestError("FRAME_INDICES must be >= 0 and increase")


def check_chunk(tensors: Tensors) -> None:
    """Check how many targets and segments a call of `video_decode` has: one chunk's at most.

    Raises:
        InvalidRequestError: There are more, or none.
    """
    require(tensors, "LOCAL_FRAMES", "SEGMENT_OFFSETS", "LOCAL_OFFSETS")
    _check_range("the targets in LOCAL_FRAMES (m,)", len(tensors["LOCAL_FRAMES"]), CHUNK_FRAMES)
    for name in ("SEGMENT_OFFSETS", "LOCAL_OFFSETS"):
        _check_range(f"the segments of {name} (n+1,)", len(tensors[name]) - 1, CHUNK_FRAMES)


def check_shown(tensors: Tensors, *, streams: Sequence[FrameStream]) -> NDArray[np.bool_] | None:
    """Return what SHOWN (m, s) says: which streams show each target, by 1 and 0.

    Args:
        tensors: A request's, whose LOCAL_FRAMES are there.
        streams: Of the vision stage. A single one shows all, and has no such tensor.

    Raises:
        InvalidRequestError: It is of another shape, or a target is shown by no stream.
    """
    if len(streams) == 1:
        return None
    require(tensors, "SHOWN")
    shown: NDArray[np.uint8] = tensors["SHOWN"]
    num_targets = len(tensors["LOCAL_FRAMES"])
    if shown.shape != (num_targets, len(streams)):
        raise InvalidRequestError(
            f"SHOWN must have the shape ({num_targets}, {len(streams)}), a row a target and a "
            f"column a stream, got {shown.shape}"
        )
    if shown.max() > 1 or not shown.any(axis=1).all():
        raise InvalidRequestError("SHOWN must be 0 or 1, and 1 once at least in each row")
    is_shown: NDArray[np.bool_] = shown == 1
    return is_shown


def check_sides(stream: StreamInfo, *, limits: Limits) -> None:
    """Check what STREAM says of a frame's sides.

    Raises:
        InvalidRequestError: One is past `max_side_pixels`.
    """
    for name in ("width", "height"):
        _check_range(f"{name} of STREAM", getattr(stream, name), limits.max_side_pixels)


def _check_range(what: str, number: int, maximum: int) -> None:
    if not 1 <= number <= maximum:
        raise InvalidRequestError(f"{what} must be 1 to {maximum}, got {number}")
