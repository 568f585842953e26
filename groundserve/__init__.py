"""Serve video temporal grounding: the frames and moments of a video that answer a question.

`import groundserve` needs numpy alone; a client needs the `client` extra when it is made, a
`Pipeline` what its engines or its checkpoint need when it is opened.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from groundserve._version import __version__
from groundserve.runtime.own_packages import require_own

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
    "groundserve.answers": ("Answer", "AnswerResult", "GenerationInfo", "Moment"),
    "groundserve.client": ("AsyncClient", "Client"),
    "groundserve.errors": (
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
    "groundserve.options": ("AnswerOptions", "ScoreOptions"),
    "groundserve.results": ("QueryResult", "ScoreResult", "VideoInfo"),
    "groundserve.scorer": ("Answerer", "Scorer"),
    "groundserve.spans": ("Span",),
    "python_backend.pipeline": ("Pipeline",),
}
"""By module the names that are loaded when they are asked for: the command line begins before
anything is imported that takes long, and so answers to Ctrl-C from the start. `Pipeline` is one of
the stages, which the library never imports."""

if not TYPE_CHECKING:  # for a type checker, any name would be one of this module's

    def __getattr__(name: str) -> Any:
        """Load a public name."""
        for module, names in _PLACES.items():
            if name in names:
                package = module.partition(".")[0]
                if package != __name__:
                    require_own(package)
                value = getattr(import_module(module), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
