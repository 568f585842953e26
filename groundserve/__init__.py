"""Serve video temporal grounding: the frames and moments of a video that answer a question.

`import groundserve` needs numpy alone; a client needs the `client` extra when it is made, a
`Pipeline` what its engines or its checkpoint need when it is opened.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from groundserve._version import __version__

if TYPE_CHECKING:
    from groundserve.answers import Answer, AnswerResult, GenerationInfo, Moment
    from groundserve.client import AsyncClient, Client
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
    from groundserve.options import AnswerOptions, ScoreOptions
    from groundserve.results import QueryResult, ScoreResult, VideoInfo
    from groundserve.scorer import Answerer, Scorer
    from groundserve.spans import Span
    from python_backend.pipeline import Pipeline

__all__ = [
    "Answer",
    "AnswerOptions",
    "AnswerResult",
    "Answerer",
    "AsyncClient",
    "Client",
    "DeadlineExceededError",
    "EngineMismatchError",
    "GenerationInfo",
    "GroundserveError",
    "InvalidRequestError",
    "MediaError",
    "MissingExtraError",
    "Moment",
    "Pipeline",
    "QueryResult",
    "RequestCancelledError",
    "ScoreOptions",
    "ScoreResult",
    "Scorer",
    "Span",
    "UnavailableError",
    "UnsupportedError",
    "VideoInfo",
    "__version__",
]


_PLACES = {
    "answers": ("Answer", "AnswerResult", "GenerationInfo", "Moment"),
    "client": ("AsyncClient", "Client"),
    "errors": (
        "DeadlineExceededError",
        "EngineMismatchError",
        "GroundserveError",
        "InvalidRequestError",
        "MediaError",
        "MissingExtraError",
        "RequestCancelledError",
        "UnavailableError",
        "UnsupportedError",
    ),
    "options": ("AnswerOptions", "ScoreOptions"),
    "results": ("QueryResult", "ScoreResult", "VideoInfo"),
    "scorer": ("Answerer", "Scorer"),
    "spans": ("Span",),
}
"""By module the names that are loaded when they are asked for: the command line begins before
anything is imported that takes long, and so answers to Ctrl-C from the start."""

if not TYPE_CHECKING:  # for a type checker, any name would be one of this module's

    def __getattr__(name: str) -> Any:
        """Load a public name; `Pipeline` is one of the stages, which the library never imports."""
        if name == "Pipeline":
            from groundserve.runtime.own_packages import require_own

            require_own("python_backend")
            from python_backend.pipeline import Pipeline

            return Pipeline
        for module, names in _PLACES.items():
            if name in names:
                value = getattr(import_module(f"groundserve.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
