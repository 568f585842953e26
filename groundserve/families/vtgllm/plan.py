"""Which frames of a video VTG-LLM sees, and the times it is told of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MediaError
from groundserve.families.plans import DEFAULT_LIMITS, VideoPlan, units_of
from groundserve.families.vtgllm.times import spell_places
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions
from groundserve.strict_json import shown


@dataclass(frozen=True, kw_only=True)
class VTGLLMSpec:
    """What serving must know of the model; defaults are those of the published one."""

    num_frames: int = 96
    """Most frames T: the rows of the embedding of frames."""
    image_size: int = 224
    """Side in pixels of the square frames the vision tower takes."""
    tokens_per_frame: int = 32
    """P: queries of the Q-Former, and the tokens of a frame's sentence where it reads one."""
    feature_width: int = 768
    """D, width of the Q-Former's vectors."""
    num_slots: int | None = 256
    """Visual tokens of the decoder, whatever T: all frames' vectors are pooled to so many. None:
    they are not pooled, and the decoder sees T * P."""
    num_time_rows: int | None = 8192
    """Rows of the embedding of seconds; None: the model has none, and knows times as text only."""
    max_tokens: int | None = 3000
    """Visual and text tokens together, the answer's among them."""
    hidden_size: int = 4096
    end_token_id: int = 2
    time_tokens: bool = True
    """Whether times are spelled in tokens of their own, in the prompt and in the answer."""
    frame_text_before: list[int] = field(default_factory=list)
    """BERT's tokens of a frame's sentence, up to its time; none where the Q-Former reads none."""
    frame_text_digits: list[int] = field(default_factory=list)
    """BERT's tokens of the digits 0 to 9 and of the point, of which that time is spelled."""
    frame_text_after: list[int] = field(default_factory=list)
    """BERT's tokens behind that time."""

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES."""
        return self.num_frames * self.tokens_per_frame

    def num_visual_tokens(self, num_frames: int) -> int:
        """Return how many tokens the decoder sees of so many frames."""
        return num_frames * self.tokens_per_frame if self.num_slots is None else self.num_slots


FRAME_TEXT = "FRAME_TEXT_IDS"
"""Input of the vision stage: of each frame the sentence that the Q-Former reads with it."""


def plan_video(
    index: VideoIndex, options: AnswerOptions, spec: VTGLLMSpec, limits: Limits = DEFAULT_LIMITS
) -> VideoPlan:
    """Sample the frames, each a unit of its own.

    `model_seconds` are spelled in the prompt and, rounded, choose rows of the embedding.
    """
    options.check_known("num_frames", family="vtgllm")
    num_frames = _num_frames(options.num_frames, spec, limits)
    frame_indices = sample_frames(index.num_source_frames, num_frames=num_frames)
    return plan_frames(index, frame_indices, spec, num_frames=num_frames)


def plan_frames(
    index: VideoIndex, frame_indices: NDArray[np.int64], spec: VTGLLMSpec, *, num_frames: int
) -> VideoPlan:
    """Plan for frames that were sampled, at most `num_frames` of them."""
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
    """Return float32 (T, L), BERT's tokens of a sentence that names the time of each frame."""
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
