"""What is to be annotated: a row of a manifest, as a question with its answer, or a video alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from groundserve.batch.row import BadRow, Row, RowParser, bad_row, check_text
from groundserve.errors import InvalidRequestError


class Asked(NamedTuple):
    """A question, and its answer: "" where nobody gave one."""

    question: str
    answer: str


class ItemParser(RowParser):
    """Takes `question` and `answer`, and carries both as the query of a row, in JSON.

    Without a question the query is empty: some are to be proposed.
    """

    columns = ("id", "video", "question", "answer")

    def parse(self, values: Mapping[str, Any], position: int) -> Row | BadRow:
        """Return the row of a line's fields."""
        given = {name: values.get(name) or "" for name in Asked._fields}
        try:
            if given["answer"] and not given["question"]:
                raise InvalidRequestError("an answer needs a question, and it is missing")
            texts = [check_text(name, it) if it else "" for name, it in given.items()]
        except InvalidRequestError as error:
            return bad_row(values, position, str(error))
        told = {name: values.get(name) for name in ("id", "video")}
        query = json.dumps(texts, ensure_ascii=False) if texts[0] else ""
        return super().parse({**told, "query": query}, position)
