"""What a caller may ask of one request, and the strict JSON it arrives as."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.limits import Limits
from groundserve.strict_json import parse_object, shown

Sampling = Literal["eval", "infer"]
Seek = Literal["exact", "keyframe"]
Selector = Literal["topk", "spread", "min_gap", "inverse_transform"]
Head = Literal["frames", "text"]
"""What a family answers: one logit a frame, or text."""

Task = Literal["moment", "captions", "highlights", "summary", "question", "referring", "chat"]

DEFAULT_NUM_FRAMES = 512
"""Frames of the reference's published numbers, for who does not say how many to score."""

DEFAULT_NEW_TOKENS = 512
"""Tokens of an answer, for who does not say how many it may have."""


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
        _require_count("num_frames", self.num_frames)
        _require_count("top_k", _require_whole("top_k", self.top_k))
        fps = _require_number("sample_fps", self.sample_fps)
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
        _require_at_most("num_frames", self.num_frames, limits.max_num_frames)

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
        return _to_json(self)


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """One request to a family that answers in text, apart from its video and its questions."""

    task: Task = "moment"
    """What is asked; a family refuses those that it does not know."""
    raw: bool = False
    """Ask in the words given, without the wording of the task around them; the rest of the prompt
    stays. Control tokens in them are read as such, as by `control_tokens`."""
    control_tokens: bool = False
    """Read what a question spells out of the model's control tokens, such as "</s>" or "<300>", as
    these tokens, as the references do; a question can then end its turn or begin another's. False:
    it is text."""
    num_frames: int | None = None
    """Ceiling on the sampled frames T, at least 1, where a family does not fix T. A short video
    gives fewer. None: not given."""
    clip_seconds: tuple[float, float] | None = None
    """Start and end of the part of the video that is seen, 0 <= start < end, where a family can; an
    end past the video's means to its end. None: all of it."""
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    """Most tokens of an answer, its end token among them; at least 1."""
    temperature: float = 0.0
    """0 takes the likeliest token each time (greedy); above it, tokens are drawn."""
    top_p: float | None = None
    """Draw among the likeliest tokens whose probabilities reach this, in (0, 1]; among all where
    None. Goes with a temperature above 0."""
    seed: int | None = None
    """Of the draws, in [0, 2**63); a new one, which the answer says, where None. Goes with a
    temperature above 0."""

    def __post_init__(self) -> None:
        _require_choice("task", self.task, get_args(Task))
        for name in ("raw", "control_tokens"):
            if not isinstance(value := getattr(self, name), bool):
                raise InvalidRequestError(f"{name} must be true or false, got {shown(value)}")
        _require_count("num_frames", self.num_frames)
        if self.clip_seconds is not None:
            _require_clip("clip_seconds", self.clip_seconds)
        _require_count("max_new_tokens", _require_whole("max_new_tokens", self.max_new_tokens))
        degree = _require_number("temperature", self.temperature)
        if not 0 <= degree <= sys.float_info.max:
            raise InvalidRequestError(f"temperature must be finite and >= 0, got {shown(degree)}")
        if self.top_p is not None and not 0 < _require_number("top_p", self.top_p) <= 1:
            raise InvalidRequestError(f"top_p must be in (0, 1], got {shown(self.top_p)}")
        if self.seed is not None:
            _require_whole("seed", self.seed)
            if not 0 <= self.seed < 2**63:
                raise InvalidRequestError(f"seed must be in [0, 2**63), got {shown(self.seed)}")
        for name in ("top_p", "seed"):
            if self.temperature == 0 and getattr(self, name) is not None:
                raise InvalidRequestError(
                    f"{name} goes with a temperature above 0; without one nothing is drawn"
                )

    @property
    def reads_control_tokens(self) -> bool:
        """Whether control tokens that a question spells out are read as such."""
        return self.raw or self.control_tokens

    def check(self, limits: Limits) -> None:
        """Refuse what is past a server's ceilings.

        Raises:
            InvalidRequestError: `num_frames` or `max_new_tokens` is above its ceiling.
        """
        _require_at_most("num_frames", self.num_frames, limits.max_num_frames)
        _require_at_most("max_new_tokens", self.max_new_tokens, limits.max_new_tokens)

    def check_known(self, *known: str, family: str) -> None:
        """Refuse what was given and is of no use to a family, so that nothing is ignored.

        Args:
            known: Those of `num_frames` and `clip_seconds` that the family reads.
            family: Its name.

        Raises:
            UnsupportedError: The other has a value.
        """
        for name in ("num_frames", "clip_seconds"):
            if name not in known and getattr(self, name) is not None:
                raise UnsupportedError(f"{family} has no option {name}; leave it out")

    def to_json(self) -> str:
        """Return the JSON object that `parse_answer_options` reads back.

        Raises:
            InvalidRequestError: A number has thousands of digits.
        """
        return _to_json(self)


