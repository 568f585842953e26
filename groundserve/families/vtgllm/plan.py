"""Which frames of a video VTG-LLM sees, and the times it is told of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MediaError
from groundserve.families.plans import DEFAULT_LIMITS, VideoPlan, units_of
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.families.vtgllm.times import spell_places
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions
from groundserve.strict_json import shown

FRAME_TEXT = "FRAME_TEXT_IDS"
"""Input of the vision stage: of each frame the sentence that the Q-Former reads with it."""


def plan_video(
    index: VideoIndex, options: AnswerOptions, spec: VTGLLMSpec, limits: Limits = DEFAULT_LIMITS
) -> VideoPlan:
    """Sample the frames, each a unit of its own.

    Returns:
        Its `model_seconds` are spelled in the prompt and, rounded, choose rows of the embedding.
    """
    options.check_known("num_frames", family="vtgllm")
    num_frames = _num_frames(options.num_frames, spec, limits)
    frame_indices = sample_frames(index.num_source_frames, num_frames=num_frames)
    model_seconds = told_seconds(frame_indices, index.average_fps)
    # `rint` and Python's `round` take the same row: of a half, the even one.
    if spec.num_time_rows is not None and np.rint(model_seconds[-1]) >= spec.num_time_rows:
        raise MediaError(
            f"vtgllm knows seconds 0 to {spec.num_time_rows - 1}, and this video's last sampled "
            f"frame is at {model_seconds[-1]:.1f} s; cut the video"
        )
    return VideoPlan(
        index=index,
        num_frames=num_frames,
        frame_indices=frame_indices,
        units=units_of(frame_indices),
        num_visual_tokens=spec.num_visual_tokens(len(frame_indices)),
        inputs={FRAME_TEXT: frame_texts(model_seconds, spec)} if spec.frame_text_before else {},
        model_seconds=model_seconds,
    )


def sample_frames(num_source_frames: int, *, num_frames: int) -> NDArray[np.int64]:
    """Take every N/T-th frame from the first on, T = min(num_frames, N).

    The step is a double, and its multiples are rounded down: now and then that is one less than
    the exact quotient i * N / T gives.

    Returns:
        int64 (T,), strictly increasing.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/processors/video_processor.py::load_video`, which asks
    `numpy.arange` for the multiples below N. For some N, and a T other than 96, that gives one
    more, N - 1 or N, since N / (N / T) comes out above T; here T is what was asked for.
    """
    num_sampled = min(num_frames, num_source_frames)
    step = num_source_frames / num_sampled
    return (np.arange(num_sampled) * step).astype(np.int64)


def told_seconds(frame_indices: NDArray[np.int64], average_fps: float) -> NDArray[np.float64]:
    """Return float64 (T,): ordinal by rate, to a tenth of a second.

    The rounding is Python's, of the double's exact value; numpy's first multiplies by ten.
    """
    return np.array([round(ordinal / average_fps, 1) for ordinal in frame_indices.tolist()])


def frame_texts(model_seconds: NDArray[np.float64], spec: VTGLLMSpec) -> NDArray[np.float32]:
    """Return float32 (T, L), BERT's tokens of a sentence that names the time of each frame.

    Args:
        model_seconds: float64 (T,), of `told_seconds`.
        spec: Of a model whose Q-Former reads such.
    """
    return np.array(
        [
            [
                *spec.frame_text_before,
                *(spec.frame_text_digits[place] for place in spell_places(f"{seconds:.1f}")),
                *spec.frame_text_after,
            ]
            for seconds in model_seconds.tolist()
        ],
        np.float32,
    )


def _num_frames(num_frames: int | None, spec: VTGLLMSpec, limits: Limits) -> int:
    most = min(spec.num_frames, limits.max_num_frames)
    if num_frames is None:
        return most
    if num_frames > most:
        whose = "for this model" if most == spec.num_frames else "on this server"
        raise InvalidRequestError(f"num_frames must be <= {most} {whose}, got {shown(num_frames)}")
    return num_frames
