"""What a worker does with a unit: score its videos one after another, and stage one shard.

A `Scorer` is all that it knows of engines, and a receipt is all that it hands back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from groundserve.batch.engines import Source
from groundserve.batch.errors import ErrorKind, kind_of
from groundserve.batch.fetch import FetchError, local_file
from groundserve.batch.plan import Group, Unit
from groundserve.batch.shards import Receipt, ShardWriter, Staging
from groundserve.batch.watchdog import tell_hang, watched
from groundserve.deadline import Deadline
from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from groundserve.results import ScoreResult
from groundserve.scorer import Scorer
from groundserve.triton_messages import is_decoder_death

DEFAULT_DEADLINE_SECONDS = 600.0
"""Longest time of one call of the scorer, and of copying one video."""
HANG_SECONDS = 30.0
"""By how much a call may pass its deadline before its process is ended."""
MAX_UNAVAILABLE = 3
"""Videos in a row that no server took before a job stops: the servers are gone, not the videos."""


class JobError(GroundserveError):
    """No row's fault: the job cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all units of a job have in common; small, so that it travels to the workers."""

    source: Source
    """Opens the scorer."""
    engine_id: str
    """Of the engines that the run directory is bound to."""
    staging: Staging
    """Where shards are written."""
    num_threads: int
    """Of each worker."""
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    """See `DEFAULT_DEADLINE_SECONDS`."""
    hang_seconds: float = HANG_SECONDS
    """See `HANG_SECONDS`."""
    span_threshold: float
    """See `groundserve.spans.find_spans`."""
    span_gap_seconds: float
    """See there."""

    @property
    def limits(self) -> Limits:
        """Ceilings on a call in this process."""
        usual = Limits()
        return Limits(max_request_seconds=max(usual.max_request_seconds, self.deadline_seconds))


class UnitScorer:
    """Scores units in one process; it opens its scorer at the first one."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._limits = work.limits
        self._scorer: Scorer | None = None
        self._num_unavailable = 0

    def score(self, unit: Unit) -> Receipt:
        """Score every row of a unit, as far as it can be, and stage the answers.

        Raises:
            GroundserveError: The job cannot go on: the scorer cannot be opened, it has other
                engines than the run, no server has answered for long, or the shard cannot be
                written.
        """
        writer = ShardWriter(unit)
        for group in unit.groups:
            kind, message = self._score_group(group, writer)
            if kind is not None:
                writer.fail(group, kind, message)
            self._count_unavailable(kind, message)
        return writer.write(self._work.staging)

    def close(self) -> None:
        """Close the scorer."""
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None

    def _score_group(self, group: Group, writer: ShardWriter) -> tuple[ErrorKind | None, str]:
        """Ask all that a group asks; return why the rest of it has no answer, if so."""
        with ExitStack() as stack:
            try:
                with self._watched(group):
                    path = stack.enter_context(
                        local_file(
                            group.place,
                            limits=self._limits,
                            deadline=Deadline.after(self._work.deadline_seconds),
                        )
                    )
                for options, queries in group.calls(self._limits.max_queries):
                    self._ask(group, writer, path, options, queries)
            except FetchError as error:
                return error.kind, str(error)
            except JobError:
                raise
            except GroundserveError as error:
                kind = kind_of(error)
                if isinstance(error, UnavailableError) and is_decoder_death(error):
                    kind = ErrorKind.WORKER_DIED
                return kind, _message(error, path, group)
            except Exception as error:  # noqa: BLE001 - one row's failure, whatever it is
                # Nobody knows in which state it left the scorer.
                self.close()
                return ErrorKind.INTERNAL, f"{type(error).__name__}: {error}"
        return None, ""

    def _ask(
        self,
        group: Group,
        writer: ShardWriter,
        path: str,
        options: ScoreOptions,
        queries: Sequence[str],
    ) -> None:
        """Ask some questions; of those that are refused together, the good ones by themselves.

        A question is refused before anything is decoded, so halving costs next to nothing; the
        video is encoded once for all parts, see `EngineSource.open`.
        """
        try:
            result = self._call(group, path, options, queries)
        except MediaError:  # the video's fault, not a question's
            raise
        except InvalidRequestError as error:
            if len(queries) == 1:
                writer.fail(group, kind_of(error), _message(error, path, group), options, queries)
                return
            middle = len(queries) // 2
            self._ask(group, writer, path, options, queries[:middle])
            self._ask(group, writer, path, options, queries[middle:])
        else:
            writer.add(group, options, result)

    def _call(
        self, group: Group, path: str, options: ScoreOptions, queries: Sequence[str]
    ) -> ScoreResult:
        """Call the scorer, a second time where the video ended its decoder."""
        for is_last in (False, True):
            scorer = self._opened()
            try:
                with self._watched(group):
                    result = scorer.score(
                        path,
                        list(queries),
                        options,
                        span_threshold=self._work.span_threshold,
                        span_gap_seconds=self._work.span_gap_seconds,
                        timeout_seconds=self._work.deadline_seconds,
                    )
            except UnavailableError as error:
                if is_last or not is_decoder_death(error):
                    raise
                continue
            if result.info.engine.get("id") != self._work.engine_id:
                raise JobError(
                    f"a scorer has the engines {result.info.engine.get('id')}, this run is of "
                    f"{self._work.engine_id}: resume it with those, or begin another run"
                )
            return result
        raise AssertionError("the last try returns or raises")

    def _opened(self) -> Scorer:
        if self._scorer is None:
            try:
                self._scorer = self._work.source.open(
                    num_threads=self._work.num_threads, limits=self._limits
                )
            except GroundserveError as error:
                raise JobError(f"a worker cannot open its engines: {error}") from error
        return self._scorer

    def _watched(self, group: Group) -> AbstractContextManager[None]:
        work = self._work
        return watched(
            work.deadline_seconds + work.hang_seconds,
            lambda: tell_hang(work.staging, group),
        )

    def _count_unavailable(self, kind: ErrorKind | None, message: str) -> None:
        is_away = kind is ErrorKind.UNAVAILABLE and self._work.source.is_shared
        self._num_unavailable = self._num_unavailable + 1 if is_away else 0
        if self._num_unavailable == MAX_UNAVAILABLE:
            raise JobError(f"no server took {MAX_UNAVAILABLE} videos in a row: {message}")


def _message(error: Exception, path: str, group: Group) -> str:
    """Return what an error says, without the name of a copy, which is another one each time."""
    return str(error).replace(path, group.place)
