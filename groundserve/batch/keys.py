"""What decides a row's result: its video's identity, its key, and the settings of the whole run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from threading import Event
from typing import Any, NamedTuple, Self

from groundserve._version import __version__
from groundserve.batch.row import Row
from groundserve.batch.row_options import RowOptions, options_json, read_options
from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)
from groundserve.fetching import is_url
from groundserve.limits import MIB
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from groundserve.storage import split_place

SCHEMA_VERSION = 1
"""Changes with the columns and the layout of a run directory."""

_CONTENT = "sha256 "
_ETAGS = ("ETag", "etag")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modificationTime", "created")
_NO_PATHS = (errno.ENAMETOOLONG, errno.ELOOP)
"""What a path that no video can be at is refused with; it does not help to try again."""
_REFUSED = (PermissionError, NotADirectoryError, IsADirectoryError, ValueError)
# What `Fingerprint.settings` calls its fields.
_NAMES = {
    "engine_id": "engines (--checkpoint, --engines or --server)",
    "span_threshold": "--span-threshold",
    "span_gap_seconds": "--span-gap-seconds",
    "hash_content": "--hash-content",
    "frames": "--frames",
    "version": "version of groundserve",
    "schema_version": "version of the run directory",
}


class VideoFile(NamedTuple):
    """A video that is there."""

    identity: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Everything that changes results and is one for a whole run."""

    engine_id: str
    model: str
    family: str
    precision: str
    defaults: RowOptions
    """Options of rows that have none of their own."""
    span_threshold: float = DEFAULT_SPAN_THRESHOLD
    span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS
    hash_content: bool = False
    """Whether videos are told by their content, not by path, size and time."""
    frames: str = ""
    """Where the selected frames go as images, and as what, in words; "" where they do not. No
    result follows from it, but a run has the images of all of its rows, or none."""
    contract: Mapping[str, str | float] = field(default_factory=dict)
    """What `engine_id` is a digest of, by name, where users are to be told which part changed."""
    version: str = __version__
    """Decoding, resizing and selecting may differ between two."""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Read it back."""
        try:
            return cls(**{**values, "defaults": read_options(values["defaults"])})
        except (TypeError, KeyError) as error:
            raise InvalidRequestError(
                "the run's fingerprint is of another version of groundserve; use that one"
            ) from error

    @classmethod
    def of(cls, engine: Mapping[str, Any], **settings: Any) -> Self:
        """Return that of engines as `Manifest.identity` tells of them, and of the other fields."""
        return cls(
            engine_id=str(engine["id"]),
            model=str(engine["checkpoint"]),
            family=str(engine["family"]),
            precision=str(engine["precision"]),
            **settings,
        )

    @property
    def settings(self) -> dict[str, object]:
        """All values by the names that users know them by, such as "--top-k"."""
        values = asdict(self)
        options, contract = values.pop("defaults"), values.pop("contract")
        if contract:
            del values["engine_id"]
        found: dict[str, object] = {_NAMES.get(name, name): it for name, it in values.items()}
        found |= {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        found |= contract
        return found

    @cached_property
    def result_parts(self) -> tuple[str | float, ...]:
        """What of it decides the result of a row whose options and video are known."""
        return (
            self.engine_id,
            self.family,
            self.precision,
            float(self.span_threshold),
            float(self.span_gap_seconds),
            self.version,
        )


def find_video(place: str, *, hash_content: bool, is_over: Event | None = None) -> VideoFile:
    """Look at a video without decoding it.

    The identity is "sha256 HEX" with `hash_content`. Without it: of a local file, its absolute
    path, size and time of modification in nanoseconds; of a remote one, its URL and ETag, or where
    the store has none, its URL, size and time of modification.

    A video behind an http or https URL is told by that alone; nothing is fetched yet.

    Once `is_over` is set, nobody waits for the answer: reading ends.

    Raises:
        MediaError: It is missing, no file, or may not be read.
        UnavailableError: The store does not answer.
    """
    if is_url(place):
        if hash_content:
            raise MediaError("--hash-content tells no videos behind URLs: download them first")
        return VideoFile(identity=json.dumps([place]), num_bytes=0)
    filesystem, path = split_place(place)
    try:
        if filesystem is None:
            num_bytes, *parts = _local_facts(path)
        else:
            num_bytes, *parts = _remote_facts(filesystem, path, place)
        if hash_content:
            with open(path, "rb") if filesystem is None else filesystem.open(path, "rb") as file:
                return VideoFile(identity=_content(file, is_over), num_bytes=num_bytes)
        return VideoFile(identity=json.dumps(parts), num_bytes=num_bytes)
    except FileNotFoundError:
        raise MediaError(f"there is no video at {place!r}") from None
    except GroundserveError:
        raise
    # The client of each store has errors of its own.
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        is_final = getattr(error, "errno", None) in _NO_PATHS
        if is_final or isinstance(error, _REFUSED):
            raise MediaError(f"cannot read the video at {place!r}: {reason}") from None
        raise UnavailableError(f"cannot look at the video at {place!r}: {reason}") from error


def require_unchanged(place: str, identity: str) -> None:
    """Refuse a video that is not the one that was planned: its answer would be of two files."""
    hash_content = identity.startswith(_CONTENT)
    if find_video(place, hash_content=hash_content).identity != identity:
        raise MediaError(f"the video at {place!r} has changed since the run was planned")


def row_key(identity: str, row: Row, *, fingerprint: Fingerprint) -> str:
    """Return the hash (64 hexadecimal digits) of all that decides a row's result.

    That is the video's identity, the question, the row's options, the engines with their
    precision, the rules of spans and the version. Rows of equal keys have one result.
    """
    return _hash("row", identity, row.query, options_json(row.options), *fingerprint.result_parts)


def request_hash(video: str, query: str, options: str) -> str:
    """Return a hash of what a row asks, whatever its video file holds."""
    return _hash("request", video, query, options)


def line_id(position: int, *texts: str) -> str:
    """Return the id of a broken line that has none."""
    return _hash("line", position, *texts)


def _hash(*parts: str | float) -> str:
    # JSON keeps the parts apart: no two lists of them have one text.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _local_facts(path: str) -> tuple[Any, ...]:
    """Return a video's size, and what tells it from others."""
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise MediaError(f"the video {path!r} is not a regular file")
    if not os.access(path, os.R_OK):
        raise PermissionError("it may not be read")
    return facts.st_size, path, facts.st_size, facts.st_mtime_ns


def _remote_facts(filesystem: Any, path: str, place: str) -> tuple[Any, ...]:
    facts = filesystem.info(path)
    if facts["type"] != "file":
        raise MediaError(f"the video {place!r} is not a file")
    size = int(facts["size"])
    etag = next((facts[name] for name in _ETAGS if facts.get(name)), None)
    if etag:
        return size, place, str(etag)
    changed = next((facts[name] for name in _TIMES if facts.get(name)), None)
    return size, place, size, changed if isinstance(changed, int) else str(changed)


def _content(file: Any, is_over: Event | None) -> str:
    digest = hashlib.sha256()
    while block := file.read(MIB):
        if is_over is not None and is_over.is_set():
            raise UnavailableError("the command was stopped")
        digest.update(block)
    return f"{_CONTENT}{digest.hexdigest()}"
