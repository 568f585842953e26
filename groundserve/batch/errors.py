"""Why a row has no answer: one kind for each thing that a reader of the errors can do about it."""

from __future__ import annotations

from enum import StrEnum

from groundserve.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)


class ErrorKind(StrEnum):
    """What `error_kind` of an error row may be."""

    INVALID_ROW = "InvalidRow"
    """The line of the manifest is no request; mend the manifest."""
    MISSING = "Missing"
    """There is no such video, or it may not be read."""
    UNREADABLE = "Unreadable"
    """The video cannot be demuxed or decoded, or is past a limit that is seen only then."""
    REFUSED = "Refused"
    """The request breaks a rule of the scorer, which the message names."""
    TOO_LARGE = "TooLarge"
    """The file has more bytes than `Limits.max_file_bytes`."""
    TIMEOUT = "Timeout"
    WORKER_DIED = "WorkerDied"
    """The process that worked on it died, twice, the second time with this video alone."""
    UNAVAILABLE = "Unavailable"
    """The engine or the servers could not answer, for longer than was waited."""
    INTERNAL = "Internal"
    """Anything else; a fault of this program unless the message says otherwise."""


def kind_of(error: BaseException) -> ErrorKind:
    """Return the kind of what a scorer raised."""
    for raised, kind in (
        (MediaError, ErrorKind.UNREADABLE),  # before its base class
        (InvalidRequestError, ErrorKind.REFUSED),
        (DeadlineExceededError, ErrorKind.TIMEOUT),
        (UnavailableError, ErrorKind.UNAVAILABLE),
    ):
        if isinstance(error, raised):
            return kind
    return ErrorKind.INTERNAL
