"""The procedure that ours is timed against computes what the reference recorded."""

import platform
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks._reference import ReferenceProcedure
from benchmarks.gpu.models import relative_error
from groundserve.frames import read_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
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


class Reader:
    """What the procedure calls of decord, by our own decoder, whose pixels are decord's."""

    def __init__(self, path, ctx, num_threads=0):
        limits = Limits()
        with (
            VideoSource.from_path(path, limits=limits) as source,
            MediaWorkers(limits=limits) as workers,
            workers.open(source, deadline=Deadline.after(60)) as video,
        ):
            self.index = video.index
        self.path = path

    def __len__(self):
        return self.index.num_source_frames

    def get_avg_fps(self):
        return self.index.average_fps

    def get_batch(self, indices):
        frames = read_frames(self.path, indices)
        return SimpleNamespace(asnumpy=lambda: frames)


def stand_in_for_decord(reader):
    return SimpleNamespace(VideoReader=reader, cpu=lambda number: number, DECORDError=RuntimeError)


# decord has wheels for this processor alone.
HAS_DECORD = platform.machine() == "x86_64"


@pytest.fixture(params=["ours in its place", *(["decord"] if HAS_DECORD else [])])
def decord(request, monkeypatch):
    if request.param != "decord":
        monkeypatch.setitem(sys.modules, "decord", stand_in_for_decord(Reader))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_it_scores_as_the_reference_did(decord, clips, case):
    procedure = ReferenceProcedure(case.checkpoint)
    found = procedure.score(
        clips[case.video], case.query, num_frames=case.num_frames, sample_fps=case.sample_fps
    )
    assert found.frame_indices.tolist() == case.frame_indices
    assert relative_error(found.frame_logits, case.logits) <= TOLERANCES["fp32"].logit_error
    assert list(found.timing_ms) == ["decode", "preprocess", "encode", "ground"]
    # With the features kept, nothing but grounding is done again.
    again = procedure.score_again(case.query)
    np.testing.assert_array_equal(again.frame_logits, found.frame_logits)
    assert list(again.timing_ms) == ["ground"]
