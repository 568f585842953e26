"""What is to be annotated: a row of a manifest, as a question with its answer, or a video alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from groundserve.batch.row import BadRow, Row, RowParser, bad_row, check_text
from groundserve.batch.rows import read_manifest, rows_of_folder
from groundserve.errors import InvalidRequestError
from groundserve.options import AnswerOptions


class Asked(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str
    """"" where nobody gave one."""

    @classmethod
    def of(cls, query: str) -> Asked | None:
        """Read what `ItemParser` made; None: questions are to be proposed."""
        return cls(**json.loads(query)) if query else None


class ItemParser(RowParser):
    """Takes `question` and `answer`, and carries both as the query of a row."""

    columns = ("id", "video", "question", "answer")

    def parse(self, values: Mapping[str, Any], position: int) -> Row | BadRow:
        """Return the row of a line's fields; without a question some are proposed."""
        question, answer = values.get("question"), values.get("answer")
        try:
            if question in (None, ""):
                if answer not in (None, ""):
                    raise InvalidRequestError("an answer needs a question, and it is missing")
                query = ""
            else:
                given = check_text("answer", answer) if answer not in (None, "") else ""
                fields = {"question": check_text("question", question), "answer": given}
                query = json.dumps(fields, ensure_ascii=False)
        except InvalidRequestError as error:
            return bad_row(values, position, str(error))
        told = {name: values.get(name) for name in ("id", "video")}
        return super().parse({**told, "query": query}, position)


def read_items(place: str, *, is_folder: bool) -> Iterator[Row | BadRow]:
    """Yield the rows of a manifest, or the videos of a folder, for which questions are proposed.

    Raises:
        InvalidRequestError: As `read_manifest` and `rows_of_folder`.
    """
    if is_folder:
        return rows_of_folder(place, (), defaults=AnswerOptions())
    return read_manifest(place, defaults=AnswerOptions(), parser=ItemParser)
