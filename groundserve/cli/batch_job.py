"""What `groundserve batch` is asked to do, and what is refused of it before any work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import typer

from groundserve.batch.attempts import ATTEMPTS
from groundserve.batch.engines import EngineIdentity, EngineSource
from groundserve.batch.frame_output import FrameOutput
from groundserve.batch.group_scorer import Work
from groundserve.batch.journal import LOG
from groundserve.batch.keys import Fingerprint
from groundserve.batch.ray_pool import Workers, uses_external_ray
from groundserve.batch.row_options import RowOptions, check_repeatable
from groundserve.batch.rows import BadRow, Row, read_manifest, rows_of_folder
from groundserve.batch.run_directory import STAGING, require_same
from groundserve.batch.shards import ERRORS, SCORES
from groundserve.batch.status import read_status
from groundserve.batch.storage import open_storage, split_place
from groundserve.cli.batch_status import check_price
from groundserve.engines.manifest import Manifest
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.families import check_asked, takes_query
from groundserve.families.base import TextFamily
from groundserve.limits import Limits
from groundserve.options import Head, ScoreOptions
from groundserve.runtime.cpus import available_cpus
from groundserve.scoring.checkpoint_family import checkpoint_family
from groundserve.spans import check_span_options

MAX_TIMEOUT_SECONDS = 7 * 86_400.0
"""More than any video takes; clocks overflow far above."""

_OF_FRAMES = (
    *("sample_fps", "sampling", "seek", "top_k", "selector", "span_threshold", "span_gap_seconds"),
    *("frames", "frames_format", "frames_quality", "frames_side", "vision_tower"),
)
_OF_TEXT = (
    *("task", "raw", "control_tokens", "clip_seconds", "max_new_tokens"),
    *("family", "part"),
)


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """One call of the command; see its help for each field."""

    manifest: str
    out: str
    queries: tuple[str, ...]
    is_resumed: bool
    source: EngineSource
    options: RowOptions
    span_threshold: float
    span_gap_seconds: float
    hash_content: bool
    workers: Workers
    timeout_seconds: float
    max_attempts: int
    frames: FrameOutput | None
    price_per_hour: float | None

    def check(self) -> Iterator[Row | BadRow]:
        """Refuse what can be seen to be wrong before anything is loaded or started.

        Returns:
            The rows to score.

        Raises:
            InvalidRequestError: A value is out of range, two do not go together, the manifest
                cannot be read, or a place for results cannot be written to or is taken.
            GroundserveError: See `EngineSource.check`.
            MissingExtraError: The extra `batch` is not installed.
        """
        self._check_values()
        self.check_questions(self.source.check())
        _check_extra()
        rows = self._rows()
        self._check_places()
        return rows

    def fingerprint(self, engine: EngineIdentity | Fingerprint) -> Fingerprint:
        """Return what decides the results of the job."""
        return Fingerprint(
            engine_id=engine.engine_id,
            model=engine.model,
            family=engine.family,
            precision=engine.precision,
            defaults=self.options,
            span_threshold=self.span_threshold,
            span_gap_seconds=self.span_gap_seconds,
            hash_content=self.hash_content,
            frames="" if self.frames is None else self.frames.description,
        )

    def work(self, engine_id: str) -> Work:
        """Return how rows of the job are scored."""
        return Work(
            source=self.source,
            engine_id=engine_id,
            num_threads=max(1, int(self.workers.cpus_each)),
            deadline_seconds=self.timeout_seconds,
            span_threshold=self.span_threshold,
            span_gap_seconds=self.span_gap_seconds,
            frames=self.frames,
        )

    def check_questions(self, family: TextFamily[Any] | None) -> None:
        """Refuse what is asked of a folder where no video of it could be asked that."""
        if not self.is_folder:
            return
        options = self.options
        if not self.queries and (isinstance(options, ScoreOptions) or takes_query(options, family)):
            raise InvalidRequestError(
                f"{self.manifest} is a folder: say with --query what to ask about its videos"
            )
        if family is not None and not isinstance(options, ScoreOptions):
            for query in self.queries or ("",):
                check_asked(query, options, family, name="--query")

    @property
    def is_folder(self) -> bool:
        """Whether the manifest is a folder of videos."""
        filesystem, path = split_place(self.manifest)
        return bool(os.path.isdir(path) if filesystem is None else filesystem.isdir(path))

    def _rows(self) -> Iterator[Row | BadRow]:
        if self.is_folder:
            return rows_of_folder(self.manifest, self.queries, defaults=self.options)
        return read_manifest(self.manifest, defaults=self.options)

    def _check_places(self) -> None:
        _check_folder("--out", self.out)
        try:
            status = read_status(self.out)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"--out: {error}") from error
        if status.fingerprint is not None:
            if not self.is_resumed:
                raise InvalidRequestError(
                    f"{self.out} holds a run already; go on with it by --resume, or name another "
                    "folder"
                )
            # All but the engines, which take longer to look at.
            before = Fingerprint.from_json(status.fingerprint)
            require_same(status.place, before, self.fingerprint(before))
        if self.frames is not None:
            _check_folder("--frames", self.frames.directory)
            _check_apart(self.out, self.frames.directory)
            if open_storage(self.frames.directory).names() and not self.is_resumed:
                raise InvalidRequestError(
                    f"--frames must name an empty or new folder, {self.frames.directory} holds "
                    "files; a run that wrote them goes on by --resume"
                )

    def _check_values(self) -> None:
        if not self.source.servers:  # which have limits of their own
            self.options.check(Limits())
        check_repeatable(self.options)
        check_span_options(self.span_threshold, self.span_gap_seconds)
        self._check_workers()
        if self.max_attempts < 1:
            raise InvalidRequestError(f"--max-attempts must be >= 1, got {self.max_attempts}")
        if not 0 < self.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise InvalidRequestError(
                f"--timeout-seconds must be > 0 and at most {MAX_TIMEOUT_SECONDS:g}, got "
                f"{self.timeout_seconds:g}"
            )
        if self.price_per_hour is not None:
            check_price(self.price_per_hour)
        if self.queries and not self.is_folder:
            raise InvalidRequestError(
                "--query goes with a folder of videos; a manifest has its own queries, and "
                f"{self.manifest} is no folder"
            )
        if self.out == "-":
            raise InvalidRequestError("--out must name a folder, got -")

    def _check_workers(self) -> None:
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
    own = [f"{outer}/{name}/" for name in (ATTEMPTS, ERRORS, LOG, SCORES, STAGING)]
    if inner == outer or f"{inner}/".startswith(tuple(own)):
        raise InvalidRequestError(
            f"--frames {frames} is where the run keeps files of its own; name another folder"
        )


def _check_extra() -> None:
    for module in ("ray", "pyarrow", "fsspec", "jinja2", "matplotlib"):
        if find_spec(module) is None:
            raise MissingExtraError("batch", module)


def find_head(
    ctx: typer.Context,
    checkpoint: str | None,
    engines: Path | None,
    *,
    family: str | None,
    parts: Mapping[str, Sequence[str]],
) -> Head:
    """Return the head of what is asked; of servers, which only say it later, `--task` tells."""
    if checkpoint is not None:
        head = checkpoint_family(checkpoint, family=family, parts=parts).head
    elif engines is not None:
        head = Manifest.load(engines).seam.head
    else:
        head = "text" if _is_given(ctx, "task") else "frames"
    others, kind = (_OF_TEXT, "scores") if head == "frames" else (_OF_FRAMES, "answers in text")
    for name in others:
        if _is_given(ctx, name):
            option = name.replace("_", "-")
            what = "an engine that " + ("answers in text" if head == "frames" else "scores frames")
            raise InvalidRequestError(f"--{option} is for {what}, and this one {kind}")
    return head


def _is_given(ctx: typer.Context, name: str) -> bool:
    source: Any = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
