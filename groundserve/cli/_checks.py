"""What commands look at before any work: files to read and write, questions, parts.

What is wrong with them is an `InvalidRequestError`, whose message names the option.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from groundserve.cli._output import progress
from groundserve.errors import InvalidRequestError, MediaError
from groundserve.fetching import FetchPolicy, fetch_file, is_url, parse_url, without_secrets
from groundserve.limits import MIB, Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.runtime.deadline import Deadline

STDIN = Path("-")
STDIN_NAME = "<stdin>"
"""What an answer calls the video that came through stdin."""

_PICTURES = ("--plot", "--contact-sheet")
# The first box of MP4 and MOV; EBML of Matroska and WebM, AVI.
_MP4 = re.compile(rb"....(ftyp|moov|mdat|wide|free|skip)", re.DOTALL)
_OTHER_CONTAINERS = re.compile(rb"\x1aE\xdf\xa3|RIFF....AVI ", re.DOTALL)
_URI = re.compile(r"([a-z][a-z0-9+.-]*):/", re.IGNORECASE)


def check_request(
    options: ScoreOptions | AnswerOptions, queries: Sequence[str], *, server: str | None
) -> Limits | None:
    """Return the limits of this process, None of a server, which has its own."""
    limits = Limits() if server is None else None
    if limits:
        options.check(limits)
    if limits and len(queries) > limits.max_queries:
        raise InvalidRequestError(
            f"--query may be given at most {limits.max_queries} times, got {len(queries)}"
        )
    for query in queries:
        if not query.strip():
            raise InvalidRequestError(f"--query must not be empty or blank, got {query!r}")
        try:
            # In a locale of ASCII an argument holds the bytes of its UTF-8.
            query.encode("utf-8", "surrogateescape").decode()
        except UnicodeError as error:
            raise InvalidRequestError(f"--query must be UTF-8, got {query!r}") from error
    return limits


def check_input(path: Path) -> os.stat_result:
    """Refuse what cannot be read as a file; a pipe can."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise _os_error(errno.EISDIR)
        if not os.access(path, os.R_OK):
            raise _os_error(errno.EACCES)
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    return status


def parse_parts(values: Sequence[str], *, checkpoint: str | None) -> dict[str, list[str]]:
    """Return the values of `--part NAME=VALUE` by name, each in the order given."""
    if values and checkpoint is None:
        raise InvalidRequestError("--part goes with --checkpoint")
    parts: dict[str, list[str]] = {}
    for value in values:
        name, equals, place = value.partition("=")
        if not (name and equals and place):
            raise InvalidRequestError(
                f"--part must be NAME=VALUE, such as adapter=./stage2, got {value!r}"
            )
        parts.setdefault(name, []).append(place)
    return parts


def parse_clip(text: str | None) -> tuple[float, float] | None:
    """Return the two seconds of `--clip-seconds START:END`; None where it was not given."""
    if text is None:
        return None
    try:
        start, end = map(float, text.split(":"))
    except ValueError:
        raise InvalidRequestError(
            f"--clip-seconds must be START:END, two numbers such as 0.5:12, got {text!r}"
        ) from None
    return start, end


def shown_name(video: str) -> str:
    """Return what answers call a video that is no file here."""
    return STDIN_NAME if video == str(STDIN) else without_secrets(video)


def is_copied(video: str) -> bool:
    """Tell whether a video is not a file here, but comes through stdin or from a URL."""
    return video == str(STDIN) or is_url(video)


