"""What a scoring request answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.spans import Span, find_spans
from groundserve.strict_json import is_finite_number, parse_object, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PUBLISHED_FACTS = ("grid",)
"""Of `VideoInfo.facts`, those that a result has as an attribute and a server's log as a size."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known of the video and of the work on it: INFO, the answer beside the arrays."""

    num_source_frames: int
    """Frames in the file, counted by demuxing."""
    fps: float
    """Average frame rate announced by the container."""
    duration_seconds: float
    """Presentation time from the first frame to the end of the last."""
    num_frames: int
    """Ceiling on T that held: the one asked for, else the default for this checkpoint."""
    facts: Mapping[str, int] = field(default_factory=dict)
    """What the model's family says beside what all say; in JSON each has a key of its own."""
    engine: dict[str, Any]
    """Identity of the engine directory or checkpoint that answered; JSON values only."""
    decoders: list[str]
    """What decoded the frames, and why not the GPU where it could not."""
    cache_hit: bool
    """Whether the features were known from an earlier request."""
    keyframe_shift_seconds: float
    """How far `seek: keyframe` moved a frame at most; 0 where it moved none."""
    video_bytes: int
    """Size of the file."""
    timing_ms: dict[str, float]
    """Wall milliseconds of each stage."""

    def __post_init__(self) -> None:
        """Refuse what JSON cannot hold, and what would take the place of a key that all have."""
        if hidden := self.facts.keys() & _KEYS:
            raise ValueError(f"a family's facts must have names of their own, got {hidden}")
        for name, value in self.facts.items():
            if type(value) is not int:
                raise ValueError(f"a family's facts must be of type int, got {name} {value!r}")

    @property
    def grid(self) -> int | None:
        """Side g of the token grid: each frame became g*g tokens. None in a family without one."""
        return self.facts.get("grid")

    def to_json(self) -> dict[str, Any]:
        """Return the object that INFO holds."""
        return {
            "num_source_frames": self.num_source_frames,
            "fps": self.fps,
            "duration_seconds": self.duration_seconds,
            "num_frames": self.num_frames,
            **self.facts,
            "engine": self.engine,
            "decoders": self.decoders,
            "cache_hit": self.cache_hit,
            "keyframe_shift_seconds": self.keyframe_shift_seconds,
            "video_bytes": self.video_bytes,
            "timing_ms": self.timing_ms,
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read the INFO of a server, which may be newer than this client.

        Whole numbers under other names than ours are taken for `facts`; whatever else was added is
        left out.

        Raises:
            GroundserveError: It is not what a server of groundserve answers.
        """
        try:
            values = parse_object(text, "INFO")
        except InvalidRequestError as error:  # the server's fault, not the caller's
            raise foreign_answer(str(error)) from error
        known = {name: values.pop(name, None) for name in _CHECKS}
        for name, (rule, is_valid) in _CHECKS.items():
            if not is_valid(known[name]):
                raise foreign_answer(f"{name} must be {rule}, got {shown(known[name])}")
        facts = {
            name: value
            for name, value in values.items()
            if type(value) is int and name not in _KEYS
        }
        return cls(**known, facts=facts)


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryResult:
    """One question's answer. T sampled frames, K' = min(K, T) selected ones."""

    query: str
    """The question as asked, without the prompt around it."""
    frame_logits: NDArray[np.float32]
    """float32 (T,), relevance before the sigmoid."""
    frame_scores: NDArray[np.float32]
    """float32 (T,) in [0, 1], after the sigmoid."""
    selected_frames: NDArray[np.int64]
    """int64 (K',), source ordinals, increasing."""
    selected_seconds: NDArray[np.float64]
    """float64 (K',), when each selected frame is shown."""
    spans: list[Span]
    """Stretches of frames with high scores, in time order."""

    def __repr__(self) -> str:
        return shapes_shown(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "query": self.query,
            "frame_logits": self.frame_logits.tolist(),
            "frame_scores": self.frame_scores.tolist(),
            "selected_frames": self.selected_frames.tolist(),
            "selected_seconds": self.selected_seconds.tolist(),
            "spans": [list(span) for span in self.spans],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreResult:
    """One video's answer to one or more questions."""

    video: str
    """The video's name as the caller gave it."""
    info: VideoInfo
    """What is known of the video, and of how it was answered."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), 0-based source ordinals of the sampled frames, increasing."""
    pts_seconds: NDArray[np.float64]
    """float64 (T,), when each is shown, in seconds from the start of the stream."""
    queries: list[QueryResult]
    """One entry a question, in the order asked."""
    request_id: str | None = None
    """Under which the server's log knows the request; None where no server was asked."""

    @property
    def num_source_frames(self) -> int:
        """See `VideoInfo`."""
        return self.info.num_source_frames

    @property
    def fps(self) -> float:
        """See `VideoInfo`."""
        return self.info.fps

    @property
    def duration_seconds(self) -> float:
        """See `VideoInfo`."""
        return self.info.duration_seconds

    @property
    def num_frames(self) -> int:
        """See `VideoInfo`."""
        return self.info.num_frames

    @property
    def grid(self) -> int | None:
        """See `VideoInfo`."""
        return self.info.grid

    @property
    def timing_ms(self) -> dict[str, float]:
        """See `VideoInfo`."""
        return self.info.timing_ms

    @property
    def engine(self) -> dict[str, Any]:
        """See `VideoInfo`."""
        return self.info.engine

    def __repr__(self) -> str:
        return shapes_shown(self)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON answer of `groundserve score --json`."""
        return {
            "video": self.video,
            **self.info.to_json(),
            "frame_indices": self.frame_indices.tolist(),
            "pts_seconds": self.pts_seconds.tolist(),
            "queries": [query.to_json() for query in self.queries],
            "request_id": self.request_id,
        }


def build_score_result(
    queries: Sequence[str],
    *,
    video: str,
    info: VideoInfo,
    frame_indices: NDArray[np.int64],
    pts_seconds: NDArray[np.float64],
    frame_logits: NDArray[np.float32],
    frame_scores: NDArray[np.float32],
    selected_frames: NDArray[np.int64],
    span_threshold: float,
    span_gap_seconds: float,
    request_id: str | None = None,
) -> ScoreResult:
    """Join what the stages gave into one answer; spans are found here.

    Args:
        queries: Q questions.
        video: What the answer calls the video.
        info: Of the video.
        frame_indices: int64 (T,), increasing.
        pts_seconds: float64 (T,).
        frame_logits: float32 (Q, T).
        frame_scores: float32 (Q, T).
        selected_frames: int64 (Q, K'), source ordinals out of `frame_indices`.
        span_threshold: See `groundserve.spans.find_spans`.
        span_gap_seconds: See `groundserve.spans.find_spans`.
        request_id: See `ScoreResult`.
    """
    results = [
        QueryResult(
            query=query,
            frame_logits=logits,
            frame_scores=scores,
            selected_frames=selected,
            # Selected ordinals are part of `frame_indices`, which increases, so the search finds
            # each exactly.
            selected_seconds=pts_seconds[np.searchsorted(frame_indices, selected)],
            spans=find_spans(
                scores,
                pts_seconds,
                duration_seconds=info.duration_seconds,
                span_threshold=span_threshold,
                span_gap_seconds=span_gap_seconds,
            ),
        )
        for query, logits, scores, selected in zip(
            queries, frame_logits, frame_scores, selected_frames, strict=True
        )
    ]
    return ScoreResult(
        video=video,
        info=info,
        frame_indices=frame_indices,
        pts_seconds=pts_seconds,
        queries=results,
        request_id=request_id,
    )


def foreign_answer(problem: str) -> GroundserveError:
    """Return the error for what no server of groundserve answers."""
    return GroundserveError(
        f"the server does not answer as groundserve does: {problem}; it may be another version's"
    )


def shapes_shown(result: DataclassInstance) -> str:
    """Return a dataclass's `repr` with dtype and shape in place of each array's numbers.

    An answer to 32 questions about 512 frames holds 33 thousand scores and logits, which would bury
    all else in a notebook or a log.
    """
    shown_fields = []
    for one in fields(result):
        value = getattr(result, one.name)
        text = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        shown_fields.append(f"{one.name}={text}")
    return f"{type(result).__name__}({', '.join(shown_fields)})"


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_timing(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_finite_number, value.values()))


_COUNT = ("a whole number >= 0", _is_count)
_NUMBER = ("a finite number", is_finite_number)
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "num_source_frames": _COUNT,
    "fps": _NUMBER,
    "duration_seconds": _NUMBER,
    "num_frames": _COUNT,
    "engine": ("an object", lambda value: isinstance(value, dict)),
    "decoders": ("a list of texts", _is_texts),
    "cache_hit": ("true or false", lambda value: isinstance(value, bool)),
    "keyframe_shift_seconds": _NUMBER,
    "video_bytes": _COUNT,
    "timing_ms": ("an object of finite numbers", _is_timing),
}
"""Of each key of INFO that all families have, what it must hold."""
_KEYS = {
    *_CHECKS,
    *("video", "family", "frame_indices", "pts_seconds", "request_id"),
    *("queries", "answers", "generation"),
}
"""What all answers have in `ScoreResult.to_json` or `AnswerResult.to_json`, INFO's keys among
them."""
