"""Which frames are shown as selected: scored now, or as records of earlier runs say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.question import Question
from groundserve.evaluation.scored_records import score_texts
from groundserve.options import ScoreOptions
from groundserve.records.reading import Line, locked_lines
from groundserve.scorer import Scorer
from groundserve.strict_json import shown

Asked = Literal["prompt", "question"]
"""What frames are scored for: all that the Video-LLM is asked, as the reference does, or the
question alone."""

BATCH_RECORDS = "records.jsonl"
"""The file of records in a folder that `groundserve batch` wrote."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Frames selected for questions about one video."""

    frame_indices: dict[str, tuple[int, ...]]
    """Ordinals by question, increasing: at most as many as were asked for."""
    engine: dict[str, Any] | None
    """Identity of what scored them; None where a file of records says them."""


class Selector(Protocol):
    """Whoever selects frames."""

    def select(self, video: Path, prompts: Mapping[str, str]) -> Selection:
        """Select frames of a video; prompts are by question."""


class ScoringSelector:
    """Selects the frames that a scorer ranks highest, by the sampling of the published numbers."""

    def __init__(
        self, scorer: Scorer, questions: Sequence[Question], *, num_selected: int, asked: Asked
    ) -> None:
        self._scorer = scorer
        self._texts = {question.key: question.text for question in questions}
        self._asked = asked
        self._options = ScoreOptions(top_k=num_selected)

    def select(self, video: Path, prompts: Mapping[str, str]) -> Selection:
        """Score the frames; questions that read the same are scored once."""
        queries = {
            key: prompt if self._asked == "prompt" else self._texts[key]
            for key, prompt in prompts.items()
        }
        result, answers = score_texts(self._scorer, video, queries.values(), self._options)
        return Selection(
            frame_indices={
                key: tuple(answers[query].selected_frames.tolist())
                for key, query in queries.items()
            },
            engine=result.engine,
        )


class RecordedSelector:
    """Reads the reference's records, of this program or another."""

    def __init__(self, path: Path, questions: Sequence[Question], *, num_selected: int) -> None:
        """Read all of them.

        A record is a question's whose place in the file, from 0, is its `doc_id` (as the
        reference's harness counts), or else whose own id. Where it says what was asked (`contexts`)
        that must hold the question.

        The first K frames of each `index` count, which is best first.
        """
        by_number = {question.number: question for question in questions}
        by_key = {question.key: question for question in questions}
        self._found: dict[str, tuple[int, ...]] = {}
        for line in locked_lines(path):
            question = _question_of(line, by_number, by_key)
            # The first of a `doc_id` counts, as for all readers.
            if question is not None and question.key not in self._found:
                self._found[question.key] = _first(line, num_selected, path)
        missing = [question for question in questions if question.key not in self._found]
        if missing:
            raise InvalidRequestError(
                f"{path} has no record of {len(missing)} of {len(questions)} questions, the first "
                f"is number {missing[0].number}, id {shown(missing[0].key)}; a doc_id counts "
                "questions from 0, or is their id, and `contexts` holds the question"
            )

    def select(self, video: Path, prompts: Mapping[str, str]) -> Selection:
        """Take what the records say."""
        return Selection(frame_indices={key: self._found[key] for key in prompts}, engine=None)


def _question_of(
    line: Line, by_number: Mapping[int, Question], by_key: Mapping[str, Question]
) -> Question | None:
    asked = line.fields.get("contexts")
    by_place = by_number.get(line.doc_id) if isinstance(line.doc_id, int) else None
    for question in (by_place, by_key.get(str(line.doc_id))):
        if question is not None and (not isinstance(asked, str) or question.text in asked):
            return question
    return None


def _first(line: Line, num_selected: int, path: Path) -> tuple[int, ...]:
    index, where = line.index, f"{path}, line {line.number}"
    if not index or min(index) < 0 or len(set(index)) != len(index):
        raise InvalidRequestError(f"{where}: index must hold different ordinals, at least one")
    if len(index) > num_selected and all(a < b for a, b in itertools.pairwise(index)):
        raise InvalidRequestError(
            f"{where}: index has {len(index)} frames in time order, of which the first "
            f"{num_selected} (--top-k) are only the earliest; give records best first, or of "
            "exactly that many frames"
        )
    return tuple(sorted(index[:num_selected]))
