"""What is to be annotated: a row of a manifest, as a question with its answer, or a video alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from groundserve.batch.row import BadRow, Row, RowParser, bad_row, check_text
from groundserve.data_record import IMAGE_PLACEHOLDER
from groundserve.errors import InvalidRequestError


class Asked(NamedTuple):
    """A question, and its answer: "" where nobody gave one."""

    question: str
    answer: str


class ItemParser(RowParser):
    """Takes `question` and `answer`, and carries both as the query of a row, in JSON.

    Without a question the query is empty: some are to be proposed.
    """

    columns = ("id", "video", "question", "answer", "query")

    def parse(self, values: Mapping[str, Any], position: int) -> Row | BadRow:
        """Return the row of a line's fields."""
        given = {name: it for name, it in values.items() if it not in (None, "")}
        try:
            if "query" in given:  # else other questions would be proposed, and paid
                raise InvalidRequestError("query is called question here; rename it")
            if "answer" in given and "question" not in given:
                raise InvalidRequestError("an answer needs a question, and it is missing")
            texts = [check_text(it, given[it]) if it in given else "" for it in Asked._fields]
            # As records of VideoITG-40K begin.
            texts[0] = texts[0].removeprefix(f"{IMAGE_PLACEHOLDER}\n")
        except InvalidRequestError as error:
            return bad_row(values, position, str(error))
        told = {name: values.get(name) for name in ("id", "video")}
        query = json.dumps(texts, ensure_ascii=False) if texts[0] else ""
        return super().parse({**told, "query": query}, position)
