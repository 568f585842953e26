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
        given = {name: values.get(name) for name in self.columns}
        is_given = {name: value not in (None, "") for name, value in given.items()}
        try:
            if is_given["query"]:  # else other questions would be proposed, and paid
                raise InvalidRequestError("query is called question here; rename it")
            if is_given["answer"] and not is_given["question"]:
                raise InvalidRequestError("an answer needs a question, and it is missing")
            texts = [check_text(it, given[it]) if is_given[it] else "" for it in Asked._fields]
            # As records of VideoITG-40K begin.
            texts[0] = texts[0].removeprefix(f"{IMAGE_PLACEHOLDER}\n")
        except InvalidRequestError as error:
            return bad_row(values, position, str(error))
        query = json.dumps(texts, ensure_ascii=False) if texts[0] else ""
        told: dict[str, Any] = {name: values.get(name) for name in ("id", "video")}
        return super().parse({**told, "query": query}, position)
