"""What `Client` and `Pipeline` have in common, for code that takes either."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import AnswerResult
from groundserve.arguments import Video
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import ScoreResult

if TYPE_CHECKING:
    from groundserve.frames import FrameIndices


class _Opened(Protocol):
    """What `Client` and `Pipeline` have in common, whatever they are asked."""

    def frames(
        self, video: Video, frame_indices: FrameIndices, *, longest_side: int | None = None
    ) -> NDArray[np.uint8]:
        """Decode frames of a local video, as `groundserve.frames.read_frames` does."""

    def close(self) -> None:
        """Let go of what it holds, and end the calls that are under way in other threads."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""


class Scorer(_Opened, Protocol):
    """A `Client` or a `Pipeline` of a family that scores frames, for code that takes either.

    Examples:
        >>> def best_second(scorer: Scorer, video: str, query: str) -> float:
        ...     result = scorer.score(video, query, ScoreOptions(top_k=1))
        ...     return float(result.queries[0].selected_seconds[0])
    """

    def score(
        self,
        video: Video,
        queries: str | Sequence[str],
        options: ScoreOptions | None = None,
        *,
        span_threshold: float = ...,
        span_gap_seconds: float = ...,
        timeout_seconds: float | None = None,
    ) -> ScoreResult:
        """Score the frames of one video for one or more questions.

        The arguments are those of `Client.score`; without a timeout the scorer's own holds.

        Raises:
            GroundserveError: As `Client.score` and `Pipeline.score`, each class for the same fault.
        """


class Answerer(_Opened, Protocol):
    """A `Client` or a `Pipeline` of a family that answers in text, for code that takes either.

    Examples:
        >>> def first_moment(answerer: Answerer, video: str, query: str) -> float | None:
        ...     (answer,) = answerer.ask(video, query).answers
        ...     return answer.moments[0].start_seconds if answer.moments else None
    """

    def ask(
        self,
        video: Video,
        queries: str | Sequence[str] = (),
        options: AnswerOptions | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> AnswerResult:
        """Answer one or more questions about one video in text.

        The arguments are those of `Client.ask`; without a timeout the answerer's own holds.

        Raises:
            GroundserveError: As `Client.ask` and `Pipeline.ask`, each class for the same fault.
        """


class Model(Scorer, Answerer, Protocol):
    """A `Client` or a `Pipeline`, whatever it is asked for."""