def check_video(name: str, policy: FetchPolicy, *, command: str = "score") -> None:
    """Refuse what is no file on this machine, nor may be fetched, without decoding it."""
    video = Path(name)
    if is_url(name):
        url = parse_url(name)
        if not policy.allows_host(url):
            scheme = "" if url.scheme == "https" else "http://"
            raise InvalidRequestError(
                "the video is a URL whose host may not be fetched from; allow it with --allow-host "
                f"{scheme}{url.netloc.decode()}, or download the file, or pipe it into: "
                f"groundserve {command} -"
            )
        return
    if video == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise InvalidRequestError(
                "the video - is read from stdin, which is a terminal or closed; "
                f"use: groundserve {command} - ... < FILE"
            )
        return
    if not os.path.lexists(video):
        # The rest is not repeated: it may hold a secret.
        if uri := _URI.match(name):
            scheme = uri[1].lower()
            hint = f"download it, or pipe it into: groundserve {command} -"
            if scheme == "file":
                hint = f"name the file itself; one that the server reads is for Client.{command}"
                hint += "(video_uri=...)"
            raise InvalidRequestError(f"the video must be a file, got a URI ({scheme}:); {hint}")
        raise InvalidRequestError(f"no such video file: {video}")
    if video.is_dir():
        raise InvalidRequestError(
            f"the video must be a file, got a folder: {video}; for all that is in it: "
            f"groundserve batch {shlex.quote(str(video))} --query TEXT --out DIR"
        )
    status = check_input(video)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequestError(
            f"the video must be a regular file, got a pipe or device: {video}; "
            f"use: groundserve {command} - ... < FILE"
        )
    if status.st_size == 0:
        raise InvalidRequestError(f"the video file is empty: {video}")


@contextmanager
def as_file(name: str, policy: FetchPolicy) -> Iterator[Path]:
    """Give the video as a file: what comes from elsewhere is in one until the command ends."""
    if not is_copied(name):
        _check_content(Path(name), name)
        yield Path(name)
        return
    most = Limits().max_upload_bytes
    with TemporaryDirectory(prefix="groundserve-") as folder:
        path = Path(folder, "video" if is_url(name) else "stdin")
        if is_url(name):
            with progress("fetching"), path.open("wb") as file:
                fetch_file(name, file, policy)
            _check_content(path, shown_name(name))
            yield path
            return
        size = 0
        with path.open("wb") as file:
            while piece := sys.stdin.buffer.read(MIB):
                size += file.write(piece)
                if size > most:
                    raise InvalidRequestError(
                        f"the video from stdin must be at most {most} bytes (max_upload_bytes); "
                        "give the file by its name"
                    )
        if size == 0:
            raise InvalidRequestError("the video from stdin is empty")
        _check_content(path, STDIN_NAME)
        yield path


def check_outputs(outputs: Mapping[str, Path | None], *, inputs: Sequence[Path] = ()) -> None:
    """Refuse files, by option, that could not be written in the end, or are `inputs`."""
    taken = {path.resolve(): "what is read" for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        if path == STDIN:
            raise InvalidRequestError(f"{option} must name a file, got -")
        try:
            place = path if path.exists() else path.parent
            if place == path and path.is_dir():
                raise InvalidRequestError(f"{option} must be a file, got a folder: {path}")
            if place != path and not place.is_dir():
                raise InvalidRequestError(f"{option} {path}: no such folder: {place}")
            if not os.access(place, os.W_OK):
                raise _os_error(errno.EACCES)
        except OSError as error:
            raise InvalidRequestError(f"cannot write {option} {path}: {error.strerror}") from error
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise InvalidRequestError(f"{option} must differ from {other}, got {path} for both")
        if option in _PICTURES and path.suffix.lower() != ".png":
            raise InvalidRequestError(f"{option} writes PNG: its name must end in .png, got {path}")


def _check_content(video: Path, name: str) -> None:
    """Refuse what is no video before a model is loaded for it.

    What begins as one of the usual containers is opened when it is scored, and not twice.
    """
    with video.open("rb") as file:
        start = file.read(12)
        if _OTHER_CONTAINERS.match(start) or (_MP4.match(start) and _has_video(file.fileno())):
            return
    limits = Limits()
    deadline = Deadline.after(limits.max_request_seconds)
    try:
        with (
            MediaWorkers(limits=limits) as workers,
            VideoSource.from_path(video, limits=limits) as source,
            workers.open(source, deadline=deadline),
        ):
            pass
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error


def _has_video(fd: int) -> bool:
    """Tell whether the index of an MP4 is there, with a track of video in it."""
    at, size = 0, 8
    while len(header := os.pread(fd, 16, at)) >= 8 and size >= 8:
        size = int.from_bytes(header[8:] if header[:4] == b"\0\0\0\1" else header[:4], "big")
        if header[4:8] == b"moov":
            return b"vide" in os.pread(fd, min(size, 64 * MIB), at)
        at += size
    return False


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
