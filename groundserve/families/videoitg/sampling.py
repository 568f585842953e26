"""Which frames of a video are scored: the reference's two sampling rules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.options import Sampling


def sample_frames(
    num_source_frames: int,
    fps: float,
    *,
    sampling: Sampling,
    sample_fps: float,
    num_frames: int,
) -> NDArray[np.int64]:
    """Choose the source ordinals to score.

    Both rules take every `frame_stride`-th frame and, where that gives more than `num_frames`,
    keep `num_frames` of the candidates. Ordinals, not seconds, are spaced evenly. `round` is
    Python's: ties go to the even integer.

    Sampling "infer" is rule A, which ends on the last candidate, "eval" rule B, which starts at 0.

    Source: NVlabs/VideoITG fab8b54, `infer.py::get_frame_indices` (rule A) and
    `lmms_eval/models/videoitg.py::get_seq_frames` (rule B).
    """
    # Any stride past the end takes the first frame only; the quotient may be infinite.
    frame_stride = round(min(fps / sample_fps, num_source_frames))
    if sampling == "infer":
        frame_stride = max(1, frame_stride)
    elif frame_stride < 1:
        raise InvalidRequestError(
            f"sample_fps {sample_fps:g} is too high for a video of {fps:g} frames per second: "
            f'sampling "eval" needs sample_fps < {2 * fps:g}; lower it or use sampling "infer"'
        )
    candidates = np.arange(0, num_source_frames, frame_stride, dtype=np.int64)
    if len(candidates) < num_frames:
        return candidates
    # Rule A scales to the end of each of T stretches, rule B to the beginning.
    scale = len(candidates) / num_frames
    if sampling == "infer":
        kept = [round((i + 1) * scale - 1) for i in range(num_frames)]
    else:
        kept = [int(i * scale) for i in range(num_frames)]
    return candidates[kept]


def snap_to_keyframes(
    frame_indices: NDArray[np.int64], is_key: NDArray[np.bool_], pts_seconds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], float]:
    """Move each ordinal, (T,), to the keyframe nearest in time and drop duplicates.

    Of two at the same distance the earlier is taken. Also return the largest shift in seconds.
    """
    keys = np.flatnonzero(is_key)
    if not len(keys):
        raise InvalidRequestError('the video has no keyframes; use seek "exact"')
    # (T,) seconds; below, positions in `keys` of the keyframe after each and the one before.
    wanted = pts_seconds[frame_indices]
    after = np.searchsorted(pts_seconds[keys], wanted).clip(max=len(keys) - 1)
    before = (after - 1).clip(min=0)
    closer_before = wanted - pts_seconds[keys[before]] <= pts_seconds[keys[after]] - wanted
    nearest = keys[np.where(closer_before, before, after)]
    shift = float(np.abs(pts_seconds[nearest] - wanted).max())
    # Sorts, too; T' <= T, since several frames may share a keyframe.
    return np.unique(nearest), shift
