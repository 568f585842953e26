"""Serve video temporal grounding: the frames and moments of a video that answer a question.

`import groundserve` needs numpy alone; `Client` needs the `serve` extra when it is made.
"""

from groundserve._version import __version__
from groundserve.client import Client
from groundserve.errors import (
    DeadlineExceededError,
    EngineMismatchError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    MissingExtraError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.options import ScoreOptions
from groundserve.results import QueryResult, ScoreResult
from groundserve.spans import Span

__all__ = [
    "Client",
    "DeadlineExceededError",
    "EngineMismatchError",
    "GroundserveError",
    "InvalidRequestError",
    "MediaError",
    "MissingExtraError",
    "QueryResult",
    "RequestCancelledError",
    "ScoreOptions",
    "ScoreResult",
    "Span",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
]