def parse_options(text: str | bytes, *, limits: Limits) -> ScoreOptions:
    """Read the OPTIONS tensor of head "frames": strict JSON, or empty for all defaults.

    Args:
        text: UTF-8 JSON object whose keys are fields of `ScoreOptions`.
        limits: Ceilings of the server that reads it.

    Raises:
        InvalidRequestError: Not UTF-8, not JSON, not an object, too long, an unknown or repeated
            key, NaN or Infinity, a wrong type, or a value out of range.
    """
    options = ScoreOptions(**_given(text, ScoreOptions, limits=limits))
    options.check(limits)
    return options


def parse_answer_options(text: str | bytes, *, limits: Limits) -> AnswerOptions:
    """Read the OPTIONS tensor of head "text": strict JSON, or empty for all defaults.

    Args:
        text: UTF-8 JSON object whose keys are fields of `AnswerOptions`.
        limits: Ceilings of the server that reads it.

    Raises:
        InvalidRequestError: As `parse_options`.
    """
    given = _given(text, AnswerOptions, limits=limits)
    if isinstance(given.get("clip_seconds"), list):
        given["clip_seconds"] = tuple(given["clip_seconds"])
    options = AnswerOptions(**given)
    options.check(limits)
    return options


def _given(text: str | bytes, kind: type[Any], *, limits: Limits) -> dict[str, Any]:
    """Return the values of a JSON object whose keys are fields of a dataclass."""
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > limits.max_options_bytes:
        raise InvalidRequestError(
            f"OPTIONS must be at most {limits.max_options_bytes} bytes, got {len(raw)}"
        )
    if not raw.strip():
        return {}
    given = parse_object(raw, "OPTIONS")
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequestError(
            f"unknown option {shown(unknown[0])}; known options: {', '.join(known)}"
        )
    # Absent is the default, null a mistake: where a field may be None, its type would let it pass.
    for field in fields(kind):
        if field.default is None and given.get(field.name, field) is None:
            raise InvalidRequestError(f"{field.name} must have a value or be left out, got null")
    return given


def _to_json(options: ScoreOptions | AnswerOptions) -> str:
    # None is left out: absent means the same to every server, of older versions as well.
    given = {name: value for name, value in asdict(options).items() if value is not None}
    try:
        return json.dumps(given)
    except ValueError as error:  # CPython refuses to convert integers of thousands of digits
        raise InvalidRequestError("the options hold a number that is too long") from error


def _require_whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f"{name} must be a whole number, got {shown(value)}")
    return value


def _require_count(name: str, value: object) -> None:
    if value is not None and _require_whole(name, value) < 1:
        raise InvalidRequestError(f"{name} must be >= 1, got {shown(value)}")


def _require_at_most(name: str, value: int | None, most: int) -> None:
    if value is not None and value > most:
        raise InvalidRequestError(f"{name} must be <= {most} on this server, got {shown(value)}")


def _require_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequestError(f"{name} must be a number, got {shown(value)}")
    return value


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
