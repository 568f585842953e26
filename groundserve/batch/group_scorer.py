"""Everything that is asked of one video: copied, decoded and encoded once, its faults told apart.

A `Scorer`, or an `Answerer` where the rows ask for text, is all that is known of engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from groundserve.answers import AnswerResult
from groundserve.batch.errors import ErrorKind, kind_of
from groundserve.batch.fetch import FetchError, local_file
from groundserve.batch.frame_output import FrameOutput, frame_entries, write_frames
from groundserve.batch.keys import require_unchanged
from groundserve.batch.row import Group
from groundserve.batch.row_options import RowOptions
from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)
from groundserve.fetching import NO_URLS, FetchPolicy
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from groundserve.results import ScoreResult
from groundserve.runtime.deadline import Deadline
from groundserve.scorer import Answerer, Scorer
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from groundserve.storage import RunDirectoryError
from groundserve.triton_messages import is_decoder_death

DEFAULT_DEADLINE_SECONDS = 600.0
"""Longest time of one call of the scorer, and of copying one video."""
HANG_SECONDS = 30.0
"""By how much either may pass its deadline before its process is ended."""


class Source(Protocol):
    """What workers open, which travels to them."""

    @property
    def is_shared(self) -> bool:
        """Whether servers answer: where they do not, that is no sign of a bad video."""

    def open(self, *, num_threads: int, limits: Limits) -> Scorer | Answerer:
        """Open it in this process, to be used as a context."""


class JobError(GroundserveError):
    """No row's fault: the job cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """How rows are scored; small, so that it travels to the workers."""

    source: Source
    engine_id: str
    num_threads: int = 1
    max_queries: int = Limits().max_queries
    """Questions of one call, which has the deadline."""
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    hang_seconds: float = HANG_SECONDS
    span_threshold: float = DEFAULT_SPAN_THRESHOLD
    span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS
    frames: FrameOutput | None = None
    urls: FetchPolicy = NO_URLS

    @property
    def limits(self) -> Limits:
        """Ceilings on a call in this process."""
        usual = Limits()
        return Limits(max_request_seconds=max(usual.max_request_seconds, self.deadline_seconds))

    @property
    def silence_seconds(self) -> float:
        """How long a step may take before its process is ended."""
        return self.deadline_seconds + self.hang_seconds


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One call was answered."""

    options: RowOptions
    result: ScoreResult | AnswerResult


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """Rows have no answer."""

    kind: ErrorKind
    message: str
    options: RowOptions | None = None
    """None: all rows of the group that have no answer."""
    queries: tuple[str, ...] | None = None
    is_asked: bool = True
    """Whether a scorer was asked; False where the video could not be had."""


Outcome = Answered | Unanswered | None
"""None: something that takes time begins."""


def score_group(scorer: Scorer | Answerer, group: Group, work: Work) -> Iterator[Outcome]:
    """Ask all that the rows of a group ask."""
    path = group.place
    try:
        yield None
        deadline = Deadline.after(work.deadline_seconds)
        with local_file(
            group.place, limits=work.limits, deadline=deadline, policy=work.urls
        ) as path:
            outcomes: Iterator[Outcome] = (
                outcome
                for options, queries in group.calls(work.max_queries)
                for outcome in _ask(scorer, group, path, options, queries, work)
            )
            if work.frames is not None:
                outcomes = _with_frames(outcomes, work.frames, group, path, work)
            yield from outcomes
    except FetchError as error:
        yield Unanswered(kind=error.kind, message=str(error), is_asked=False)
    except JobError:
        raise
    except GroundserveError as error:
        is_poison = isinstance(error, UnavailableError) and is_decoder_death(error)
        kind = ErrorKind.WORKER_DIED if is_poison else kind_of(error)
        # A copy has another name each time.
        yield Unanswered(kind=kind, message=str(error).replace(path, group.place))


def _with_frames(
    outcomes: Iterator[Outcome], frames: FrameOutput, group: Group, path: str, work: Work
) -> Iterator[Outcome]:
    """Hold answers back until the images of all of them are written.

    So the video is decoded once for them, and a row that is published has its images.
    """
    answers: list[Answered] = []
    failure: GroundserveError | None = None
    try:
        for outcome in outcomes:
            if isinstance(outcome, Answered):
                answers.append(outcome)
            else:
                yield outcome
    except JobError:
        raise
    except GroundserveError as error:  # what was answered before it stays
        failure = error
    entries = [
        entry
        for answer in answers
        if isinstance(answer.result, ScoreResult)
        for query in answer.result.queries
        for row in group.rows
        if (row.options, row.query) == (answer.options, query.query)
        for entry in frame_entries(frames, row.id, row.video, query, answer.result.frame_indices)
    ]
    if entries:
        yield None
        try:
            write_frames(frames, path, entries, timeout_seconds=work.deadline_seconds)
        except RunDirectoryError as error:
            raise JobError(f"a worker cannot write frames: {error}") from error
        # The images are of a second reading, which may have met with another file.
        require_unchanged(group.place, group.identity)
    yield from answers
    if failure is not None:
        raise failure


def _ask(
    scorer: Scorer | Answerer,
    group: Group,
    path: str,
    options: RowOptions,
    queries: Sequence[str],
    work: Work,
) -> Iterator[Outcome]:
    """Ask some questions; of those that are refused together, the good ones by themselves.

    A question is refused before anything is decoded, so halving costs next to nothing; the video is
    encoded once for all parts, see `EngineSource.open`.
    """
    try:
        yield None
        result = _call(scorer, path, options, queries, work)
        # What was read may not be what the rows' keys say.
        require_unchanged(group.place, group.identity)
        yield from _told(options, result)
    except MediaError:  # the video's fault, not a question's
        raise
    except InvalidRequestError as error:
        if len(queries) == 1:
            yield Unanswered(
                kind=kind_of(error), message=str(error), options=options, queries=tuple(queries)
            )
            return
        middle = len(queries) // 2
        yield from _ask(scorer, group, path, options, queries[:middle], work)
        yield from _ask(scorer, group, path, options, queries[middle:], work)


def _told(options: RowOptions, result: ScoreResult | AnswerResult) -> Iterator[Outcome]:
    """Keep whole answers alone: where one is cut because time was up, another run says more."""
    if isinstance(result, ScoreResult):
        yield Answered(options=options, result=result)
        return
    cut = tuple(one.query for one in result.answers if one.stop_reason == "deadline")
    whole = [one for one in result.answers if one.stop_reason != "deadline"]
    yield Answered(options=options, result=replace(result, answers=whole))
    if cut:
        message = "the time was up before the answer was whole; allow more, or fewer new tokens"
        yield Unanswered(kind=ErrorKind.TIMEOUT, message=message, options=options, queries=cut)


def _call(
    scorer: Scorer | Answerer,
    path: str,
    options: RowOptions,
    queries: Sequence[str],
    work: Work,
) -> ScoreResult | AnswerResult:
    asked: dict[str, Any] = {"timeout_seconds": work.deadline_seconds}
    model: Any = scorer  # `EngineSource.check` has looked at which of the two it is
    if isinstance(options, ScoreOptions):
        call = model.score
        asked |= {
            "span_threshold": work.span_threshold,
            "span_gap_seconds": work.span_gap_seconds,
        }
    else:
        call = model.ask
    result: ScoreResult | AnswerResult
    try:
        result = call(path, list(queries), options, **asked)
    except UnavailableError as error:
        if not is_decoder_death(error):
            raise
        # By a fresh decoder: memory may have run out for all.
        result = call(path, list(queries), options, **asked)
    engine_id = result.info.engine.get("id")
    if engine_id != work.engine_id:
        raise JobError(
            f"a scorer has the engines {engine_id}, and the run is of {work.engine_id}; resume it "
            "with those, or begin another run"
        )
    return result
