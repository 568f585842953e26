"""When a comparison means nothing, and what becomes of pairs."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import vs_reference
from benchmarks._machine import Peaks
from benchmarks._reference import Answer
from benchmarks._usage import Usage
from benchmarks.vs_reference import SECOND_QUESTION, WORKLOADS
from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.support.reference import REPOSITORY

BY_RATIO = {workload.ratio: workload for workload in WORKLOADS}
COLD = BY_RATIO["cold_gop12"]
PEAKS = Peaks(
    sgemm_gflops=100.0,
    sgemm_gflops_by_library={"torch": 50.0, "onnxruntime": 100.0},
    int8_gemm_gops=400.0,
    copy_gb_per_second=10.0,
)
SETTINGS = {"cpu_model": "one", "queries": ["a", "b"]}


def answer(frames=(1, 5, 9), logits=(0.5, -1.0, 2.0), wall=2.0):
    return Answer(
        frame_indices=np.array(frames),
        frame_logits=np.array(logits, np.float32),
        timing_ms={"encode": wall * 500, "ground": wall * 100},
        usage=Usage(wall_seconds=wall, cpu_seconds=2 * wall, peak_rss_mib=10.0),
    )


def make_run(out):
    return vs_reference.Run(
        checkpoint=Checkpoint.open(REPOSITORY / "tests" / "fixtures" / "seeded"),
        engines={"in_process": Path("engines")},
        warm_up=Path("warm.mp4"),
        videos=dict.fromkeys(BY_RATIO, Path("video.mp4")),
        peaks=PEAKS,
        settings=SETTINGS,
        inputs=[],
        out=out,
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (answer(frames=(1, 5, 8)), "sampled other frames"),
        (answer(logits=(0.5, -1.0, 2.1)), "logits differ by"),
        (answer(logits=(0.5, -1.0, np.nan)), "logits differ by nan"),
    ],
)
def test_other_frames_and_other_logits_stop_an_exact_run(other, message):
    with pytest.raises(RuntimeError, match=f"cold_gop12.*{message}"):
        vs_reference.logit_error(answer(), other, COLD)


def test_keyframes_and_8_bits_may_differ():
    trade = BY_RATIO["int8_keyframes_gop250"]
    assert vs_reference.logit_error(answer(), answer(frames=(0, 5, 8)), trade) is None
    assert vs_reference.logit_error(answer(), answer(logits=(1.0, -1.0, 2.0)), trade) > 0.1


def test_pairs_change_places(tmp_path, monkeypatch):
    asked = []

    def run_side(name, place, warm_up, asks):
        asked.append((name, len(asks)))
        return [answer(wall=6.0 if name == "reference" else 2.0) for _ in asks]

    monkeypatch.setattr(vs_reference, "run_side", run_side)
    out = tmp_path / "new" / "out.json"
    run = make_run(out)
    run.measure(COLD)
    run.measure(COLD)
    assert asked == [("reference", 2), ("in_process", 2), ("in_process", 2), ("reference", 2)]
    report = json.loads(out.read_text())
    ratios = report["results"]["ratios"]
    assert set(ratios) == {COLD.ratio, SECOND_QUESTION}
    assert ratios[COLD.ratio]["pairs"] == [3.0, 3.0]
    second = ratios[SECOND_QUESTION]
    # A repeated question needs no vision.
    assert 0 < second["floor_seconds"] < ratios[COLD.ratio]["floor_seconds"]
