"""A JSON list read one value at a time: some are larger than memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from groundserve.errors import InvalidRequestError

_END = re.compile(r"\s*[,\]]")
CHUNK_CHARS = 1 << 20  # many records at a time
MAX_VALUE_CHARS = 16 << 20
"""A longer value is taken for damage; records have thousands of characters."""


def iterate_json_list(path: Path) -> Iterator[Any]:
    """Yield the values of a file that holds one JSON list.

    Raises:
        InvalidRequestError: It cannot be read or is something else. What stands before a damaged
            place has been yielded by then.
    """
    try:
        # Some lists begin with a byte order mark, which json refuses.
        with path.open(encoding="utf-8-sig") as file:
            yield from _values(_Text(file))
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # UnicodeDecodeError is one
        raise InvalidRequestError(f"{path} must be a JSON list in UTF-8: {error}") from error


def _values(text: _Text) -> Iterator[Any]:
    text.take("[")
    # An empty list; after a comma there must be a value.
    if text.next_is("]"):
        text.take("]")
    else:
        number = 0
        yield text.value(number)
        while text.take(",]") == ",":
            number += 1
            yield text.value(number)
    text.end()


class _Text:
    """A file's text from where reading has come to."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._buffer = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next_is(self, character: str) -> bool:
        return self._next() == character

    def take(self, characters: str) -> str:
        """Go past the next character, which must be one of these."""
        found = self._next()
        if not found or found not in characters:
            raise ValueError(f"{' or '.join(characters)} is expected, got {self._shown()}")
        self._at += 1
        return found

    def value(self, number: int) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except ValueError:
                pass  # it may go on in the next chunk, as also "1" does where ".5" follows
            else:
                if _END.match(self._buffer, end):
                    self._at = end
                    return value
            if len(self._buffer) - self._at > MAX_VALUE_CHARS or not self._read():
                raise ValueError(
                    f"value {number} must be JSON with , or ] behind it, got {self._shown()}"
                )

    def end(self) -> None:
        if self._next():
            raise ValueError(f"nothing may follow the list, got {self._shown()}")

    def _next(self) -> str:
        """Return the next character that is no space, "" at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at].isspace():
                self._at += 1
            if self._at < len(self._buffer) or not self._read():
                return self._buffer[self._at : self._at + 1]

    def _read(self) -> bool:
        chunk = self._file.read(CHUNK_CHARS)
        # What was read is let go of: memory holds a chunk and the value it cuts through.
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return bool(chunk)

    def _shown(self) -> str:
        shown = self._buffer[self._at : self._at + 60]
        return repr(shown) if shown else "the end of the file"
