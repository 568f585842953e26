"""What `groundserve batch` is asked to do, and what is refused of it before any work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from groundserve._version import __version__
from groundserve.batch.attempts import ATTEMPTS
from groundserve.batch.engines import EngineSource
from groundserve.batch.frame_output import FrameOutput
from groundserve.batch.group_scorer import Work
from groundserve.batch.journal import LOG
from groundserve.batch.keys import SCHEMA_VERSION, Fingerprint
from groundserve.batch.ray_pool import Workers, uses_external_ray
from groundserve.batch.row_options import RowOptions
from groundserve.batch.rows import BadRow, Row, admit, read_manifest, rows_of_folder
from groundserve.batch.shards import ERRORS, SCORES
from groundserve.batch.status import read_status
from groundserve.cli.batch_options import BatchOptions
from groundserve.cli.batch_status import check_price
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.families import check_asked, get_text_family, takes_query
from groundserve.families.base import TextFamily
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from groundserve.run_store import require_same
from groundserve.runtime.cpus import available_cpus
from groundserve.spans import check_span_options
from groundserve.storage import open_storage, split_place

MAX_TIMEOUT_SECONDS = 7 * 86_400.0
"""More than any video takes; clocks overflow far above."""


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """One call of the command: its options, and what they name."""

    given: BatchOptions
    source: EngineSource
    options: RowOptions
    workers: Workers
    frames: FrameOutput | None

    def check(self) -> Iterator[Row | BadRow]:
        """Refuse what is wrong before anything is loaded or started; return the rows to score.

        Raises:
            GroundserveError: A value is out of range, two do not go together, an input cannot be
                read, a place for results is taken, or the extra `batch` is not installed.
        """
        self._check_values()
        self.check_questions(self.source.check())
        for module in ("ray", "pyarrow", "fsspec", "jinja2", "matplotlib"):
            if find_spec(module) is None:
                raise MissingExtraError("batch", module)
        rows = self._rows()
        self._check_places()
        return rows

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results of the job beside its engines, as fields of a `Fingerprint`."""
        return {
            "defaults": self.options,
            "span_threshold": self.given.rules.span_threshold,
            "span_gap_seconds": self.given.rules.span_gap_seconds,
            "hash_content": self.given.hash_content,
            "frames": "" if self.frames is None else self.frames.description,
            "version": __version__,
            "schema_version": SCHEMA_VERSION,
        }

    def work(self, engine_id: str) -> Work:
        """Return how rows of the job are scored."""
        return Work(
            source=self.source,
            engine_id=engine_id,
            num_threads=max(1, int(self.workers.cpus_each)),
            deadline_seconds=self.given.timeout_seconds,
            span_threshold=self.given.rules.span_threshold,
            span_gap_seconds=self.given.rules.span_gap_seconds,
            frames=self.frames,
            urls=self.given.urls.policy(),
        )

    def admit(
        self, rows: Iterable[Row | BadRow], engine: Mapping[str, Any]
    ) -> Iterable[Row | BadRow]:
        """Return the rows, those that these engines cannot be asked as broken ones."""
        if isinstance(self.options, ScoreOptions):
            return rows
        family = get_text_family(engine["family"])  # which servers have said only now
        self.check_questions(family)
        manifest = None if self.is_folder else self.given.manifest
        return (admit(row, family, manifest) for row in rows)

    def check_questions(self, family: TextFamily[Any] | None) -> None:
        """Refuse what is asked of a folder where no video of it could be asked that."""
        if not self.is_folder:
            return
        options, queries = self.options, self.given.query
        if not queries and (isinstance(options, ScoreOptions) or takes_query(options, family)):
            raise InvalidRequestError(
                f"{self.given.manifest} is a folder: say with --query what to ask about its videos"
            )
        if family is not None and not isinstance(options, ScoreOptions):
            for query in queries or ("",):
                check_asked(query, options, family, name="--query")

    @cached_property
    def is_folder(self) -> bool:
        """Whether the manifest is a folder of videos."""
        return is_folder(self.given.manifest)

    def _rows(self) -> Iterator[Row | BadRow]:
        if self.is_folder:
            queries = self.given.query or ()
            return rows_of_folder(self.given.manifest, queries, defaults=self.options)
        return read_manifest(self.given.manifest, defaults=self.options)

    def _check_places(self) -> None:
        out, is_resumed = self.given.out, self.given.resume
        _check_folder("--out", out)
        try:
            status = read_status(out)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"--out: {error}") from error
        if status.fingerprint is not None:
            if not is_resumed:
                raise InvalidRequestError(
                    f"{out} holds a run already; go on with it by --resume, or name another folder"
                )
            # All but the engines, which take longer to look at.
            before = Fingerprint.from_json(status.fingerprint)
            require_same(status.place, before.settings, replace(before, **self.settings).settings)
        if self.frames is not None:
            frames = self.frames.directory
            _check_folder("--frames", frames)
            _check_apart(out, frames)
            if open_storage(frames).names() and not is_resumed:
                raise InvalidRequestError(
                    f"--frames must name an empty or new folder, {frames} holds files; a run that "
                    "wrote them goes on by --resume"
                )

    def _check_values(self) -> None:
        given = self.given
        if not self.source.servers:  # which have limits of their own
            self.options.check(Limits())
        given.urls.policy()
        check_span_options(given.rules.span_threshold, given.rules.span_gap_seconds)
        self._check_workers()
        if given.max_attempts < 1:
            raise InvalidRequestError(f"--max-attempts must be >= 1, got {given.max_attempts}")
        if not 0 < given.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise InvalidRequestError(
                f"--timeout-seconds must be > 0 and at most {MAX_TIMEOUT_SECONDS:g}, got "
                f"{given.timeout_seconds:g}"
            )
        if given.price_per_hour is not None:
            check_price(given.price_per_hour)
        if given.query and not self.is_folder:
            raise InvalidRequestError(
                "--query goes with a folder of videos; a manifest has its own queries, and "
                f"{given.manifest} is no folder"
            )
        if given.out == "-":
            raise InvalidRequestError("--out must name a folder, got -")

    def _check_workers(self) -> None:
        if self.source.starts_vllm and self.workers.gpus_each < 1 < (self.workers.count or 1):
            raise InvalidRequestError(
                f"--workers {self.workers.count}: with engines of the profile vllm each worker "
                "starts a vLLM; take one, give each a GPU (--gpus-per-worker 1), or ask a server "
                "(--server)"
            )
        # What another's Ray has is not known, and with servers workers do little but wait.
        if uses_external_ray() or self.source.servers:
            return
        count, cpus_each = self.workers.count or 1, self.workers.cpus_each
        num_cpus = available_cpus()
        if count * cpus_each > num_cpus:
            fit = int(num_cpus / cpus_each)
            advice = f"--workers {fit} fit" if fit else "lower --cpus-per-worker"
            raise InvalidRequestError(
                f"--workers {count} with --cpus-per-worker {cpus_each:g} need "
                f"{count * cpus_each:g} CPUs, and there are {num_cpus}; {advice}"
            )


def is_folder(place: str) -> bool:
    """Tell whether a place is a folder, of this machine or of a store."""
    filesystem, path = split_place(place)
    return bool(os.path.isdir(path) if filesystem is None else filesystem.isdir(path))


def _check_folder(option: str, place: str) -> None:
    """Refuse a folder of this machine that cannot be written to, or made; nothing is left in it."""
    if not (storage := open_storage(place)).is_local:
        return
    folder = Path(storage.place)
    try:
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        with TemporaryFile(dir=there):  # nothing of it is left, also after a kill
            pass
    except OSError as error:
        raise InvalidRequestError(f"cannot write to {option} {place}: {error.strerror}") from error


def _check_apart(out: str, frames: str) -> None:
    """Refuse images among a run's own files, some of which a run removes."""
    outer, inner = (
        os.path.realpath(storage.place) if storage.is_local else storage.place
        for storage in map(open_storage, (out, frames))
    )
    own = [f"{outer}/{name}/" for name in (ATTEMPTS, ERRORS, LOG, SCORES)]
    if inner == outer or f"{inner}/".startswith(tuple(own)):
        raise InvalidRequestError(
            f"--frames {frames} is where the run keeps files of its own; name another folder"
        )
