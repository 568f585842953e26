"""A directory that holds a run: what it is of, what is done, and who may publish into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from groundserve.batch.errors import Failure
from groundserve.batch.events import Event, UnitDone
from groundserve.batch.keys import Fingerprint
from groundserve.batch.plan import Plan
from groundserve.batch.shards import Receipt, Staging
from groundserve.errors import GroundserveError


class RunDirectoryError(GroundserveError):
    """The run directory cannot be written to, or no longer belongs to this driver."""


class RunDirectory:
    """A run, held by one driver. Use `create` or `resume`, then a `with` block.

    Example:
        >>> with RunDirectory.create(place, fingerprint, manifest=manifest) as directory:
        ...     with Plan.make(rows, fingerprint=fingerprint, done=directory.done(), ...) as plan:
        ...         for receipt in ...:
        ...             event = directory.publish(receipt)
        ...         directory.finish(plan)
    """

    place: str
    """Path or fsspec URL."""
    attempt: int
    """1, 2, ...: the one this driver has claimed."""
    staging: Staging
    """For the workers."""

    @classmethod
    def create(cls, place: str, fingerprint: Fingerprint, *, manifest: str) -> Self:
        """Begin a run in a folder that is empty or missing.

        Raises:
            InvalidRequestError: There is a run already (name `--resume`), something else, or no
                folder can be made or written to.
        """
        raise NotImplementedError

    @classmethod
    def resume(cls, place: str, fingerprint: Fingerprint, *, manifest: str) -> Self:
        """Go on with a run, or begin it where the folder is empty or missing.

        Shards that are damaged are set aside, and error rows taken back; `said` names them.

        Raises:
            InvalidRequestError: Its fingerprint is another one (the message says what differs),
                something else is in the folder, or it cannot be written to.
            UnavailableError: Another driver works on it.
        """
        raise NotImplementedError

    @property
    def said(self) -> Sequence[str]:
        """What a resume found and mended, a sentence each."""
        raise NotImplementedError

    def done(self) -> Iterator[tuple[str, str]]:
        """Yield (id, row_key) of each row that has an answer."""
        raise NotImplementedError

    def failures(self) -> Iterator[Failure]:
        """Yield what failed in earlier attempts, oldest first."""
        raise NotImplementedError

    def write(self, event: Event) -> None:
        """Add a line to the journal (`Started`, `UnitLost`, `Said`; the others come by themselves)."""
        raise NotImplementedError

    def publish(self, receipt: Receipt) -> UnitDone:
        """Make a staged shard part of the final set, and note the rows that failed.

        Raises:
            RunDirectoryError: A later attempt has begun; the staged file is gone or another one; or
                the disk is full.
        """
        raise NotImplementedError

    def fail(self, failures: Sequence[Failure]) -> None:
        """Note rows that failed without a receipt: their worker died."""
        raise NotImplementedError

    def finish(self, plan: Plan) -> None:
        """Write the error rows and `records.jsonl`, and the last line of the journal.

        Raises:
            RunDirectoryError: As `publish`.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let the directory go; without `finish`, as a run that was cut short."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
