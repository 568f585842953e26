"""What a caller may ask of one request, and the strict JSON it arrives as."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.limits import Limits
from groundserve.strict_json import parse_object, shown

Sampling = Literal["eval", "infer"]
Seek = Literal["exact", "keyframe"]
Selector = Literal["topk", "spread", "min_gap", "inverse_transform"]

DEFAULT_NUM_FRAMES = 512
"""Frames of the reference's published numbers, for who does not say how many to score."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """One scoring request, apart from its video and its questions."""

    num_frames: int | None = None
    """Ceiling on the sampled frames T, at least 1. A short video gives fewer. None: 512, or as many
    as the checkpoint's budget of visual tokens and the server take where that is fewer; the answer
    says how many that were."""
    sample_fps: float = 1.0
    """Frames per second aimed at, above 0. The real rate is a whole stride in source frames."""
    sampling: Sampling = "eval"
    """"eval" is rule B of the reference (the published numbers), "infer" its rule A."""
    seek: Seek = "exact"
    """"exact" decodes the sampled ordinals; "keyframe" moves each to the nearest keyframe's."""
    top_k: int = 32
    """Frames to select, at least 1; all T frames are kept when T is smaller."""
    selector: Selector = "topk"
    """How the frames are chosen; see `groundserve.selection`."""

    def __post_init__(self) -> None:
        if self.num_frames is not None:
            _require_int("num_frames", self.num_frames)
        _require_int("top_k", self.top_k)
        fps = self.sample_fps
        if isinstance(fps, bool) or not isinstance(fps, int | float):
            raise InvalidRequestError(f"sample_fps must be a number, got {shown(fps)}")
        if not 0 < fps <= sys.float_info.max:  # a whole number may be larger and finite
            raise InvalidRequestError(f"sample_fps must be finite and > 0, got {shown(fps)}")
        _require_choice("sampling", self.sampling, get_args(Sampling))
        _require_choice("seek", self.seek, get_args(Seek))
        _require_choice("selector", self.selector, get_args(Selector))

    def check(self, limits: Limits) -> None:
        """Refuse what is past a server's ceilings.

        Raises:
            InvalidRequestError: `num_frames` is above `limits.max_num_frames`. (`top_k` needs no
                ceiling: it never allocates more than T.)
        """
        if self.num_frames is not None and self.num_frames > limits.max_num_frames:
            raise InvalidRequestError(
                f"num_frames must be <= {limits.max_num_frames} on this server, "
                f"got {shown(self.num_frames)}"
            )

    def most_frames(self, *, vision_token_num: int, limits: Limits) -> int:
        """Return the ceiling on the sampled frames T that holds for a checkpoint and a server.

        Args:
            vision_token_num: The checkpoint's budget of visual tokens; a frame needs one at least.
            limits: Ceilings of the server. A `num_frames` above them is refused by `check`.
        """
        if self.num_frames is not None:
            return self.num_frames
        return min(DEFAULT_NUM_FRAMES, vision_token_num, limits.max_num_frames)

    def to_json(self) -> str:
        """Return the JSON object that `parse_options` reads back.

        Raises:
            InvalidRequestError: A number has thousands of digits.
        """
        # None is left out: absent means the same to every server, of older versions as well.
        given = {name: value for name, value in asdict(self).items() if value is not None}
        try:
            return json.dumps(given)
        except ValueError as error:  # CPython refuses to convert integers of thousands of digits
            raise InvalidRequestError("the options hold a number that is too long") from error


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """One request to a family that answers in text, apart from its video and its questions.

    None means not given. What a family has no use for it refuses.
    """

    num_frames: int | None = None
    """Ceiling on the sampled frames T, at least 1, where a family does not fix T. A short video
    gives fewer."""
    clip_seconds: tuple[float, float] | None = None
    """Start and end of the part of the video that is seen, 0 <= start < end; an end past the
    video's means to its end. None: all of it."""

    def __post_init__(self) -> None:
        if self.num_frames is not None:
            _require_int("num_frames", self.num_frames)
        if self.clip_seconds is not None:
            _require_clip("clip_seconds", self.clip_seconds)

    def check_known(self, *known: str, family: str) -> None:
        """Refuse what was given and is of no use to a family, so that nothing is ignored.

        Args:
            known: Fields that the family reads.
            family: Its name.

        Raises:
            UnsupportedError: Another field has a value.
        """
        for field in fields(self):
            if field.name not in known and getattr(self, field.name) is not None:
                raise UnsupportedError(f"{family} has no option {field.name}; leave it out")


def parse_options(text: str | bytes, *, limits: Limits) -> ScoreOptions:
    """Read the OPTIONS tensor: strict JSON, or empty for all defaults.

    Args:
        text: UTF-8 JSON object whose keys are fields of `ScoreOptions`.
        limits: Ceilings of the server that reads it.

    Raises:
        InvalidRequestError: Not UTF-8, not JSON, not an object, too long, an unknown or repeated
            key, NaN or Infinity, a wrong type, or a value out of range.
    """
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > limits.max_options_bytes:
        raise InvalidRequestError(
            f"OPTIONS must be at most {limits.max_options_bytes} bytes, got {len(raw)}"
        )
    if not raw.strip():
        return ScoreOptions()
    value = parse_object(raw, "OPTIONS")
    known = [field.name for field in fields(ScoreOptions)]
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise InvalidRequestError(
            f"unknown option {shown(unknown[0])}; known options: {', '.join(known)}"
        )
    if value.get("num_frames", 1) is None:  # absent is the default, null a mistake
        raise InvalidRequestError("num_frames must be a whole number, got null")
    options = ScoreOptions(**value)
    options.check(limits)
    return options


def _require_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f"{name} must be a whole number, got {shown(value)}")
    if value < 1:
        raise InvalidRequestError(f"{name} must be >= 1, got {shown(value)}")


def _require_clip(name: str, value: object) -> None:
    if (
        not isinstance(value, tuple)
        or len(value) != 2
        or any(isinstance(side, bool) or not isinstance(side, int | float) for side in value)
    ):
        raise InvalidRequestError(f"{name} must be (start, end), two numbers, got {shown(value)}")
    start, end = value
    if not 0 <= start < end <= sys.float_info.max:  # NaN is refused, too
        raise InvalidRequestError(
            f"{name} must be finite with 0 <= start < end, got {shown(value)}"
        )


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:  # an array answers `in` with an array
        raise InvalidRequestError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")
