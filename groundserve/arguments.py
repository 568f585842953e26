"""What callers give `Client`, `AsyncClient` and `Pipeline`: checked alike, before any work."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeVar
from urllib.parse import urlsplit

from groundserve.errors import InvalidRequestError, MediaError, UnavailableError, UnsupportedError
from groundserve.options import AnswerOptions, Head, ScoreOptions

Video = str | os.PathLike[str] | bytes
"""Path of a local file, or a file's bytes."""

_Options = TypeVar("_Options", ScoreOptions, AnswerOptions)
_MAX_SECONDS = 1e9
"""More than any clock of gRPC's or Triton's has to tell; they overflow not far above."""
_URI = re.compile(r"(file|https?|ftp|s3|gs):/", re.IGNORECASE)
_URL = re.compile(r"grpc(s?)://((?:\[[0-9A-Fa-f:.%]+\]|[^\s/:@\[\]]+):([0-9]{1,5}))")
_MAX_PORT = 65535
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""Opening must neither wait (a FIFO) nor have an effect (a terminal): what it is is seen after."""


def described(value: object) -> str:
    """Return a value as a message repeats it, never longer than a line."""
    try:
        is_plain = value is None or isinstance(value, str | int | float)
        text = repr(value[:60] if isinstance(value, str) else value) if is_plain else ""
    except ValueError:  # CPython refuses to convert integers of thousands of digits
        text = ""
    return text or f"a {type(value).__name__}"


def check_video(video: object) -> Video:
    """Return the video if it is a path or bytes, not a URI.

    Raises:
        InvalidRequestError: It is neither; its subclass UnsupportedError of a URI to be fetched.
    """
    if isinstance(video, bytes):
        return video
    name = os.fspath(video) if isinstance(video, os.PathLike) else video
    if not isinstance(name, str):
        raise InvalidRequestError(
            f"video must be a path (str or os.PathLike) or bytes, got {described(video)}"
        )
    if _URI.match(name):
        _refuse_uri(name)
    return name


def video_name(video: Video) -> str:
    """Return what a result calls the video."""
    return "<bytes>" if isinstance(video, bytes) else os.fspath(video)


def open_video(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a regular file.

    Raises:
        MediaError: It cannot be opened, or is not a regular file.
        UnavailableError: This process has no descriptor left.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, _OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else "bad name"
        if number in (errno.EMFILE, errno.ENFILE):
            raise UnavailableError(f"cannot open the video {name!r}: {reason}") from None
        raise MediaError(f"cannot open the video {name!r}: {reason}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MediaError(f"the video {name!r} is not a regular file")
    return fd


def check_queries(queries: object) -> list[str]:
    """Return one question or several as a list; how many and how long is the server's rule.

    Raises:
        InvalidRequestError: They are no texts, there is none, or one is not Unicode.
    """
    if isinstance(queries, str):
        queries = [queries]
    try:
        if isinstance(queries, bytes | bytearray | Mapping):
            raise TypeError
        texts: list[Any] = list(queries)  # type: ignore[call-overload]  # which it checks
    except TypeError:  # NumPy's too, of an array without a dimension
        raise InvalidRequestError(
            f"queries must be a text or a sequence of texts, got {described(queries)}"
        ) from None
    if not texts:
        raise InvalidRequestError("queries must hold at least one question, got none")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequestError(f"queries[{number}] must be a text, got {described(text)}")
        try:
            # An argument of a command in a locale of ASCII holds the bytes of its UTF-8.
            texts[number] = text.encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeError:
            raise InvalidRequestError(f"QUERY[{number}] must be UTF-8") from None
    return texts


def check_options(options: object) -> ScoreOptions:
    """Return the options, the defaults where None; refuse what is no `ScoreOptions`."""
    return _check_kind(options, ScoreOptions, "a ScoreOptions, such as ScoreOptions(top_k=8)")


def check_answer_queries(queries: object) -> list[str]:
    """Return one question or several as a list; an empty one where there is none.

    Which tasks take no question, their family knows.

    Raises:
        InvalidRequestError: They are no texts, or one is not Unicode.
    """
    # Of numpy's arrays, `==` and truth are not those of a sequence.
    return [""] if isinstance(queries, list | tuple) and not queries else check_queries(queries)


def check_answer_options(options: object) -> AnswerOptions:
    """Return the options, the defaults where None; refuse what is no `AnswerOptions`."""
    example = 'an AnswerOptions, such as AnswerOptions(task="chat")'
    return _check_kind(options, AnswerOptions, example)


def check_head(family: str, head: Head, *, called: Head) -> None:
    """Refuse a call that is of the other head, and name the one to use.

    Args:
        family: Its name.
        head: What it answers.
        called: What the call is for: "frames" of `score`, "text" of `ask`.

    Raises:
        UnsupportedError: The two differ.
    """
    if head == called:
        return
    if head == "text":
        raise UnsupportedError(f"the family {family} answers in text: use ask, not score")
    raise UnsupportedError(f"the family {family} scores frames: use score, not ask")


def check_number(name: str, value: object) -> float:
    """Return a number as a float; numpy's are numbers, a bool is none.

    Raises:
        InvalidRequestError: It is no number, or one that no float can hold.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidRequestError(f"{name} must be a number, got {described(value)}")
    try:
        return float(value)
    except OverflowError:  # of whole numbers and fractions, which have no bound
        raise InvalidRequestError(f"{name} is too large for a float") from None


def check_timeout(timeout_seconds: object) -> float:
    """Return the seconds.

    Raises:
        InvalidRequestError: They are no number, not above 0, or not finite.
    """
    seconds = check_number("timeout_seconds", timeout_seconds)
    if not 0 < seconds < math.inf:
        raise InvalidRequestError(
            f"timeout_seconds must be > 0 and finite, got {described(timeout_seconds)}"
        )
    return min(seconds, _MAX_SECONDS)


def parse_url(name: str, url: object) -> tuple[str, bool]:
    """Return HOST:PORT of a server's URL, and whether it is to be reached by TLS.

    Raises:
        InvalidRequestError: It has another form than grpc://HOST:PORT or grpcs://HOST:PORT.
    """
    parts = _URL.fullmatch(url) if isinstance(url, str) else None
    if parts is None or not 0 < int(parts[3]) <= _MAX_PORT:
        raise InvalidRequestError(
            f"{name} must be grpc://HOST:PORT (8001 is the usual port), got {described(url)}"
        )
    return parts[2], bool(parts[1])


def _check_kind(options: object, kind: type[_Options], example: str) -> _Options:
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise InvalidRequestError(f"options must be {example}, got {described(options)}")
    return options


def _refuse_uri(uri: str) -> None:
    without_query = re.split(r"[?#]", uri, maxsplit=1)[0]  # it may hold a secret
    if urlsplit(without_query).scheme == "file":
        raise InvalidRequestError(
            f"video must be a path or bytes, got the URI {without_query!r}: give its path, or, for "
            "a file that the server itself may read, video_uri=... to a Client"
        )
    raise UnsupportedError(
        f"video must be a path or bytes, got the URI {without_query!r}: nothing is fetched; "
        "download it and give its path"
    )
