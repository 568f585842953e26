"""Whom to ask, what to send with every question, and how patiently."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from groundserve.errors import InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """How an endpoint is asked."""

    url: str
    """Up to `/v1`; `/chat/completions` is added."""
    model: str
    max_tokens: int
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token, and nowhere else; None sends none."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the request beside, or in place of, ours; null takes one of ours away."""
    max_attempts: int = 5
    """Tries for one question, >= 1."""
    timeout_seconds: float = 120.0
    """Longest time without a byte, > 0."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_url = parts.scheme in ("http", "https") and parts.port != 0
            (parts.hostname or "").encode("idna")
        except ValueError:
            is_url = False
        # `urlsplit` takes blanks and line breaks away without a word.
        if not is_url or not parts.hostname or not re.fullmatch(r"[!-~]+", self.url):
            raise InvalidRequestError("endpoint must be http://HOST[:PORT]/v1 or https://...")
        # What is in there may be a secret, so the message does not repeat it.
        if parts.username is not None or parts.query or parts.fragment:
            raise InvalidRequestError(
                "endpoint must have no user, query or fragment; a key is read from an "
                "environment variable"
            )
        # An HTTP library's own error would show the key.
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            raise InvalidRequestError(
                "the API key must be ASCII without blanks; is there a line break at its end?"
            )
        if not self.model:
            raise InvalidRequestError("model must not be empty")
        try:
            json.dumps(self.request([]), allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(
                "model and body must be Unicode and finite numbers, as JSON holds them"
            ) from error
        if self.max_attempts < 1:
            raise InvalidRequestError(f"max_attempts must be >= 1, got {self.max_attempts}")
        if not 0 < self.timeout_seconds < float("inf"):
            raise InvalidRequestError(
                f"timeout_seconds must be > 0 and finite, got {self.timeout_seconds}"
            )

    def request(self, content: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
        """Return the body of a request whose one message has these parts.

        `fields` are this request's own, which `body` comes before.
        """
        ours = {
            "model": self.model,
            "messages": [{"role": "user", "content": list(content)}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            **fields,
        }
        return {name: value for name, value in {**ours, **self.body}.items() if value is not None}
