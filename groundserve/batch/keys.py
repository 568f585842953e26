"""What decides a row's result, as hashes: the video's identity, the row's key, the run's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from groundserve._version import __version__
from groundserve.batch.rows import Row
from groundserve.options import ScoreOptions

SCHEMA_VERSION = 1
"""Of the columns and the layout of a run directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFile:
    """A video that is there."""

    identity: str
    """Content or version of the file, see `find_video`."""
    num_bytes: int
    """Its size."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Everything that changes results and is one for a whole run."""

    engine_id: str
    """Content hash of the engines, as `Manifest.engine_id`."""
    model: str
    """What people call the checkpoint."""
    family: str
    """Model family."""
    precision: str
    """Arithmetic of the engines."""
    defaults: ScoreOptions
    """Options of rows that have none of their own."""
    span_threshold: float
    """See `groundserve.spans.find_spans`."""
    span_gap_seconds: float
    """See `groundserve.spans.find_spans`."""
    hash_content: bool = False
    """Whether videos are told by their content, not by path, size and time."""
    version: str = __version__
    """Of groundserve: decoding, resizing and selecting may differ between two."""
    schema_version: int = SCHEMA_VERSION
    """Of the run directory."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain object."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, values: object) -> Self:
        """Read it back.

        Raises:
            InvalidRequestError: It is none.
        """
        raise NotImplementedError

    def differences(self, other: Fingerprint) -> list[str]:
        """Say in plain words what differs, such as "precision: fp32 before, now int8"."""
        raise NotImplementedError


def find_video(place: str, *, hash_content: bool) -> VideoFile:
    """Look at a video without decoding it.

    The identity is "sha256 HEX" with `hash_content`. Without it: of a local file, its absolute path,
    size and time of modification in nanoseconds; of a remote one, its URL and ETag, or where the
    store has none, its URL, size and time of modification.

    Raises:
        MediaError: It is missing, no file, or may not be read.
        UnavailableError: The store does not answer.
    """
    raise NotImplementedError


def row_key(identity: str, row: Row, *, fingerprint: Fingerprint) -> str:
    """Return the hash (64 hexadecimal digits) of all that decides a row's result.

    That is the video's identity, the question, the row's options, the engines with their
    precision, the rules of spans and the version. Rows of equal keys have one result.
    """
    raise NotImplementedError
