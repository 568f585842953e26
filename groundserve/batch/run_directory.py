"""A directory that holds a run: what it is of, what is done, and who may publish into it.

DIR/run.json                 the fingerprint, in plain words
DIR/attempts/0001.json       made by whoever begins the attempt, which no other can then make
DIR/scores/part-*.parquet    rows with an answer
DIR/errors/part-*.parquet    rows without; a resume takes them back before its first answer
DIR/log/attempt-0001.jsonl   see `groundserve.batch.journal`
DIR/records.jsonl            see `groundserve.batch.records`

An id is never in two files that end in .parquet: one process publishes, of each row one answer, and
errors come when all answers are there and go before another may come.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial

from groundserve.batch.attempts import claim_attempt, require_newest
from groundserve.batch.events import Event, Finished, RowFailed, Said
from groundserve.batch.journal import Journal, read_journal
from groundserve.batch.keys import Fingerprint, request_hash
from groundserve.batch.plan import DoneRow, DoneShard, Plan
from groundserve.batch.records import write_records
from groundserve.batch.shards import (
    ERRORS,
    SCORES,
    Unit,
    encode_rows,
    final_names,
    read_shard,
    shard_name,
)
from groundserve.errors import InvalidRequestError
from groundserve.run_store import RUN_NAME, Run, held_run, require_same
from groundserve.runtime.closing import Closing
from groundserve.storage import PARTIAL_SUFFIX, RunDirectoryError, Storage

FINGERPRINT = "fingerprint"
"""What run.json has it under."""
DAMAGED = ".damaged"
"""What follows .parquet in the name of a file that no longer counts."""
_ERRORS_PER_FILE = 50_000


class RunDirectory(Closing):
    """A run, held by one driver until the end of a `with` block."""

    def __init__(
        self,
        place: str,
        fingerprint: Fingerprint,
        *,
        manifest: str,
        is_resumed: bool,
        note: str | None = None,
    ) -> None:
        """Begin a run in a folder that is empty or missing, or go on with the one that is there.

        Error rows stay until the first answer is published.

        Raises:
            InvalidRequestError: There is a run, and it is not to be resumed, or its fingerprint is
                another one (the message says what differs); or there is something else; or the
                folder cannot be made or written to.
            UnavailableError: Another driver works on it.
        """

        def check(run: Run) -> None:
            if not is_resumed:
                raise InvalidRequestError(
                    f"{place} has a run; go on with --resume, or name another folder"
                )
            before = Fingerprint.from_json(run[FINGERPRINT])
            require_same(place, before.settings, fingerprint.settings)

        self.manifest = manifest
        """Where this attempt has its rows from."""
        self._started = time.time()
        self._num_published = 0
        self._has_taken_back = False
        self._said: list[str] = []
        with ExitStack() as stack:
            storage, run = stack.enter_context(held_run(place, FINGERPRINT, check=check))
            if run is None:
                run = {FINGERPRINT: asdict(fingerprint), "manifest": manifest}
                storage.write(RUN_NAME, json.dumps(run | {"checkpoint_note": note}).encode())
            self._storage = storage
            self._claim = claim_attempt(storage, manifest=manifest, started=self._started)
            for folder in ("", SCORES, ERRORS):
                for name in storage.names(folder):
                    if name.endswith(PARTIAL_SUFFIX):
                        storage.delete(f"{folder}/{name}".lstrip("/"))
            self._journal = Journal(storage, self._claim.number)
            stack.callback(self._journal.close)
            self._held = stack.pop_all()

    @property
    def said(self) -> Sequence[str]:
        """What `done` found and mended, a sentence each."""
        return self._said

    def done(self) -> Iterator[DoneShard]:
        """Yield the rows that have an answer, file by file.

        Files that are damaged are set aside, so that their rows are computed anew; `said` tells of
        them.
        """
        columns = ("id", "row_key", "video", "query", "options")
        for name in final_names(self._storage, SCORES):
            try:
                rows = read_shard(self._storage, name, columns).to_pylist()
            except ValueError as error:
                self._set_aside(name, str(error))
                continue
            done = [
                DoneRow(
                    row["id"],
                    row["row_key"],
                    request_hash(row["video"], row["query"], row["options"]),
                )
                for row in rows
            ]
            yield DoneShard(done, partial(self._set_aside, name))

    def failures(self) -> Iterator[RowFailed]:
        """Yield what failed in earlier attempts, oldest first."""
        for attempt in range(1, self._claim.number):
            yield from _failures(self._storage, attempt)

    def write(self, *happened: Event) -> None:
        """Add lines to the journal; those of what is published come by themselves."""
        self._journal.write(*happened)

    def publish(self, units: Sequence[Unit]) -> list[Event]:
        """Write answers as one file of the final set, and note the rows that failed.

        Returns:
            What the journal says of it.

        Raises:
            RunDirectoryError: A later attempt has begun, or the directory was replaced; or the disk
                is full.
        """
        require_newest(self._storage, self._claim)
        rows = [row for unit in units for row in unit.rows]
        data, sha256, name = b"", "", ""
        if rows:
            self._take_back_errors()
            data = encode_rows(rows)
            sha256 = hashlib.sha256(data).hexdigest()
            name = shard_name(SCORES, sha256)
            self._storage.write(name, data)
        self._num_published += len(rows)
        happened: list[Event] = []
        for unit in units:
            done = unit.published(shard=name, num_bytes=len(data), sha256=sha256)
            happened += [*unit.failures, done]
        self._journal.write(*happened)
        return happened

    def finish(self, plan: Plan) -> Finished:
        """Write the error rows and `records.jsonl`, and the last line of the journal."""
        self._journal.flush()
        plan.mark_failed(_failures(self._storage, self._claim.number))
        failures = plan.failures_by_kind()
        planned = plan.started()
        num_done, num_failed = planned.num_done + self._num_published, sum(failures.values())
        if num_done + num_failed != planned.num_rows:
            raise RunDirectoryError(
                f"{planned.num_rows} rows were planned, {num_done} have an answer and {num_failed} "
                "an error; resume the run"
            )
        require_newest(self._storage, self._claim)
        self._take_back_errors()
        write_records(self._storage, plan)
        errors = plan.errors()
        while part := list(itertools.islice(errors, _ERRORS_PER_FILE)):
            data = encode_rows(part)
            self._storage.write(shard_name(ERRORS, hashlib.sha256(data).hexdigest()), data)
        finished = Finished(
            num_done=num_done,
            num_failed=num_failed,
            failures=failures,
            wall_seconds=time.time() - self._started,
        )
        self._journal.write(finished)
        self._journal.flush()
        return finished

    def close(self) -> None:
        """Let the directory go; without `finish`, as a run that was cut short."""
        self._held.close()

    def _take_back_errors(self) -> None:
        """Let no error row count any more, before one of the rows has an answer."""
        if not self._has_taken_back:
            for name in final_names(self._storage, ERRORS):
                self._storage.delete(name)
            self._has_taken_back = True

    def _set_aside(self, name: str, problem: str) -> None:
        self._storage.move(name, name + DAMAGED)
        message = f"{name} was set aside, its rows are computed anew: {problem}"
        self._said.append(message)
        self._journal.write(Said(message=message))


def _failures(storage: Storage, attempt: int) -> Iterator[RowFailed]:
    for _, event in read_journal(storage, attempt):
        if isinstance(event, RowFailed):
            yield event
