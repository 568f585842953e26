"""The procedure that ours is timed against computes what the reference recorded."""

import pytest

from benchmarks._reference import ReferenceProcedure
from benchmarks.gpu.models import relative_error
from groundserve.scoring.gate import TOLERANCES
from tests.support.reference import ALL_CASES

# One of each video and checkpoint.
CASES = list(
    {
        case.label: case
        for case in ALL_CASES
        if case.sampling == "eval" and case.video in ("carphone_pristine", "rotated")
        if len(case.frame_indices) <= 8
    }.values()
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_it_scores_as_the_reference_did(clips, case):
    pytest.importorskip("decord")  # has wheels for x86-64 alone
    procedure = ReferenceProcedure(case.checkpoint)
    found = procedure.score(
        clips[case.video], case.query, num_frames=case.num_frames, sample_fps=case.sample_fps
    )
    assert found.frame_indices.tolist() == case.frame_indices
    assert relative_error(found.frame_logits, case.logits) <= TOLERANCES["fp32"].logit_error
    assert list(found.timing_ms) == ["decode", "preprocess", "encode", "ground"]
