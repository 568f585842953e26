"""Highlights told in text, scored as QVHighlights scores clips, and the files that hold them.

- VTG-LLM's evaluation writes a JSON list of `{"vname", "generated_cap", "query", "id"}`, whose text
  is read by its rules, and of it one of `{"qid", "query", "vid", "pred_saliency_scores"}`.
- The latter, one a line, are QVHighlights' predictions. Lines that a model adds are such,
  too, with the answer, its `moments` and the `model` beside them.
- Lines of `ask --json` and rows of a batch are about the query that they asked in the video that
  their file is named after.

Shape letters: C clips of two seconds.

Source: gyxxyg/VTG-LLM ce13f3e, `evaluate.py` and `utils/format_vhd.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import Answer, AnswerResult
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.asking import Asked
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_means
from groundserve.evaluation.line_file import read_answer_lines, told_answers
from groundserve.evaluation.qvhighlights import (
    CLIP_SECONDS,
    GroundTruth,
    QueryId,
    highlight_figures,
    read_clip_scores,
)
from groundserve.families.vtgllm.answer import read_highlights
from groundserve.strict_json import is_finite_number, shown


@dataclass(frozen=True, kw_only=True)
class HighlightReport(AsDict):
    """Figures over all answered queries."""

    seed: int
    num_unread: int
    """Answers that tell no times with scores that can be read: all their clips score 0."""
    num_unanswered: int
    """Queries of the ground truth without an answer, which do not count."""
    num_strangers: int
    """Answers to queries that the ground truth lacks, which do not count."""
    figures: Mapping[str, Estimate]
    """`highlight_map_*` and `highlight_hit_at_1_*` of each of `SALIENCY_LEVELS`: shares."""


def clip_scores(
    told: Iterable[tuple[float, float]], duration_seconds: float
) -> NDArray[np.float64]:
    """Return the score of each clip: the mean of those told in it, 0 where none is.

    A time belongs to the clip that ends with it or in which the second before it lies; one behind
    the end of the video to none. The last second of a video of an odd length is in no clip, where
    the reference stops.

    Returns:
        float64 (C,); of a video that is shorter than a clip (1,).

    Source: gyxxyg/VTG-LLM ce13f3e, `utils/format_vhd.py`.
    """
    num_clips = max(1, int(duration_seconds / CLIP_SECONDS))
    clips: list[list[float]] = [[] for _ in range(num_clips)]
    for seconds, score in told:
        clip = max(0, int((seconds - 1) / CLIP_SECONDS)) if seconds <= duration_seconds else -1
        if 0 <= clip < num_clips:
            clips[clip].append(score)
    return np.array([sum(scores) / max(len(scores), 1) for scores in clips], np.float64)


def make_highlight_report(
    answers: Mapping[QueryId, NDArray[np.float64]],
    truths: Mapping[QueryId, GroundTruth],
    *,
    num_unread: int = 0,
    seed: int = 0,
) -> HighlightReport:
    """Score the clips, float64 (C,), of every query that has both an answer and ratings."""
    both = [query for query in truths if query in answers]
    if not both:
        raise InvalidRequestError(
            "no answer is to a query of the ground truth; do the two belong together?"
        )
    measured = [highlight_figures(answers[query], ratings_of(query, truths)) for query in both]
    videos = [truths[query].video for query in both]
    return HighlightReport(
        seed=seed,
        num_unread=num_unread,
        num_unanswered=len(truths) - len(both),
        num_strangers=len(answers) - len(both),
        figures=bootstrap_means(measured, videos, seed=seed),
    )


def ratings_of(query: QueryId, truths: Mapping[QueryId, GroundTruth]) -> NDArray[np.int64]:
    """Return int64 (C, 3), what annotators gave each clip."""
    ratings = truths[query].saliency
    if ratings is None:
        raise InvalidRequestError(
            f"qid {query} of the ground truth has no saliency_scores, by which highlights are "
            "measured"
        )
    return ratings


_Told = tuple[QueryId, NDArray[np.float64], bool]
"""Query, scores of its clips, and whether the answer could be read."""


def read_highlight_answers(
    path: str | PathLike[str], truths: Mapping[QueryId, GroundTruth]
) -> tuple[dict[QueryId, NDArray[np.float64]], int]:
    """Read the answers of a file as above, or of a batch's folder; other tasks are passed over.

    Returns:
        By query float64 (C,), of its last answer; and how many answers to queries of the ground
        truth tell no times with scores.
    """
    by_name = {str(query): query for query in truths}
    asked = {(truth.video, _plain(truth.query)): query for query, truth in truths.items()}
    told: dict[QueryId, _Told] = {}
    for where, entry in read_answer_lines(path):
        try:
            if "answers" in entry:
                told |= {one[0]: one for one in _asked(entry, asked, truths)}
            else:
                one = _told(entry, by_name, truths)
                told[one[0]] = one
        except ValueError as error:
            raise InvalidRequestError(f"{where}: {error}") from error
        except KeyError as error:
            raise InvalidRequestError(f"{where}: {error.args[0]} is missing") from error
    if not told:
        raise InvalidRequestError(f"{path} holds no answer of the task highlights")
    num_unread = sum(not is_read and query in truths for query, _, is_read in told.values())
    return {query: scores for query, scores, _ in told.values()}, num_unread


def highlight_questions(truths: Mapping[QueryId, GroundTruth]) -> Asked[str]:
    """Return what to ask for the highlights of each query, which goes by its id as a text."""
    by_name = {str(query): query for query in truths}
    questions: dict[str, list[str]] = {}
    for name, query in by_name.items():
        questions.setdefault(truths[query].video, []).append(name)

    def query_of(name: str) -> str:
        words = truths[by_name[name]].query or ""
        if not words.strip(". \t\r\n"):
            raise InvalidRequestError(
                f"qid {name} of the ground truth has no words: its highlights cannot be asked for"
            )
        return words

    def line_of(name: str, answer: Answer, result: AnswerResult) -> dict[str, Any]:
        truth = truths[by_name[name]]
        told = [(moment.start_seconds, moment.score or 0.0) for moment in answer.moments]
        return {
            "qid": by_name[name],
            "query": truth.query,
            "vid": truth.video,
            "pred_saliency_scores": clip_scores(told, _duration(truth)).tolist(),
        }

    return Asked(
        task="highlights",
        questions=questions,
        question_of=lambda line: str(_query_id(line, "qid")),
        query_of=query_of,
        line_of=line_of,
    )


def _told(
    entry: Mapping[str, Any],
    by_name: Mapping[str, QueryId],
    truths: Mapping[QueryId, GroundTruth],
) -> _Told:
    if "pred_saliency_scores" in entry:
        scores, query = read_clip_scores(entry), _query_id(entry, "qid")
        return by_name.get(str(query), query), scores, entry.get("moments") != []
    if "generated_cap" not in entry:
        raise ValueError(
            "must have pred_saliency_scores, as QVHighlights' predictions, generated_cap, as "
            "VTG-LLM's answers, or answers, as ask --json"
        )
    text, query = entry["generated_cap"], _query_id(entry, "id")
    if not isinstance(text, str):
        raise ValueError(f"generated_cap must be a text, got {shown(text)}")
    query = by_name.get(str(query), query)
    if query not in truths:
        return query, np.zeros(1), True
    try:
        found = list(zip(*read_highlights(text), strict=False))
    except ValueError:  # a number past any double
        found = []
    return query, clip_scores(found, _duration(truths[query])), bool(found)


def _asked(
    entry: Mapping[str, Any],
    asked: Mapping[tuple[str, str], QueryId],
    truths: Mapping[QueryId, GroundTruth],
) -> Iterator[_Told]:
    for video, answer in told_answers(entry, "highlights"):
        query = asked.get((video, _plain(answer.get("query"))))
        if query is None:
            raise ValueError(f"no query about {video} reads {shown(answer.get('query'))}")
        try:
            found = [(moment["start"], moment["score"]) for moment in answer["moments"]]
        except (KeyError, TypeError) as error:
            raise ValueError("moments must be a list of objects with start and score") from error
        if not all(is_finite_number(start) and is_finite_number(score) for start, score in found):
            raise ValueError("start and score of a highlight must be numbers")
        yield query, clip_scores(found, _duration(truths[query])), bool(found)


def _duration(truth: GroundTruth) -> float:
    if truth.duration_seconds is None:
        raise ValueError("its query has no ratings in the ground truth")
    return truth.duration_seconds


def _query_id(entry: Mapping[str, Any], name: str) -> QueryId:
    query = entry[name]
    if type(query) not in (int, str):
        raise ValueError(f"{name} must be a number or a text, got {shown(query)}")
    return query  # type: ignore[no-any-return]


def _plain(query: object) -> str:
    """Return a query as VTG-LLM puts it into its question, whatever the case."""
    return query.strip().strip(".").lower() if isinstance(query, str) else ""
