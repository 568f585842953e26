"""The errors groundserve raises on purpose, one class per action a caller can take.

GroundserveError
├── InvalidRequestError      change the request (also a ValueError)
│   ├── MediaError           send another video: this one cannot be read
│   └── UnsupportedError     ask for something this server offers
├── EngineMismatchError      rebuild the engine directory (also a RuntimeError)
├── UnavailableError         try again later (also a RuntimeError)
├── DeadlineExceededError    allow more time or ask for less (also a TimeoutError)
├── RequestCancelledError    nothing: the caller no longer waits
└── MissingExtraError        install the named extra (also an ImportError)
"""

from __future__ import annotations

from typing import Any


class GroundserveError(Exception):
    """Root of every error groundserve raises on purpose."""

    request_id: str | None = None
    """Under which the server's log knows the request; None where no server was asked."""


class InvalidRequestError(GroundserveError, ValueError):
    """The request breaks a rule; the message names the field, the rule and the value."""


class MediaError(InvalidRequestError):
    """The video cannot be demuxed or decoded, or is past a limit."""


class UnsupportedError(InvalidRequestError):
    """The request is well formed and asks for something this server does not offer."""


class EngineMismatchError(GroundserveError, RuntimeError):
    """An engine directory does not match its manifest, this machine or this version."""


class UnavailableError(GroundserveError, RuntimeError):
    """The service cannot answer now; the same request may succeed later."""


class DeadlineExceededError(GroundserveError, TimeoutError):
    """The request did not finish within its deadline."""


class RequestCancelledError(GroundserveError):
    """The caller cancelled the request, or is gone."""


class MissingExtraError(GroundserveError, ImportError):
    """A feature needs packages of an extra that is not installed."""

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(
            f"{module} is not installed; it comes with: pip install 'groundserve[{extra}]'"
        )
        self.extra = extra
        self.name = module

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str | None], dict[str, Any]]:
        # An exception is made anew from its message alone, and this one takes two arguments: a
        # process pool whose worker raised it would break in place of handing it on.
        return type(self), (self.extra, self.name), self.__dict__
