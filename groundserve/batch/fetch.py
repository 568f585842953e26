"""A video as a local file: itself, or a copy of what lies in an object store or behind a URL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

from groundserve.batch.errors import ErrorKind
from groundserve.errors import DeadlineExceededError
from groundserve.fetching import NO_URLS, FetchPolicy, Reason, fetch_file, is_url
from groundserve.fetching import FetchError as UrlError
from groundserve.limits import MIB, Limits
from groundserve.runtime.deadline import Deadline
from groundserve.storage import split_place

_KINDS: dict[Reason, ErrorKind] = {
    "refused": ErrorKind.REFUSED,
    "unreachable": ErrorKind.UNAVAILABLE,
    "too_large": ErrorKind.TOO_LARGE,
    "too_slow": ErrorKind.TIMEOUT,
}


class FetchError(Exception):
    """A video that cannot be had."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def local_file(
    place: str, *, limits: Limits, deadline: Deadline, policy: FetchPolicy = NO_URLS
) -> Iterator[str]:
    """Yield the path of a video; a copy lasts as long as the block.

    A copy takes the disk of the temporary folder (TMPDIR), at most `limits.max_file_bytes`.

    Raises:
        FetchError: It is missing, may not be read, is too large, or the store does not answer.
        DeadlineExceededError: Copying took too long.
    """
    if is_url(place):
        with tempfile.NamedTemporaryFile(prefix="groundserve-video-") as file:
            try:
                seconds = min(policy.max_seconds, deadline.remaining_seconds())
                fetch_file(place, file, replace(policy, max_seconds=seconds))
            except UrlError as error:
                raise FetchError(_KINDS[error.reason], str(error)) from None
            yield file.name
        return
    filesystem, path = split_place(place)
    gone = FetchError(ErrorKind.MISSING, f"there is no file {place!r} any more")
    if filesystem is None:
        if not os.path.exists(path):
            raise gone
        yield path
        return
    # Its ending tells nobody anything: what a file is, is seen from its content.
    with tempfile.NamedTemporaryFile(prefix="groundserve-video-") as file:
        try:
            _copy(filesystem, path, place, file, limits=limits, deadline=deadline)
        except FileNotFoundError:
            raise gone from None
        except PermissionError:
            raise FetchError(ErrorKind.MISSING, f"{place!r} may not be read") from None
        except (FetchError, DeadlineExceededError):
            raise
        except Exception as error:  # each store's client has classes of its own, and tries again
            message = f"{place!r} cannot be read: {type(error).__name__}: {error}"
            raise FetchError(ErrorKind.UNAVAILABLE, message) from error
        yield file.name


def _copy(
    filesystem: Any, path: str, place: str, file: IO[bytes], *, limits: Limits, deadline: Deadline
) -> None:
    # Read once from front to back: a cache of blocks would only hold memory.
    with filesystem.open(path, "rb", cache_type="none") as source:
        while block := source.read(4 * MIB):
            deadline.check()
            if file.tell() + len(block) > limits.max_file_bytes:
                raise FetchError(
                    ErrorKind.TOO_LARGE,
                    f"{place!r} has more than {limits.max_file_bytes} bytes (max_file_bytes)",
                )
            file.write(block)
    file.flush()
