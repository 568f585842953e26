"""What a worker does with a unit: have its videos scored one after another, and stage one shard.

The scorer is in a process of its own, which a video may kill, and which is ended when it hangs: the
worker sees which video that was, and goes on with the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from groundserve.batch.errors import ErrorKind
from groundserve.batch.group_scorer import Answered, Broken, JobError, Ready, Step, Unanswered, Work
from groundserve.batch.program import Program, ProgramDiedError, SilentProgramError
from groundserve.batch.shards import Receipt, ShardWriter
from groundserve.batch.units import Group, Unit

MAX_UNAVAILABLE = 3
"""Videos in a row that no server took before a job stops: the servers are gone, not the videos."""
_PROGRAM = "groundserve.batch._scorer_program"
_OPEN_SECONDS = 1800.0
"""How long engines may take to open; tens of GB come from a slow store in less."""
_END_SECONDS = 5.0
_MAX_TRIES = 2
"""How often a video is tried whose process died."""
_MAX_OPENINGS = 3
"""How often engines are opened where the process dies meanwhile, as of an OOM kill."""


class UnitScorer:
    """Scores units; its scorer is opened at the first one, and again after it died."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._program: Program | None = None
        self._num_unavailable = 0

    def score(self, unit: Unit) -> Receipt:
        """Score every row of a unit, as far as it can be, and stage the answers.

        Raises:
            JobError: The job cannot go on: the scorer cannot be opened, it has other engines than
                the run, or no server has answered for long.
            RunDirectoryError: The shard cannot be written.
        """
        writer = ShardWriter(unit)
        for group in unit.groups:
            self._score_group(group, writer)
        return writer.write(self._work.staging)

    def close(self) -> None:
        """End the scorer's process."""
        if self._program is not None:
            self._program.end(_END_SECONDS)
            self._program = None

    def _score_group(self, group: Group, writer: ShardWriter) -> None:
        for tries_left in reversed(range(_MAX_TRIES)):
            try:
                if self._program is None:
                    self._program = self._opened()
                    writer.start_clock()  # no video took the time that opening did
                for outcome in self._outcomes(self._program, group):
                    if isinstance(outcome, Answered):
                        writer.add(group, outcome.options, outcome.result)
                        self._num_unavailable = 0
                    else:
                        writer.fail(
                            group,
                            outcome.kind,
                            outcome.message,
                            options=outcome.options,
                            queries=outcome.queries,
                        )
                        self._count_unavailable(outcome)
                return
            except SilentProgramError:
                self._kill()
                message = (
                    f"it hung for {self._work.silence_seconds:g} s where no deadline ends it, so "
                    "its process was ended"
                )
                writer.fail(group, ErrorKind.TIMEOUT, message)
                return
            except ProgramDiedError:
                self._kill()
                if not tries_left:
                    message = f"the process that scored it died, {_MAX_TRIES} times in a row"
                    writer.fail(group, ErrorKind.WORKER_DIED, message)

    def _outcomes(self, program: Program, group: Group) -> Iterator[Answered | Unanswered]:
        """Yield what becomes of a group."""
        program.tell(group)
        while True:
            match program.hear(self._work.silence_seconds):
                case Ready():
                    return
                case Broken(message=message):
                    self._kill()
                    yield Unanswered(kind=ErrorKind.INTERNAL, message=message)
                    return
                case JobError() as error:
                    raise error
                case Step():
                    continue
                case outcome:
                    yield outcome

    def _opened(self) -> Program:
        for tries_left in reversed(range(_MAX_OPENINGS)):
            program = Program(_PROGRAM)
            try:
                program.tell(self._work)
                heard = program.hear(_OPEN_SECONDS)
            except (ProgramDiedError, SilentProgramError) as error:
                program.kill()
                is_dead = isinstance(error, ProgramDiedError)
                if is_dead and tries_left:
                    continue
                what = f"died {_MAX_OPENINGS} times in a row" if is_dead else "hung"
                raise JobError(
                    f"the process that opens a worker's engines {what}; Ray's log of the worker "
                    "may say why, and the kernel's, whether memory ran out"
                ) from error
            if isinstance(heard, JobError):
                program.end(_END_SECONDS)
                raise heard
            return program
        raise AssertionError("the last try returns or raises")

    def _kill(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program = None

    def _count_unavailable(self, outcome: Unanswered) -> None:
        is_servers = self._work.source.is_shared and outcome.is_asked
        if outcome.kind is not ErrorKind.UNAVAILABLE or not is_servers:
            return
        self._num_unavailable += 1
        if self._num_unavailable == MAX_UNAVAILABLE:
            raise JobError(f"no server took {MAX_UNAVAILABLE} videos in a row: {outcome.message}")
