"""Scores the questions of grounding records, and the stand-ins of the shuffled-question control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.evaluation.grounding_records import GroundingRecord
from groundserve.evaluation.report import ScoredQuestion, borrow_questions
from groundserve.evaluation.videos import require_files
from groundserve.families.videoitg.sampling import sample_frames
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from groundserve.records import append_records, check_records, make_record
from groundserve.results import QueryResult, ScoreResult
from groundserve.scorer import Scorer

OPTIONS = ScoreOptions(sampling="infer", sample_fps=1.0, num_frames=Limits().max_num_frames)
"""The sampling that `frame_num` counts in: rule A at one frame a second, as in training."""


@dataclass(frozen=True, kw_only=True)
class ScoredRecords:
    """Every question of a set of records with its scores."""

    questions: dict[int, ScoredQuestion]
    """By the number of the record and in that order, without those left out."""
    stand_ins: dict[int, ScoredQuestion]
    """The labels of each present question with another video's question, by the same number;
    empty where there is one video only."""
    num_left_out: int
    """Records whose `frame_num` lies past the frames that their video gives."""
    engine: dict[str, Any]

    @property
    def present(self) -> dict[int, ScoredQuestion]:
        """The questions that some frame answers."""
        return {number: one for number, one in self.questions.items() if one.is_present}


def score_records(
    scorer: Scorer,
    records: Sequence[GroundingRecord],
    *,
    media_root: Path,
    seed: int,
    jsonl: Path | None = None,
    on_video: Callable[[int, int], None] = lambda number, total: None,
) -> ScoredRecords:
    """Score each video once with all of its questions, up to 32 a request.

    To `jsonl` each question's record is appended, its `doc_id` the record's number. `on_video` is
    called with the number of each video, from 1, and the number of videos.

    Raises:
        InvalidRequestError: A video is missing, or cannot be scored, or `jsonl` has one of the
            ids already.
        UnsupportedError: The scorer's family samples other frames than `frame_num` counts.
    """
    by_video: dict[str, list[GroundingRecord]] = {}
    for record in records:
        by_video.setdefault(record.video, []).append(record)
    present = {
        video: [record for record in members if record.positive_frames]
        for video, members in by_video.items()
    }
    require_files(by_video, media_root)  # hours before the last is scored
    if jsonl is not None:
        check_records(jsonl, [record.number for record in records])
    borrowed = borrow_questions(
        {video: [one.question for one in members] for video, members in present.items() if members},
        seed=seed,
    )
    scored: dict[int, ScoredQuestion] = {}
    stand_ins: dict[int, ScoredQuestion] = {}
    engine: dict[str, Any] = {}
    for number, (video, members) in enumerate(by_video.items(), start=1):
        on_video(number, len(by_video))
        lent = borrowed.get(video, [])
        texts = [record.question for record in members]
        try:
            # Both together, so that decoding and encoding are paid once a video.
            result, answers = score_texts(scorer, media_root / video, texts + lent, OPTIONS)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{media_root / video}: {error}") from error
        engine = result.engine  # the same for every video
        _require_counted_frames(result)
        for record in members:
            _add(scored, record, answers[record.question], result)
        for record, text in zip(present[video] if lent else (), lent, strict=True):
            _add(stand_ins, record, answers[text], result)
        if jsonl is not None:
            made = [make_record(result, answers[r.question], doc_id=r.number) for r in members]
            append_records(jsonl, made)
    return ScoredRecords(
        questions=dict(sorted(scored.items())),
        stand_ins=dict(sorted(stand_ins.items())),
        num_left_out=len(records) - len(scored),
        engine=engine,
    )


def score_texts(
    scorer: Scorer, video: Path, texts: Iterable[str], options: ScoreOptions
) -> tuple[ScoreResult, dict[str, QueryResult]]:
    """Score a video for each different text, in as few requests as may be.

    Returns:
        One result, whose frames are those of all, since sampling does not look at the questions;
        and the answer to each text.
    """
    # A dict and not a set: requests are the same in every run.
    different = iter(dict.fromkeys(texts))
    answers: dict[str, QueryResult] = {}
    while batch := list(islice(different, Limits().max_queries)):
        result = scorer.score(video, batch, options)
        answers.update(zip(batch, result.queries, strict=True))
    return result, answers


def counted_frames(num_source_frames: int, fps: float) -> NDArray[np.int64]:
    """Return the frames of a video that `frame_num` counts, as int64 (T,) source ordinals."""
    return sample_frames(
        num_source_frames,
        fps,
        sampling=OPTIONS.sampling,
        sample_fps=OPTIONS.sample_fps,
        num_frames=Limits().max_num_frames,
    )


def _require_counted_frames(result: ScoreResult) -> None:
    """Refuse to read labels as places in a list of other frames than those they count."""
    counted = counted_frames(result.num_source_frames, result.fps)
    if not np.array_equal(result.frame_indices, counted):
        raise UnsupportedError(
            f"{result.video}: the frames scored by the family {result.engine.get('family')} are "
            "not those that the records' frame_num counts (rule A at 1 frame a second, "
            f"{len(counted)} frames of this video; got {len(result.frame_indices)}), so its "
            "labels cannot be read; eval measures families that sample so"
        )


def _add(
    target: dict[int, ScoredQuestion],
    record: GroundingRecord,
    answer: QueryResult,
    result: ScoreResult,
) -> None:
    labels = record.labels(len(result.frame_indices))
    if labels is None:
        return
    target[record.number] = ScoredQuestion(
        video=record.video,
        type=record.type,
        question=answer.query,
        labels=labels,
        frame_logits=answer.frame_logits,
        pts_seconds=result.pts_seconds,
        duration_seconds=result.duration_seconds,
    )
