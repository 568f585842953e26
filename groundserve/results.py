"""What a scoring request answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from groundserve.arguments import Video
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.result_pictures import Pictured
from groundserve.spans import Span, find_spans
from groundserve.strict_json import is_finite_number, parse_object, shown

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
        known = take_fields(values, _CHECKS)
        facts = {
            name: value
            for name, value in values.items()
            if type(value) is int and name not in _KEYS
        }
        return cls(**known, facts=facts)


class Shown:
    """A dataclass of results: JSON of all it holds, and a `repr` without its arrays' numbers."""

    def __repr__(self) -> str:
        # 32 questions about 512 frames have 33 thousand scores and logits, which would bury all
        # else in a notebook or a log.
        texts = []
        for one in fields(cast(Any, self)):
            value = getattr(self, one.name)
            is_array = isinstance(value, np.ndarray)
            texts.append(
                f"{one.name}={f'{value.dtype} {value.shape}' if is_array else repr(value)}"
            )
        return f"{type(self).__name__}({', '.join(texts)})"

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers by field; what is known of the video key by key."""
        values: dict[str, Any] = {}
        for one in fields(cast(Any, self)):
            plain = _plain(getattr(self, one.name))
            values.update(plain if one.name == "info" else {one.name: plain})
        return values


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class QueryResult(Shown):
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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class VideoResult(Shown, Pictured):
    """What every answer about one video has."""

    video: str
    """The video's name as the caller gave it."""
    info: VideoInfo
    """What is known of the video, and of how it was answered."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), 0-based source ordinals of the sampled frames: increasing, but that of answers in
    text repeats are kept."""
    pts_seconds: NDArray[np.float64]
    """float64 (T,), when each is shown, in seconds from the start of the stream."""

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` gave, as JSON.

        Raises:
            GroundserveError: It is something else.
        """
        info, given = VideoInfo.from_json(text), parse_object(text, "the result")
        try:
            return cls(
                video=given["video"],
                info=info,
                frame_indices=np.array(given["frame_indices"], np.int64),
                pts_seconds=np.array(given["pts_seconds"], np.float64),
                **cls._own_from_json(text, given),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise foreign_answer(f"JSON of another form: {error}") from error

    @staticmethod
    def _own_from_json(text: str | bytes, given: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that one kind of result has."""
        return {}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ScoreResult(VideoResult):
    """One video's answer to one or more questions."""

    queries: list[QueryResult]
    """One entry a question, in the order asked."""
    request_id: str | None = None
    """Under which the server's log knows the request; None where no server was asked."""

    def contact_sheet(self, video: Video | None = None) -> Any:
        """Draw the selected frames of every question, with their times and scores.

        Args:
            video: Path of the file, or its bytes; `self.video` where None.

        Returns:
            A figure of matplotlib.

        Raises:
            MediaError: The file cannot be read.
            MissingExtraError: Matplotlib, Pillow or PyAV is not installed.
        """
        from groundserve.visuals import contact_sheet

        return contact_sheet(self.video if video is None else video, self)

    @staticmethod
    def _own_from_json(text: str | bytes, given: dict[str, Any]) -> dict[str, Any]:
        return {
            "queries": [
                QueryResult(
                    query=one["query"],
                    frame_logits=np.array(one["frame_logits"], np.float32),
                    frame_scores=np.array(one["frame_scores"], np.float32),
                    selected_frames=np.array(one["selected_frames"], np.int64),
                    selected_seconds=np.array(one["selected_seconds"], np.float64),
                    spans=[Span(*span) for span in one["spans"]],
                )
                for one in given["queries"]
            ],
            "request_id": given.get("request_id"),
        }

    @property
    def num_source_frames(self) -> int:
        """As `VideoInfo` has it."""
        return self.info.num_source_frames

    @property
    def fps(self) -> float:
        """As `VideoInfo` has it."""
        return self.info.fps

    @property
    def duration_seconds(self) -> float:
        """As `VideoInfo` has it."""
        return self.info.duration_seconds

    @property
    def num_frames(self) -> int:
        """As `VideoInfo` has it."""
        return self.info.num_frames

    @property
    def grid(self) -> int | None:
        """As `VideoInfo` has it."""
        return self.info.grid

    @property
    def timing_ms(self) -> dict[str, float]:
        """As `VideoInfo` has it."""
        return self.info.timing_ms

    @property
    def engine(self) -> dict[str, Any]:
        """As `VideoInfo` has it."""
        return self.info.engine


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
        video: As `ScoreResult` has it, like the info, the request's id and what is (T,).
        info: Beside the arrays.
        frame_indices: int64 (T,), increasing.
        pts_seconds: float64 (T,).
        frame_logits: float32 (Q, T).
        frame_scores: float32 (Q, T).
        selected_frames: int64 (Q, K'), source ordinals out of `frame_indices`.
        span_threshold: As `groundserve.spans.find_spans` takes it, and the gap.
        span_gap_seconds: Likewise.
        request_id: None where no server was asked.
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


Checks = Mapping[str, tuple[str, Callable[[Any], bool]]]
"""By name of a field what it must hold, in words and as a test."""


def take_fields(given: dict[str, Any], checks: Checks) -> dict[str, Any]:
    """Take the fields of a server's answer out of it; one that is missing is None.

    Raises:
        GroundserveError: One is not what a server of groundserve answers.
    """
    known = {name: given.pop(name, None) for name in checks}
    for name, (rule, is_valid) in checks.items():
        if not is_valid(known[name]):
            raise foreign_answer(f"{name} must be {rule}, got {shown(known[name])}")
    return known


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.to_json() if hasattr(value, "to_json") else value


def is_count(value: Any) -> bool:
    """Tell whether a value of JSON is a whole number from 0 on."""
    return type(value) is int and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_timing(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_finite_number, value.values()))


COUNT = ("a whole number >= 0", is_count)
_NUMBER = ("a finite number", is_finite_number)
_CHECKS: Checks = {
    "num_source_frames": COUNT,
    "fps": _NUMBER,
    "duration_seconds": _NUMBER,
    "num_frames": COUNT,
    "engine": ("an object", lambda value: isinstance(value, dict)),
    "decoders": ("a list of texts", _is_texts),
    "cache_hit": ("true or false", lambda value: isinstance(value, bool)),
    "keyframe_shift_seconds": _NUMBER,
    "video_bytes": COUNT,
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
