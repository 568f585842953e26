"""Scoring of records, with a fake instead of a model."""

from dataclasses import replace

import numpy as np
import pytest

from groundserve.errors import UnsupportedError
from groundserve.evaluation.grounding_records import GroundingRecord
from groundserve.evaluation.scored_records import score_records
from groundserve.results import build_score_result
from tests.support.results import make_info


class FakeScorer:
    """Scores T frames at 1 per second; frame i of question q gets its length + i."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self.requests: list[tuple[str, list[str]]] = []

    def score(self, video, queries, options):
        assert (options.sampling, options.sample_fps, options.num_frames) == ("infer", 1.0, 1024)
        self.requests.append((video.name, list(queries)))
        places = np.arange(self.num_frames)
        frame_logits = np.array([[len(query) + i for i in places] for query in queries], np.float32)
        pts_seconds = places.astype(np.float64)
        return build_score_result(
            queries,
            video=str(video),
            info=make_info(
                num_source_frames=self.num_frames,
                duration_seconds=float(self.num_frames),
                engine={"profile": "fake"},
            ),
            frame_indices=places,
            pts_seconds=pts_seconds,
            frame_logits=frame_logits,
            frame_scores=frame_logits,
            selected_frames=places[None].repeat(len(queries), 0),
            span_threshold=0.5,
            span_gap_seconds=0.0,
        )


def make_records(tmp_path, *, questions, positive=(0,)):
    """Records of videos a.mp4, b.mp4, ... in turn, so that no two neighbours share a video."""
    records = []
    for text in questions:
        for name in "ab":
            (tmp_path / f"{name}.mp4").touch()
            records.append(
                GroundingRecord(
                    number=len(records),
                    video=f"{name}.mp4",
                    question=f"{name}: {text}",
                    positive_frames=positive,
                    type="semantic",
                )
            )
    return records


def test_each_question_gets_its_own_logits_and_a_stand_in_of_another_video(tmp_path):
    records = make_records(tmp_path, questions=["1", "22", "333"])
    scored = score_records(FakeScorer(4), records, media_root=tmp_path, seed=0)
    for question in [*scored.questions.values(), *scored.stand_ins.values()]:
        assert question.frame_logits.tolist() == [len(question.question) + i for i in range(4)]
    for question, stand_in in zip(scored.present.values(), scored.stand_ins.values(), strict=True):
        assert stand_in.video == question.video
        assert stand_in.labels.tolist() == question.labels.tolist()
        assert stand_in.question[0] != question.question[0]


def test_records_past_the_end_of_their_video_are_left_out_with_their_stand_ins(tmp_path):
    records = make_records(tmp_path, questions=["1", "2"])
    records[1] = replace(records[1], positive_frames=(4,))
    records[2] = replace(records[2], positive_frames=())
    scored = score_records(FakeScorer(4), records, media_root=tmp_path, seed=0)
    assert scored.num_left_out == 1
    assert [question.question for question in scored.questions.values()] == ["a: 1", "a: 2", "b: 2"]
    assert [question.question for question in scored.present.values()] == ["a: 1", "b: 2"]
    assert len(scored.stand_ins) == 2


def test_other_frames_than_the_labels_count_are_refused(tmp_path):
    class TwoASecond(FakeScorer):
        def score(self, video, queries, options):
            result = super().score(video, queries, options)
            return replace(result, info=replace(result.info, fps=2.0, engine={"family": "toy"}))

    records = make_records(tmp_path, questions=["1"])
    with pytest.raises(UnsupportedError, match=r"family toy are not .* 2 frames .*; got 4\)"):
        score_records(TwoASecond(4), records, media_root=tmp_path, seed=0)
