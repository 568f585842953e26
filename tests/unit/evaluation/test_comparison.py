from dataclasses import replace

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.comparison import make_comparison
from groundserve.evaluation.report import ScoredQuestion
from groundserve.evaluation.scored_records import ScoredRecords

NUM_VIDEOS, NUM_FRAMES, TOP_K = 30, 12, 3
TYPES = ("semantic", "motion", "absent")


def score(*, noise, seed=0, shuffled_seed=90):
    """What a model makes of three questions about each video: the truth, and noise of its own."""
    truth = np.random.default_rng(7)
    rng = np.random.default_rng(seed)
    questions, stand_ins = {}, {}
    for number in range(len(TYPES) * NUM_VIDEOS):
        kind = TYPES[number % len(TYPES)]
        labels = truth.random(NUM_FRAMES) < 0.3
        labels[:2] = True, False
        if kind == "absent":
            labels[:] = False
        one = ScoredQuestion(
            video=f"{number // len(TYPES)}.mp4",
            type=kind,
            question=f"question {number}",
            labels=labels,
            frame_logits=(4.0 * labels - 2 + noise * rng.normal(size=NUM_FRAMES)).astype("f"),
            pts_seconds=np.arange(NUM_FRAMES, dtype=np.float64),
            duration_seconds=float(NUM_FRAMES),
        )
        questions[number] = one
        if kind != "absent":
            lent = np.random.default_rng([shuffled_seed, number]).normal(size=NUM_FRAMES)
            stand_ins[number] = replace(one, question="lent", frame_logits=lent.astype("f"))
    return ScoredRecords(
        questions=questions, stand_ins=stand_ins, num_left_out=0, engine={"noise": noise}
    )


GOOD, BAD = score(noise=0.5, seed=1), score(noise=6, seed=2)


def without(scored, *numbers):
    return replace(
        scored,
        questions={n: one for n, one in scored.questions.items() if n not in numbers},
        stand_ins={n: one for n, one in scored.stand_ins.items() if n not in numbers},
        num_left_out=len(numbers),
    )


def test_what_one_model_lacks_is_left_out_for_both():
    """Neither side gains by not being asked what the other one had to answer."""
    whole = make_comparison(without(GOOD, 0, 4), without(BAD, 0, 4), top_k=TOP_K)
    parts = make_comparison(without(GOOD, 0), without(BAD, 4), top_k=TOP_K)
    assert (parts.num_paired, parts.num_unpaired) == (len(GOOD.questions) - 2, 2)
    assert parts.overall == whole.overall
    assert parts.by_type == whole.by_type


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new": without(GOOD, *GOOD.questions)}, "no question in common"),
        (
            {"new": replace(GOOD, questions={1: GOOD.questions[0]})},
            r"record 1 asks 'question 0' of 0\.mp4 in one and 'question 1'",
        ),
        (
            {"new": replace(GOOD, stand_ins={0: replace(GOOD.stand_ins[0], question="another's")})},
            r"record 0 asks \"another's\" of .* the same seed",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    with pytest.raises(InvalidRequestError, match=message):
        make_comparison(**{"new": GOOD, "baseline": BAD, "top_k": TOP_K, **change})
